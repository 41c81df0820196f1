"""Masks and boxes, aligned upsampling, pasting at picture size."""

import torch
import torch.nn.functional as F
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


def paste_masks(
    mask_scores: Tensor, frames: Tensor, scale: tuple[float, float], size: tuple[int, int]
) -> Tensor:
    """Mask scores at the size of the picture.

    Args:
        mask_scores: (N, h, w) in 0..1 at the cells of `frames`.
        frames: (N, 4) region of the network's input that each map covers, in input pixels.
        scale: (x, y) input pixels for each pixel of the picture.
        size: (height, width) of the picture.

    Returns:
        (N, height, width) in 0..1; 0 outside the frame.
    """
    height, width = size
    if len(mask_scores) == 0:
        return mask_scores.new_zeros((0, height, width))
    device = mask_scores.device
    x = (torch.arange(width, device=device) + 0.5) * scale[0]  # (W,) input pixels
    y = (torch.arange(height, device=device) + 0.5) * scale[1]  # (H,)
    x1, y1, x2, y2 = frames.unbind(-1)
    columns = (x - x1[:, None]) / (x2 - x1)[:, None] * 2 - 1  # (N, W) in -1..1
    rows = (y - y1[:, None]) / (y2 - y1)[:, None] * 2 - 1  # (N, H)
    grid = torch.stack(
        [
            columns[:, None, :].expand(-1, height, -1),
            rows[:, :, None].expand(-1, -1, width),
        ],
        dim=-1,
    )  # (N, H, W, 2)
    pasted = F.grid_sample(
        mask_scores[:, None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )[:, 0]
    inside = (grid.abs() <= 1).all(dim=-1)
    return pasted * inside


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


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last True of each row of (N, n); zeros where there is none."""
    length = occupied.shape[-1]
    first = occupied.int().argmax(dim=-1)
    last = length - occupied.flip(-1).int().argmax(dim=-1)
    some = occupied.any(dim=-1)
    return first * some, last * some
