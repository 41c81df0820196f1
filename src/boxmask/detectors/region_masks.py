"""Regions of interest: pooled from a pyramid, and their masks put back into the picture."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

from boxmask.ops.boxes import TINY

# Strides of the maps that regions are pooled from, P2 to P5.
REGION_STRIDES = (4, 8, 16, 32)
# The level that regions of canonical size are pooled from is P4.
CANONICAL_LEVEL = REGION_STRIDES.index(16)
# Points along each side of a cell of a pooled region.
SAMPLING_RATIO = 2


def pool_regions(
    levels: Sequence[Tensor],
    regions: Tensor,
    image_index: Tensor,
    *,
    cells: int,
    canonical_size: float,
) -> Tensor:
    """Features of regions, each from the level of the pyramid that suits its size.

    Unlike torchvision's `MultiScaleRoIAlign`, cells are aligned to the half pixel, and features
    come in float32 whatever the maps are.

    Args:
        levels: P2 to P5, each (B, C, h, w); further ones are not read.
        regions: (R, 4) in input pixels.
        image_index: (R,) int64 image of each region.
        cells: cells along each side of a pooled region.
        canonical_size: see `region_levels`.

    Returns:
        (R, C, cells, cells); empty with a graph for R = 0.

    Source: Mask R-CNN (ICCV 2017), RoIAlign; FPN (CVPR 2017), equation 1.
    """
    rows = torch.cat([image_index[:, None].to(regions.dtype), regions], dim=1)  # (R, 5)
    level_of = region_levels(regions, canonical_size)
    chosen, pooled = [], []
    for level, stride in enumerate(REGION_STRIDES):
        here = (level_of == level).nonzero().squeeze(-1)
        maps = levels[level].float()
        chosen.append(here)
        pooled.append(roi_align(maps, rows[here], cells, 1 / stride, SAMPLING_RATIO, aligned=True))
    return torch.cat(pooled)[torch.cat(chosen).argsort()]


def region_levels(regions: Tensor, canonical_size: float) -> Tensor:
    """The level each region is pooled from, as a place in `REGION_STRIDES`.

    Args:
        regions: (R, 4) in input pixels.
        canonical_size: side in input pixels from which a square region is pooled from P4; at
            twice and at half of it the level changes. Published: 224.

    Returns:
        (R,) int64.

    Source: FPN (CVPR 2017), equation 1.
    """
    sides = (regions[:, 2:] - regions[:, :2]).clamp(min=TINY)
    octaves = torch.log2(sides.prod(dim=-1).sqrt() / canonical_size)
    level = CANONICAL_LEVEL + (octaves + TINY).floor()
    return level.clamp(0, len(REGION_STRIDES) - 1).long()


def enlarge_regions(boxes: Tensor, factor: float, margin: float, limits: Tensor) -> Tensor:
    """Regions around boxes, so that masks have background on all sides.

    Args:
        boxes: (N, 4) in input pixels.
        factor: side of the region in sides of the box, >= 1.
        margin: least distance from a side of the box to that of the region, in input pixels.
        limits: (N, 2) width and height of each picture without padding: regions end there.

    Returns:
        (N, 4) in input pixels.
    """
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    sides = boxes[:, 2:] - boxes[:, :2]
    half = torch.maximum(sides * factor, sides + 2 * margin) / 2
    regions = torch.cat([centers - half, centers + half], dim=-1)
    return regions.clamp(min=0).minimum(limits.repeat(1, 2))


def place_masks(
    logits: Tensor, regions: Tensor, size: tuple[int, int], stride: int, outside: float
) -> Tensor:
    """Masks of regions on the grid of the whole picture, bilinearly.

    A cell of the picture lies in a region when its centre does. Beyond the centres of the outer
    cells of a region their values go on to its end.

    Args:
        logits: (K, m, n) at the cells of `regions`.
        regions: (K, 4) in input pixels.
        size: height and width of the grid, in cells.
        stride: input pixels along a side of a cell of the grid.
        outside: logit of the cells outside the region.

    Returns:
        (K, *size).
    """
    rows, in_rows = _interpolation(regions[:, 1::2], logits.shape[1], size[0], stride)
    columns, in_columns = _interpolation(regions[:, 0::2], logits.shape[2], size[1], stride)
    placed = rows @ logits @ columns.transpose(1, 2)  # (K, h, w)
    inside = in_rows[:, :, None] & in_columns[:, None, :]
    return torch.where(inside, placed, outside)


def _interpolation(ends: Tensor, cells: int, length: int, stride: int) -> tuple[Tensor, Tensor]:
    """Linear interpolation along one axis.

    Args:
        ends: (K, 2) where each region starts and ends, in input pixels.
        cells: cells m of a region.
        length: cells h of the grid.
        stride: input pixels of a cell of the grid.

    Returns:
        (K, h, m) weights that sum to 1 over m, and (K, h) bool, which centres lie in the region.
    """
    low, high = ends[:, :1], ends[:, 1:]
    centers = (torch.arange(length, device=ends.device) + 0.5) * stride  # (h,)
    places = (centers - low) / (high - low).clamp(min=TINY) * cells - 0.5  # (K, h)
    places = places.clamp(0, cells - 1)
    distances = (places[:, :, None] - torch.arange(cells, device=ends.device)).abs()  # (K, h, m)
    return (1 - distances).clamp(min=0), (centers >= low) & (centers < high)
