"""Moves borders of masks to borders of colours: the guided filter, for many objects at once."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from boxmask.ops.masks import boxes_of_masks

CELLS_TOGETHER = 2**20
"""Cells of whole maps that are filtered at the same time: bounds the memory of crowds."""

SMALL_MAP = 10_000
"""Cells of a map that a CPU filters faster with others than by itself where its mask is."""

NO_BORDER = 1e-4
"""Mean of a mask in a window that is as good as 0; one less is as good as 1."""

# Places of a symmetric 3 x 3 matrix in the order in which its six numbers are kept.
PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
_PLACE = {(a, b): place for place, pair in enumerate(PAIRS) for a, b in (pair, pair[::-1])}


@dataclass(frozen=True, kw_only=True)
class ColorGuide:
    """What the filter needs of B pictures, whatever is filtered.

    Attributes:
        colors: (B, 3, h, w).
        valid: (B, 1, h, w) 1 in cells of the picture, 0 in padding, which nothing sees.
        scale: (B, 1, h, w) 1 over the number of valid cells of the window around each cell; 0 in
            padding.
        means: (B, 3, h, w) mean colour of the window around each cell.
        inverse: (B, 6, h, w) upper part of the inverse of the window's covariance.
        radius: cells from the middle of a window to its side.
    """

    colors: Tensor
    valid: Tensor
    scale: Tensor
    means: Tensor
    inverse: Tensor
    radius: int

    def at(self, image_index: Tensor, rows: slice, columns: slice) -> "ColorGuide":
        """The same cells of n pictures, (n,), one of which may be asked for more than once."""
        maps = (self.colors, self.valid, self.scale, self.means, self.inverse)
        colors, valid, scale, means, inverse = (
            one[..., rows, columns][image_index] for one in maps
        )
        return ColorGuide(
            colors=colors,
            valid=valid,
            scale=scale,
            means=means,
            inverse=inverse,
            radius=self.radius,
        )


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Objects that are filtered together, and the cells where there is anything to filter."""

    objects: slice
    rows: slice
    columns: slice

    def of(self, maps: Tensor) -> Tensor:
        """(N, h, w) to (n, rows, columns), a view."""
        return maps[self.objects, self.rows, self.columns]


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
    # In double precision: where all colours are grey, the determinant is smaller than what single
    # precision rounds its products by.
    exact, weight = colors.double(), valid[:, None].double()
    scale = weight / _window_sum(weight, radius).clamp(min=1)
    means = _window_sum(exact * weight, radius) * scale
    products, squares = (
        torch.cat([one[:, a : a + 1] * one[:, b : b + 1] for a, b in PAIRS], dim=1)
        for one in (exact, means)
    )
    covariance = _window_sum(products * weight, radius) * scale - squares
    for a in range(3):
        covariance[:, _PLACE[a, a]] += smoothness
    return ColorGuide(
        colors=colors,
        valid=weight.to(colors.dtype),
        scale=scale.to(colors.dtype),
        means=means.to(colors.dtype),
        inverse=_inverse(covariance).to(colors.dtype),
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
    filtered = torch.zeros_like(maps)
    for part in _parts(maps, guide.radius):
        here = guide.at(image_index[part.objects], part.rows, part.columns)
        part.of(filtered).copy_(_filtered(part.of(maps), here))
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
    explained = maps.new_ones(len(maps))
    for part in _parts(maps, guide.radius):
        here = guide.at(image_index[part.objects], part.rows, part.columns)
        given = part.of(maps) * here.valid[:, 0]
        near = _window_sum(given[:, None], guide.radius) * here.scale
        smooth = (_window_sum(near, guide.radius) * here.scale)[:, 0]
        at_border = (near[:, 0] > NO_BORDER) & (near[:, 0] < 1 - NO_BORDER)
        kept, smoothed = (
            ((one - given).square() * at_border).sum(dim=(1, 2))
            for one in (part.of(filtered), smooth)
        )
        explained[part.objects] = 1 - kept / smoothed.clamp(min=1e-6)
    return explained


def _parts(maps: Tensor, radius: int) -> Iterator[_Part]:
    """What is looked at together.

    Only cells within two radii of what is not 0 matter. A CPU looks at these alone in large maps;
    on a GPU the host would have to wait for where they are.
    """
    large = maps.shape[-2] * maps.shape[-1] > SMALL_MAP
    if large and maps.device.type == "cpu":
        return _near_parts(maps, radius)
    return _whole_parts(maps)


def _whole_parts(maps: Tensor) -> Iterator[_Part]:
    """As many whole maps as fit."""
    height, width = maps.shape[-2:]
    together = max(CELLS_TOGETHER // max(height * width, 1), 1)
    for start in range(0, len(maps), together):
        objects = slice(start, start + together)
        yield _Part(objects=objects, rows=slice(None), columns=slice(None))


def _near_parts(maps: Tensor, radius: int) -> Iterator[_Part]:
    """Each object by itself; none that is 0 everywhere."""
    reach = 2 * radius
    for index, (x1, y1, x2, y2) in enumerate(boxes_of_masks(maps != 0).int().tolist()):
        if x2 > x1:
            yield _Part(
                objects=slice(index, index + 1),
                rows=slice(max(y1 - reach, 0), y2 + reach),
                columns=slice(max(x1 - reach, 0), x2 + reach),
            )


def _filtered(maps: Tensor, guide: ColorGuide) -> Tensor:
    """(n, h, w), each with its own picture of the guide."""
    given = maps[:, None] * guide.valid
    sums = _window_sum(torch.cat([guide.colors * given, given], dim=1), guide.radius)
    means = sums * guide.scale  # (n, 4, h, w) of colour times map, and of the map
    covariance, mean = means[:, :3] - guide.means * means[:, 3:], means[:, 3]
    inverse = guide.inverse.unbind(dim=1)
    rows = (torch.stack([inverse[_PLACE[a, b]] for b in range(3)], dim=1) for a in range(3))
    slopes = torch.stack([_dot(row, covariance) for row in rows], dim=1)
    heights = mean - _dot(slopes, guide.means)
    sums = _window_sum(torch.cat([slopes, heights[:, None]], dim=1), guide.radius) * guide.scale
    return (_dot(sums[:, :3], guide.colors) + sums[:, 3]).clamp(0, 1)


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """(N, 3, h, w) twice to (N, h, w); no matrix product, which mixed precision would round."""
    return (first * second).sum(dim=1)


def _window_sum(maps: Tensor, radius: int) -> Tensor:
    """Sum over the square window around each cell, with zeros around: one axis, then the other.

    On a CPU sums of shifted maps, which take a third to a sixth of the time of pooling; on a GPU,
    where the host must ask for each of them, pooling.
    """
    if maps.device.type != "cpu":
        return F.avg_pool2d(maps, 2 * radius + 1, 1, radius, divisor_override=1)
    for axis, padding in ((-2, (0, 0, radius, radius)), (-1, (radius, radius, 0, 0))):
        length, padded = maps.shape[axis], F.pad(maps, padding)
        maps = padded.narrow(axis, 0, length) + padded.narrow(axis, 1, length)
        for step in range(2, 2 * radius + 1):
            maps += padded.narrow(axis, step, length)
    return maps


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
