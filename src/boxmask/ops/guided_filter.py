"""Moves borders of masks to borders of colours: the guided filter, for many objects at once."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CELLS_TOGETHER = 2**20
"""Cells of all objects that are filtered at the same time: bounds the memory of crowds."""

NO_BORDER = 1e-4
"""Mean of a mask in a window that is as good as 0; one less is as good as 1."""

# Places of a symmetric 3 x 3 matrix in the order in which its six numbers are kept.
_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
_PLACE = {(a, b): place for place, pair in enumerate(_PAIRS) for a, b in (pair, pair[::-1])}


@dataclass(frozen=True, kw_only=True)
class ColorGuide:
    """What the filter needs of B pictures, whatever is filtered.

    Attributes:
        colors: (B, 3, h, w).
        valid: (B, 1, h, w) 1 in cells of the picture, 0 in padding, which nothing sees.
        means: (B, 3, h, w) mean colour of the window around each cell.
        inverse: (B, 6, h, w) upper part of the inverse of the window's covariance.
        radius: cells from the middle of a window to its side.
    """

    colors: Tensor
    valid: Tensor
    means: Tensor
    inverse: Tensor
    radius: int


def color_guide(colors: Tensor, valid: Tensor, *, radius: int, smoothness: float) -> ColorGuide:
    """Looks at colours once, for all objects of the pictures.

    Args:
        colors: (B, 3, h, w) in 0..1.
        valid: (B, h, w) bool, cells of the picture.
        radius: cells from the middle of a window to its side, at least 1.
        smoothness: epsilon, variance of colours below which a window counts as plain; larger
            values smooth masks more and follow colours less.

    Raises:
        ValueError: If radius or smoothness is not positive.
    """
    if radius < 1 or smoothness <= 0:
        raise ValueError(
            f"radius, smoothness: expected at least 1 and more than 0, got {radius}, {smoothness}"
        )
    weight = valid[:, None].to(colors.dtype)
    means = _window_mean(colors, weight, radius)
    products = torch.cat([colors[:, a : a + 1] * colors[:, b : b + 1] for a, b in _PAIRS], dim=1)
    squares = torch.cat([means[:, a : a + 1] * means[:, b : b + 1] for a, b in _PAIRS], dim=1)
    covariance = _window_mean(products, weight, radius) - squares
    for a in range(3):
        covariance[:, _PLACE[a, a]] += smoothness
    return ColorGuide(
        colors=colors,
        valid=weight,
        means=means,
        inverse=_inverse(covariance),
        radius=radius,
    )


def guided_filter(maps: Tensor, image_index: Tensor, guide: ColorGuide) -> Tensor:
    """In each window, the map that is linear in colours and nearest to the given one; their mean.

    Where a mask's border runs beside a border of colours, it moves onto it; where colours say
    nothing, the mask is smoothed, so that its scores near one half show doubt.

    Args:
        maps: (N, h, w) in 0..1.
        image_index: (N,) int64 picture of each map.
        guide: colours of the pictures.

    Returns:
        (N, h, w) in 0..1; 0 in padding.

    Source: He, Sun and Tang, "Guided image filtering" (ECCV 2010; PAMI 2013), equations 19 to 21.
    """
    height, width = maps.shape[-2:]
    together = max(CELLS_TOGETHER // max(height * width, 1), 1)
    filtered = torch.empty_like(maps)
    for start in range(0, len(maps), together):
        part = slice(start, start + together)
        filtered[part] = _filtered(maps[part], image_index[part], guide)
    return filtered


def explained_by_colors(
    maps: Tensor, filtered: Tensor, image_index: Tensor, guide: ColorGuide
) -> Tensor:
    """How much more of each map's border colours explain than a filter without colours keeps.

    Args:
        maps: (N, h, w) 0 or 1.
        filtered: (N, h, w) what `guided_filter` makes of them.
        image_index: (N,) int64 picture of each map.
        guide: colours of the pictures.

    Returns:
        (N,) at most 1: 1 less the ratio of both filters' squared errors in windows that hold a
        border; near 0 where an object has the colours of what is around it.
    """
    height, width = maps.shape[-2:]
    together = max(CELLS_TOGETHER // max(height * width, 1), 1)
    explained = maps.new_empty(len(maps))
    for start in range(0, len(maps), together):
        part = slice(start, start + together)
        given, weight = maps[part], guide.valid[image_index[part]]
        near = _window_mean(given[:, None], weight, guide.radius)
        smooth = _window_mean(near, weight, guide.radius)[:, 0]
        at_border = (near[:, 0] > NO_BORDER) & (near[:, 0] < 1 - NO_BORDER)
        kept, smoothed = (
            ((one - given).square() * at_border).sum(dim=(1, 2)) for one in (filtered[part], smooth)
        )
        explained[part] = 1 - kept / smoothed.clamp(min=1e-6)
    return explained


def _filtered(maps: Tensor, image_index: Tensor, guide: ColorGuide) -> Tensor:
    weight, radius = guide.valid[image_index], guide.radius
    colors, means = guide.colors[image_index], guide.means[image_index]
    given = maps[:, None]
    mean = _window_mean(given, weight, radius)
    covariance = _window_mean(colors * given, weight, radius) - means * mean
    inverse = guide.inverse[image_index]
    slopes = torch.stack(
        [_dot(inverse[:, [_PLACE[a, b] for b in range(3)]], covariance) for a in range(3)],
        dim=1,
    )
    heights = mean - _dot(slopes, means)[:, None]
    slopes, heights = (_window_mean(one, weight, radius) for one in (slopes, heights))
    found = _dot(slopes, colors) + heights[:, 0]
    return found.clamp(0, 1) * weight[:, 0]


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """(N, 3, h, w) twice to (N, h, w); no matrix product, which mixed precision would round."""
    return (first * second).sum(dim=1)


def _window_mean(maps: Tensor, weight: Tensor, radius: int) -> Tensor:
    """Mean over the valid cells of the square window around each cell; 0 where there is none."""
    total, count = (_window_share(one, radius) for one in (maps * weight, weight))
    return total / count.clamp(min=1e-6)


def _window_share(maps: Tensor, radius: int) -> Tensor:
    """Sum over windows with zeros around, divided by a window's cells: one axis, then the other.

    Sums of shifted maps: `avg_pool2d` takes three to six times as long on a CPU.
    """
    side = 2 * radius + 1
    for axis, padding in ((-2, (0, 0, radius, radius)), (-1, (radius, radius, 0, 0))):
        length, padded = maps.shape[axis], F.pad(maps, padding)
        maps = padded.narrow(axis, 0, length) + padded.narrow(axis, 1, length)
        for step in range(2, side):
            maps += padded.narrow(axis, step, length)
    return maps / side**2


def _inverse(matrix: Tensor) -> Tensor:
    """Of symmetric positive 3 x 3 matrices, (B, 6, h, w) to the same, by cofactors."""
    xx, xy, xz, yy, yz, zz = matrix.unbind(dim=1)
    cofactors = torch.stack(
        [
            yy * zz - yz * yz,
            xz * yz - xy * zz,
            xy * yz - xz * yy,
            xx * zz - xz * xz,
            xy * xz - xx * yz,
            xx * yy - xy * xy,
        ],
        dim=1,
    )
    determinant = xx * cofactors[:, 0] + xy * cofactors[:, 1] + xz * cofactors[:, 2]
    return cofactors / determinant[:, None]
