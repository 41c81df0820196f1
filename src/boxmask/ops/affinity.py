"""How alike each pixel is to its neighbours, by colour or by features."""

import torch
import torch.nn.functional as F
from torch import Tensor

from boxmask.ops.lab import rgb_to_lab

# The eight neighbours of a pixel, row after row, as (rows down, columns right).
NEIGHBORS: tuple[tuple[int, int], ...] = (
    (-1, -1),
    (-1, 0),
    (-1, 1),
    (0, -1),
    (0, 1),
    (1, -1),
    (1, 0),
    (1, 1),
)


def shifted(maps: Tensor, offset: tuple[int, int]) -> Tensor:
    """The value at each cell's neighbour, zero outside: out[y, x] = maps[y + dy, x + dx].

    Args:
        maps: (..., h, w).
        offset: (dy, dx) in cells.
    """
    rows, columns = (
        _overlap(step, size) for step, size in zip(offset, maps.shape[-2:], strict=True)
    )
    out = torch.zeros_like(maps)
    if rows is not None and columns is not None:
        out[..., rows[0], columns[0]] = maps[..., rows[1], columns[1]]
    return out


def neighbors(maps: Tensor, dilation: int) -> Tensor:
    """The values at each cell's eight neighbours: (B, h, w) to (B, 8, h, w), zero outside."""
    height, width = maps.shape[-2:]
    padded = F.pad(maps, (dilation,) * 4)
    starts = (((dy + 1) * dilation, (dx + 1) * dilation) for dy, dx in NEIGHBORS)
    views = [padded[:, top : top + height, left : left + width] for top, left in starts]
    return torch.stack(views, dim=1)


def lab_at_stride(images: Tensor, stride: int, *, truncate: bool = False) -> Tensor:
    """CIE-LAB colours of the image averaged over cells of `stride` pixels.

    Args:
        images: (B, 3, H, W) RGB in 0..1.
        stride: side of a cell in pixels.
        truncate: cut the averaged colours to whole grey levels, as the published code does.

    Returns:
        (B, 3, H / stride, W / stride) float32; L in 0..100, a and b around -128..127.
    """
    pooled = F.avg_pool2d(images.float(), kernel_size=stride, stride=stride)
    if truncate:
        # The small number undoes the rounding of averages that are whole grey levels.
        pooled = (pooled * 255 + 1e-3).floor() / 255
    return rgb_to_lab(pooled)


def neighbor_distances(maps: Tensor, dilation: int) -> Tensor:
    """Euclidean distance of each cell's vector to those of its eight neighbours.

    Args:
        maps: (B, C, h, w).
        dilation: cells from a cell to its neighbours.

    Returns:
        (B, 8, h, w); outside the map a neighbour counts as the zero vector.
    """
    height, width = maps.shape[-2:]
    distances = _lengths(maps)[:, None].repeat(1, len(NEIGHBORS), 1, 1)
    for index, (dy, dx) in enumerate(NEIGHBORS[:4]):  # the others look at the same pairs
        rows, columns = _overlap(dy * dilation, height), _overlap(dx * dilation, width)
        if rows is None or columns is None:
            continue
        one, other = (..., rows[0], columns[0]), (..., rows[1], columns[1])
        found = _lengths(maps[one] - maps[other])
        distances[:, index][one] = found
        distances[:, -1 - index][other] = found
    return distances


def _lengths(vectors: Tensor) -> Tensor:
    """(B, C, h, w) to (B, h, w); `vector_norm` along channels takes ten times as long on a CPU."""
    return vectors.square().sum(dim=1).sqrt()


def _overlap(offset: int, size: int) -> tuple[slice, slice] | None:
    """Cells of a row with a neighbour `offset` away, and these neighbours; None without any."""
    if abs(offset) >= size:
        return None
    return (
        slice(max(-offset, 0), size - max(offset, 0)),
        slice(max(offset, 0), size + min(offset, 0)),
    )


def neighbor_valid(valid: Tensor, dilation: int) -> Tensor:
    """Whether a cell and its neighbour both count: (B, h, w) bool to (B, 8, h, w) bool."""
    return valid[:, None] & neighbors(valid, dilation)


def color_similarity(lab: Tensor, valid: Tensor, dilation: int) -> Tensor:
    """exp(-distance / 2) of LAB colours, 0 where either end of the pair does not count.

    Args:
        lab: (B, 3, h, w) colours.
        valid: (B, h, w) bool, cells that count.
        dilation: cells from a cell to its neighbours.

    Returns:
        (B, 8, h, w) in 0..1, neighbours in the order of `NEIGHBORS`.

    Source: BoxInst (CVPR 2021), colour similarity with theta = 2. The published code asks for a
    valid neighbour only; a pair with one invalid end has no meaning, so ours asks for both.
    """
    similarity = torch.exp(-neighbor_distances(lab, dilation) / 2)
    return similarity * neighbor_valid(valid, dilation)


def standardized(maps: Tensor, valid: Tensor) -> Tensor:
    """Features of mean 0 and variance 1 / C in each channel of each picture.

    So two cells that have nothing in common are about sqrt(2) apart, whatever the layer's scale.

    Args:
        maps: (B, C, h, w).
        valid: (B, h, w) bool, cells that count.

    Returns:
        (B, C, h, w); of any value where cells do not count.
    """
    counts = valid[:, None].to(maps.dtype)  # (B, 1, h, w)
    number = counts.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    centered = maps - (maps * counts).sum(dim=(2, 3), keepdim=True) / number
    variance = (centered.square() * counts).sum(dim=(2, 3), keepdim=True) / number
    return centered / (variance * maps.shape[1]).sqrt().clamp(min=1e-6)


def feature_similarity(features: Tensor, dilation: int) -> Tensor:
    """exp(-distance) of feature vectors: (B, D, h, w) to (B, 8, h, w) in 0..1.

    Source: published SIM code, gate of the pairwise term.
    """
    return torch.exp(-neighbor_distances(features, dilation))
