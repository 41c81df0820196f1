"""Pseudo masks from a semantic map and the masks of all positive samples.

Pure functions; `self_correction_loss.py` holds settings and state. K samples, N objects of the
batch. Objects without a sample get empty maps.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from boxmask.ops.boxes import paired_iou
from boxmask.ops.color_model import scores_by_colors
from boxmask.ops.groups import shares_within
from boxmask.ops.guided_filter import color_guide, guided_filter
from boxmask.ops.masks import sample_at_stride
from boxmask.ops.order import value_at_rank
from boxmask.structures import Batch

NARROWEST = 4
"""Shorter side of a box, in radii of the filter, below which the filter melts objects away."""


@dataclass(frozen=True, kw_only=True)
class PseudoMaskSettings:
    """How pseudo masks are made.

    Attributes:
        sharpness: mu, how much a sample whose predicted box fits outweighs the others. Paper: 5.
            The published code has 0, which is the plain mean.
        instance_share: alpha, share of the instance mask in the fusion, in 0..1. Paper: 0.5.
        temperature: tau of the semantic map. Paper: 0.1.
        confident: score of the instance mask, in 0..1, whose cells are counted to rank the fused
            ones. Published code: 0.7.
        lowest_high: least threshold of foreground, in 0..1. Published code: 0.6 in the 1x
            schedule, 0.7 in the 3x schedule.
        highest_high: largest threshold of foreground, in 0..1. Published code: 0.7 and 0.8.
        low: threshold below which a cell is background, in 0..1. Published code: 0.4.
        colors: ask each cell whether it has the colours of the object or those outside all boxes,
            see `ops/color_model.py`. Paper and code do not.
        refine_radius: cells from the middle to the side of the windows in which the fused mask is
            drawn to borders of colours, see `ops/guided_filter.py`; 0 leaves it as it is, and
            objects narrower than four radii stay as they are. Paper and code: 0.
        refine_smoothness: epsilon of that filter, for colours in 0..1.
        refine_least: share of a border, at most 1, that colours must explain, see
            `guided_filter`; the masks of other objects, which hide in colour, stay as they
            are.
        exclusive: a cell in several boxes of a class belongs to one object, see `ops/owners.py`.
            Paper and code let objects share cells.
        open_share: share, in 0..1, of the largest score of a row or column that lacks foreground
            from which its cells are ignored, see `open_cells`. Paper and code ignore none.
    """

    sharpness: float = 5.0
    instance_share: float = 0.5
    temperature: float = 0.1
    confident: float = 0.7
    lowest_high: float = 0.6
    highest_high: float = 0.7
    low: float = 0.4
    colors: bool = True
    refine_radius: int = 2
    refine_smoothness: float = 1e-5
    refine_least: float = 0.35
    exclusive: bool = True
    open_share: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.lowest_high <= self.highest_high <= 1:
            raise ValueError(
                "low, lowest_high, highest_high: expected 0 <= low <= lowest_high <= highest_high "
                f"<= 1, got {self.low}, {self.lowest_high}, {self.highest_high}"
            )
        if self.refine_radius < 0 or self.refine_smoothness <= 0:
            raise ValueError(
                "refine_radius, refine_smoothness: expected at least 0 and more than 0, got "
                f"{self.refine_radius}, {self.refine_smoothness}"
            )


@dataclass(frozen=True, kw_only=True)
class PseudoMasks:
    """Pseudo masks of N objects.

    Attributes:
        foreground: (N, h, w) bool.
        certain: (N, h, w) bool, cells that are foreground or background; others are ignored.
        scores: (N, h, w) in 0..1, what they were cut from: fused and, if so set, asked for colours
            and refined.
    """

    foreground: Tensor
    certain: Tensor
    scores: Tensor


def positive_weights(
    predicted_boxes: Tensor,
    boxes: Tensor,
    instance_index: Tensor,
    num_instances: int,
    *,
    sharpness: float,
) -> Tensor:
    """Weights of samples by the fit of their predicted boxes; they sum to 1 within an object.

    Args:
        predicted_boxes: (K, 4).
        boxes: (K, 4) given box of each sample's object.
        instance_index: (K,) object of each sample.
        num_instances: N.
        sharpness: mu; 0 weighs all samples alike.

    Returns:
        (K,) exp(mu IoU), normalised.

    Source: SIM (CVPR 2023), equation 6. The published code has the plain mean instead.
    """
    raw = torch.exp(sharpness * (paired_iou(predicted_boxes, boxes) - 1))
    return shares_within(raw, instance_index, num_instances)


def weighted_masks(
    scores: Tensor, weights: Tensor, instance_index: Tensor, num_instances: int
) -> tuple[Tensor, Tensor]:
    """Joins the masks of all samples of each object.

    Args:
        scores: (K, h, w) in 0..1.
        weights: (K,) which sum to 1 within an object.
        instance_index: (K,) object of each sample.
        num_instances: N.

    Returns:
        (N, h, w) in 0..1, and (N,) bool, which objects have a sample.
    """
    joined = scores.new_zeros((num_instances, *scores.shape[1:]))
    joined.index_add_(0, instance_index, scores * weights[:, None, None])
    known = torch.zeros(num_instances, dtype=torch.bool, device=scores.device)
    known[instance_index] = True
    return joined, known


def fuse(semantic: Tensor, instance: Tensor, seen: Tensor, settings: PseudoMaskSettings) -> Tensor:
    """Mixes the semantic map of each object's class with its instance mask.

    Args:
        semantic: (N, h, w) cosines to the nearest prototype.
        instance: (N, h, w) in 0..1.
        seen: (N,) bool, whose class has prototypes; others keep their instance mask.
        settings: temperature and share.

    Returns:
        (N, h, w) in 0..1.

    Source: SIM (CVPR 2023), equations 1 and 7.
    """
    share = torch.where(seen, settings.instance_share, 1.0)[:, None, None]
    probability = torch.sigmoid(semantic / settings.temperature)
    return (1 - share) * probability + share * instance


def ask_colors(
    fused: Tensor,
    own: Tensor,
    outside: Tensor,
    image_index: Tensor,
    lab: Tensor,
    batch: Batch,
) -> Tensor:
    """Asks each cell for its colours: those of the object, or those outside all boxes?

    Args:
        fused: (N, h, w) in 0..1.
        own: (N, h, w) bool, cells that may be foreground.
        outside: (B, h, w) bool, cells outside all boxes.
        image_index: (N,) image of each object.
        lab: (B, 3, h, w) CIE-LAB colours of the cells.
        batch: the images, and the N boxes.

    Returns:
        (N, h, w) in 0..1, see `scores_by_colors`.
    """
    cell = batch.images.shape[-1] // fused.shape[-1]
    boxes = torch.cat([one.boxes for one in batch.targets]) / cell
    return scores_by_colors(fused, lab, image_index, boxes, own, outside)


def refine(
    fused: Tensor,
    own: Tensor,
    image_index: Tensor,
    batch: Batch,
    settings: PseudoMaskSettings,
) -> Tensor:
    """Draws the borders of fused masks to borders of colours.

    The mask at one half is filtered, not the scores: those of a network say how sure it is, not
    how near the border is.

    Args:
        fused: (N, h, w) in 0..1.
        own: (N, h, w) bool, cells that may be foreground.
        image_index: (N,) image of each object.
        batch: the images, and the N boxes.
        settings: of the filter.

    Returns:
        (N, h, w) in 0..1; near one half where colours do not tell on which side a cell is. The
        fused scores of objects that hide in colour or are narrow.
    """
    stride = batch.images.shape[-1] // fused.shape[-1]
    guide = color_guide(
        F.avg_pool2d(batch.images.float(), stride),
        sample_at_stride(batch.valid, stride),
        radius=settings.refine_radius,
        smoothness=settings.refine_smoothness,
    )
    mask = ((fused > 0.5) & own).to(fused.dtype)
    refined, explained = guided_filter(mask, image_index, guide)
    shown = explained >= settings.refine_least
    boxes = torch.cat([one.boxes for one in batch.targets])
    across = (boxes[:, 2:] - boxes[:, :2]).amin(dim=1) / stride  # (N,) cells
    shown &= across >= NARROWEST * settings.refine_radius
    return torch.where(shown[:, None, None], refined, fused)


def adaptive_thresholds(
    fused: Tensor, instance: Tensor, inside: Tensor, settings: PseudoMaskSettings
) -> Tensor:
    """Threshold of each object that keeps as many cells as its instance mask is sure of.

    With n confident cells in the box, it is the (n + 1)-th largest fused value in the box (0
    where there are no more), clamped.

    Args:
        fused: (N, h, w) in 0..1.
        instance: (N, h, w) in 0..1.
        inside: (N, h, w) bool, cells of the boxes.
        settings: confidence and clamp.

    Returns:
        (N,) thresholds.

    Source: published SIM code.
    """
    confident = ((instance > settings.confident) & inside).flatten(1).sum(dim=1)  # (N,)
    values = torch.where(inside, fused, 0.0).flatten(1)  # (N, h * w)
    rank = confident.clamp(max=values.shape[1] - 1)
    threshold = value_at_rank(values, rank, settings.lowest_high)
    return threshold.clamp(max=settings.highest_high)


def pseudo_masks(
    scores: Tensor,
    instance: Tensor,
    inside: Tensor,
    claimed: Tensor,
    settings: PseudoMaskSettings,
) -> PseudoMasks:
    """Cuts fused maps into foreground, background and ignored cells; see the parts above.

    What another object has claimed, (N, h, w) bool, is background.
    """
    own = inside & ~claimed
    high = adaptive_thresholds(scores, instance, own, settings)[:, None, None]
    foreground = (scores > high) & own
    background = ((scores < settings.low) | claimed) & inside
    if settings.open_share is not None:
        background &= ~open_cells(torch.where(own, scores, 0.0), foreground, settings.open_share)
    return PseudoMasks(foreground=foreground, certain=foreground | background, scores=scores)


def open_cells(scores: Tensor, foreground: Tensor, share: float) -> Tensor:
    """Cells that may be the missing foreground of their row or column.

    An object touches all four sides of its box, so each row and column of the box has foreground.
    Where a mask has none, its surest cells are not background for certain. Where others hide an
    object's ends, they may well be; they are left open all the same.

    Args:
        scores: (N, h, w) in 0..1; 0 in cells that are not the object's.
        foreground: (N, h, w) bool.
        share: of the row's or column's largest score, in 0..1, from which a cell counts.

    Returns:
        (N, h, w) bool.
    """
    found = torch.zeros_like(foreground)
    for axis in (1, 2):
        lacking = ~foreground.any(dim=axis, keepdim=True)
        surest = scores.amax(dim=axis, keepdim=True)
        found |= lacking & (scores >= share * surest) & (scores > 0)
    return found
