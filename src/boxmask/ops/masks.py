"""Masks and boxes, aligned upsampling, pasting at picture size."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def aligned_upsample(maps: Tensor, factor: int) -> Tensor:
    """Bilinear upsampling that keeps coarse cell centres on fine cells.

    Coarse cell i lands exactly on fine cell `factor * i + factor // 2`, which is where masks
    sampled with offset `stride // 2` sit. Plain half-pixel resizing shifts by half a fine cell.

    Args:
        maps: (N, C, h, w).
        factor: how many times larger, >= 1.

    Returns:
        (N, C, factor * h, factor * w).

    Source: CondInst (ECCV 2020), aligned bilinear.
    """
    if factor == 1:
        return maps
    height, width = maps.shape[-2:]
    padded = F.pad(maps, (0, 1, 0, 1), mode="replicate")
    size = (factor * height + 1, factor * width + 1)
    fine = F.interpolate(padded, size=size, mode="bilinear", align_corners=True)
    offset = factor // 2
    fine = F.pad(fine, (offset, 0, offset, 0), mode="replicate")
    return fine[:, :, : factor * height, : factor * width]


def sample_at_stride(maps: Tensor, stride: int) -> Tensor:
    """Every `stride`-th pixel from offset `stride // 2` along both of the last dimensions."""
    return maps[..., stride // 2 :: stride, stride // 2 :: stride]


def paste_mask(
    mask_scores: Tensor,
    frame: Tensor,
    scale: tuple[float, float],
    size: tuple[int, int],
    *,
    threshold: float = 0.5,
) -> Tensor:
    """One mask at the size of the picture.

    Bilinear values never exceed their cells, so only the surroundings of cells above the
    threshold are drawn: exact, and cheap for small objects in large pictures.

    Args:
        mask_scores: (h, w) in 0..1 at the cells of `frame`.
        frame: (4,) region of the network's input that the map covers, in input pixels.
        scale: (x, y) input pixels for each pixel of the picture.
        size: (height, width) of the picture.
        threshold: score above which a pixel is foreground, in 0..1.

    Returns:
        (height, width) bool, on the device of `mask_scores`.
    """
    pasted = mask_scores.new_zeros(size, dtype=torch.bool)
    above = mask_scores > threshold
    if not bool(above.any()):
        return pasted
    x1, y1, x2, y2 = frame.tolist()
    cell = ((x2 - x1) / mask_scores.shape[1], (y2 - y1) / mask_scores.shape[0])
    left, top, right, bottom = boxes_of_masks(above[None])[0].tolist()
    columns = _covered((x1 + (left - 1) * cell[0], x1 + (right + 1) * cell[0]), scale[0], size[1])
    rows = _covered((y1 + (top - 1) * cell[1], y1 + (bottom + 1) * cell[1]), scale[1], size[0])
    device = mask_scores.device
    x = (torch.arange(columns.start, columns.stop, device=device) + 0.5) * scale[0]
    y = (torch.arange(rows.start, rows.stop, device=device) + 0.5) * scale[1]
    grid_y, grid_x = torch.meshgrid(
        (y - y1) / (y2 - y1) * 2 - 1, (x - x1) / (x2 - x1) * 2 - 1, indexing="ij"
    )
    grid = torch.stack([grid_x, grid_y], dim=-1)  # (rows, columns, 2) in -1..1
    drawn = F.grid_sample(
        mask_scores[None, None].float(), grid[None], padding_mode="border", align_corners=False
    )[0, 0]
    inside = (grid.abs() <= 1).all(dim=-1)
    pasted[rows, columns] = (drawn > threshold) & inside
    return pasted


def _covered(span: tuple[float, float], scale: float, length: int) -> slice:
    """Pixels of a picture side of `length` whose centres may lie in a span of input pixels."""
    first = min(max(int(span[0] / scale - 1), 0), length)
    return slice(first, min(max(int(span[1] / scale + 2), first), length))


def mean_foreground_score(mask_scores: Tensor) -> Tensor:
    """Mean of the scores above one half of each (N, h, w) mask: (N,), 0 for an empty one.

    Source: SOLOv2 (NeurIPS 2020), maskness.
    """
    foreground = mask_scores > 0.5
    total = (mask_scores * foreground).sum(dim=(1, 2))
    return total / foreground.sum(dim=(1, 2)).clamp(min=1)


def boxes_of_masks(masks: Tensor) -> Tensor:
    """Tight boxes of masks.

    Args:
        masks: (N, H, W) bool.

    Returns:
        (N, 4) float x1, y1, x2, y2, right and bottom exclusive; all 0 for an empty mask.
    """
    rows, columns = masks.any(dim=-1), masks.any(dim=-2)  # (N, H), (N, W)
    x1, x2 = _extent(columns)
    y1, y2 = _extent(rows)
    return torch.stack([x1, y1, x2, y2], dim=-1).float()


def extent_of_mask(mask: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    """Rows and columns from the first to the last True of an (h, w) mask; None for an empty one.

    For single masks on the host, where `boxes_of_masks` takes several times longer.
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last True of each row of (N, n); zeros where there is none."""
    length = occupied.shape[-1]
    first = occupied.int().argmax(dim=-1)
    last = length - occupied.flip(-1).int().argmax(dim=-1)
    some = occupied.any(dim=-1)
    return first * some, last * some
