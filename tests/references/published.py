"""Where the published BoxInst code does something else than the package, and why.

These rules are kept for one purpose: to show that everything else is equal.
"""

import torch
import torch.nn.functional as F

from boxmask.ops.affinity import NEIGHBORS, lab_at_stride, neighbor_distances, shifted


def box_masks(boxes, image_size, stride):
    """Boxes drawn with whole numbers at full size, then every `stride`-th pixel: (K, h, w) bool.

    A box thinner than the stride can vanish here and then teaches an empty mask. Ours marks the
    cells whose centres lie in the box, at least one.
    """
    drawn = torch.zeros((len(boxes), *image_size), dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(drawn, boxes.tolist(), strict=True):
        mask[int(y1) : int(y2 + 1), int(x1) : int(x2 + 1)] = True
    return drawn[:, stride // 2 :: stride, stride // 2 :: stride]


def valid_neighbors(valid, dilation):
    """Whether the neighbour counts, whatever the cell itself: (B, h, w) to (B, 8, h, w) bool.

    Edges that start where nothing counts (padding, the bottom rows of COCO pictures) then still
    teach. Ours asks both ends.
    """
    views = [shifted(valid, (dy * dilation, dx * dilation)) for dy, dx in NEIGHBORS]
    return torch.stack(views, dim=1)


def color_similarity(images, valid, stride, dilation):
    """Likeness of colours that were cut to whole grey levels, with one-sided validity."""
    lab = lab_at_stride(images, stride, truncate=True)
    similarity = torch.exp(-neighbor_distances(lab, dilation) / 2)
    cells = valid[..., stride // 2 :: stride, stride // 2 :: stride]
    return similarity * valid_neighbors(cells, dilation)


def edge_losses(logits, dilation):
    """-log P(same) of every cell with each of its 8 neighbours, (K, 8, h, w), by log-sigmoids.

    A neighbour outside the map counts as a certain background and foreground at once, log 1 for
    both, because the published code unfolds log-probabilities with zeros around them.
    """
    foreground, background = F.logsigmoid(logits), F.logsigmoid(-logits)
    losses = []
    for dy, dx in NEIGHBORS:
        offset = (dy * dilation, dx * dilation)
        same_foreground = foreground + shifted(foreground, offset)
        same_background = background + shifted(background, offset)
        losses.append(-torch.logaddexp(same_foreground, same_background))
    return torch.stack(losses, dim=1)
