"""Where the published BoxInst and SIM code does something else than the package, and why.

These rules are kept for one purpose: to show that everything else is equal. Nothing that trains or
labels uses them. K mask samples, B images, L prototypes of a class, D channels, h w mask cells.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from boxmask.box_supervision.self_correction import PseudoMaskSettings
from boxmask.ops.affinity import NEIGHBORS, lab_at_stride, neighbor_distances, shifted
from boxmask.ops.masks import sample_at_stride

FOCAL_ALPHA = 0.25
PAIRWISE_RAMP = 10_000  # iterations until the pairwise term has its full weight
PSEUDO_WARMUP = 10_000  # iterations without the pseudo mask loss
PSEUDO_RAMP = 270_000  # iterations until the pseudo mask loss has its full weight
PSEUDO_WEIGHT = 0.3  # that full weight; the paper has 0.5
# The plain mean over samples, no temperature, and the thresholds of the 3x schedule.
PSEUDO_MASKS = PseudoMaskSettings(
    sharpness=0.0, temperature=1.0, lowest_high=0.7, highest_high=0.8, low=0.4
)


def drawn_boxes(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Boxes as filled masks, (N, H, W) bool, from the first to past the last whole number.

    Corners are cut to whole numbers and the ends count as inside, so a box of whole numbers grows
    by one row and one column. Ours marks the pixels whose centres lie in the box.
    """
    drawn = torch.zeros((len(boxes), *image_size), dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(drawn, boxes.clamp(min=0).tolist(), strict=True):
        mask[int(y1) : int(y2 + 1), int(x1) : int(x2 + 1)] = True
    return drawn


def box_masks(boxes: Tensor, image_size: tuple[int, int], stride: int) -> Tensor:
    """Boxes drawn at full size, then every `stride`-th pixel: (K, h, w) bool.

    A box thinner than the stride can vanish here and then teaches an empty mask. Ours marks the
    cells whose centres lie in the box, at least one.
    """
    return sample_at_stride(drawn_boxes(boxes, image_size), stride)


def valid_neighbors(valid: Tensor, dilation: int) -> Tensor:
    """Whether the neighbour counts, whatever the cell itself: (B, h, w) to (B, 8, h, w) bool.

    Edges that start where nothing counts (padding, the bottom rows of COCO pictures) then still
    teach. Ours asks both ends.
    """
    views = [shifted(valid, (dy * dilation, dx * dilation)) for dy, dx in NEIGHBORS]
    return torch.stack(views, dim=1)


def color_similarity(images: Tensor, valid: Tensor, stride: int, dilation: int) -> Tensor:
    """Likeness of colours that were cut to whole grey levels, with one-sided validity.

    Args:
        images: (B, 3, H, W) RGB in 0..1.
        valid: (B, H, W) bool.
        stride: pixels of a cell.
        dilation: cells from a cell to its neighbours.

    Returns:
        (B, 8, h, w) in 0..1.
    """
    lab = lab_at_stride(images, stride, truncate=True)
    similarity = torch.exp(-neighbor_distances(lab, dilation) / 2)
    return similarity * valid_neighbors(sample_at_stride(valid, stride), dilation)


def edge_losses(logits: Tensor, dilation: int) -> Tensor:
    """-log P(same) of every cell with each of its 8 neighbours, (K, 8, h, w), by log-sigmoids.

    A neighbour outside the map counts as a certain background and foreground at once, log 1 for
    both, because the published code unfolds log-probabilities with zeros around them. Ours has no
    edges that leave the map, and a closed form for the others.
    """
    foreground, background = F.logsigmoid(logits), F.logsigmoid(-logits)
    losses = []
    for dy, dx in NEIGHBORS:
        offset = (dy * dilation, dx * dilation)
        same_foreground = foreground + shifted(foreground, offset)
        same_background = background + shifted(background, offset)
        losses.append(-torch.logaddexp(same_foreground, same_background))
    return torch.stack(losses, dim=1)


def pairwise_ramp(iteration: int) -> float:
    """Weight of the pairwise term, in 0..1."""
    return min(iteration / PAIRWISE_RAMP, 1.0)


def double_sigmoid_focal_loss(scores: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Focal loss of scores that a second sigmoid is laid over in the cross-entropy.

    For a score p (after the sigmoid) and its target t,

        focal(p, t) = a (1 - q)^2 BCE(sigmoid(p), t),  a = t / 4 + 3 (1 - t) / 4,
        q = p t + (1 - p) (1 - t),

    and the loss is sum(weight * focal) / (sum(weight) + 1). The cross-entropy expects logits and
    gets scores: with t = 1 it runs from 0.693 at p = 0 to 0.313 at p = 1 and is never 0. Ours
    takes logits, once: `boxmask.ops.certain_masks.certain_mask_distances`.

    Args:
        scores: in 0..1, any shape.
        targets: in 0..1, the same shape.
        weight: at least 0, the same shape.
    """
    entropy = F.binary_cross_entropy_with_logits(scores, targets, reduction="none")
    agreement = scores * targets + (1 - scores) * (1 - targets)
    balance = FOCAL_ALPHA * targets + (1 - FOCAL_ALPHA) * (1 - targets)
    focal = balance * (1 - agreement).square() * entropy
    return (focal * weight).sum() / (weight.sum() + 1)


def pseudo_ramp(iteration: int) -> float:
    """Weight of the pseudo mask loss; ours grows to the end of the run, however long it is."""
    if iteration <= PSEUDO_WARMUP:
        return 0.0
    return PSEUDO_WEIGHT * min(iteration / PSEUDO_RAMP, 1.0)


def half_pixel_upsample(features: Tensor, factor: int) -> Tensor:
    """Bilinear upsampling of mask features, (B, D, h, w), that leaves cell centres unaligned.

    Mask logits are upsampled the aligned way, so features and masks are half a fine cell apart
    there. Ours moves both alike: `boxmask.ops.masks.aligned_upsample`.
    """
    if factor == 1:
        return features
    return F.interpolate(features, scale_factor=factor, mode="bilinear", align_corners=False)


def unit_over_prototypes(prototypes: Tensor) -> Tensor:
    """Prototypes (classes, L, D) of unit length along the L of a class, not along the channels.

    The helper was written for maps (N, D, h, w), whose channels are the second axis. Ours are unit
    vectors over the channels: `boxmask.prototypes.prototype_bank.PrototypeBank`.
    """
    return F.normalize(prototypes, dim=1)
