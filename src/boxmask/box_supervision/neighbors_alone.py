"""What boxes and like neighbours make of a picture without a network: for people who look."""

import torch
from torch import Tensor

from boxmask.box_supervision.pairwise_loss import PairwiseLossSettings
from boxmask.box_supervision.projection_loss import projection_distances
from boxmask.ops.affinity import lab_at_stride
from boxmask.ops.masks import boxes_of_masks, sample_at_stride
from boxmask.ops.pairwise import pairwise_sum
from boxmask.ops.ties import tied_neighbors
from boxmask.structures import Batch

PAIRWISE = PairwiseLossSettings()  # colours alone
STEPS, RATE = 100, 0.3  # twice as many at a third of the rate end at the same masks
CERTAIN = 2.0  # largest logit at the start, in the middle of a box
OUTSIDE = -4.0  # logit outside boxes at the start


@torch.enable_grad()
def masks_of_neighbors(batch: Batch, inside: Tensor, image_index: Tensor) -> Tensor:
    """Masks that BoxInst's two terms prefer where no network has a say.

    Each cell's logit is free. From an ellipse in the box, gradient descent on the sum of
    projection and pairwise term finds what they ask for: to touch all sides of the box, and one
    label for neighbours of like colours. So it shows what the pairwise term knows of an object,
    and where it goes wrong: neighbours of like colour and another meaning.

    Args:
        batch: the pictures.
        inside: (N, h, w) bool, cells of each object's box.
        image_index: (N,) picture of each.

    Returns:
        (N, h, w) in 0..1, no graph.

    Source: BoxInst (CVPR 2021), equations 1 and 5; the descent is ours.
    """
    stride = batch.images.shape[-1] // inside.shape[-1]
    valid = sample_at_stride(batch.valid, stride)
    similar = tied_neighbors(
        lab_at_stride(batch.images, stride),
        valid,
        dilation=PAIRWISE.dilation,
        least_similarity=PAIRWISE.color_threshold,
    )
    columns, rows = inside.any(dim=1), inside.any(dim=2)
    logits = _ellipses(inside).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=RATE)
    for _ in range(STEPS):
        total, count = pairwise_sum(
            logits, similar, inside, image_index, dilation=PAIRWISE.dilation
        )
        projection = projection_distances(logits, columns, rows).sum()
        loss = projection + len(inside) * total / count.clamp(min=1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return logits.detach().sigmoid()


def _ellipses(inside: Tensor) -> Tensor:
    """(N, h, w) logits that fall from the middles of boxes to their corners."""
    height, width = inside.shape[-2:]
    x1, y1, x2, y2 = boxes_of_masks(inside).unbind(dim=1)
    across, down = (
        ((torch.arange(length, device=inside.device) + 0.5 - middle[:, None]) / half[:, None])
        .square()
        for length, middle, half in (
            (width, (x1 + x2) / 2, (x2 - x1).clamp(min=1) / 2),
            (height, (y1 + y2) / 2, (y2 - y1).clamp(min=1) / 2),
        )
    )  # fmt: skip
    logits = CERTAIN * (1 - down[:, :, None] - across[:, None, :]).clamp(min=-1)
    return torch.where(inside, logits, OUTSIDE)
