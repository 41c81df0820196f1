"""Moves borders of masks to borders of colours: the guided filter, for many objects at once."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from boxmask.ops.fused import fused_kernels_run

CELLS_TOGETHER = 2**20
"""Cells of whole maps that are filtered at the same time: bounds the memory of crowds."""

NO_BORDER = 1e-4
"""Mean of a mask in a window that is as good as 0; one less is as good as 1."""

LEAST_ERROR = 1e-6
"""Squared error of the filter without colours, summed up, below which it counts as this."""

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
        together: (B, 11, h, w) valid, scale, means and inverse in one tensor, of which the others
            are parts, where a kernel made them; else None.
    """

    colors: Tensor
    valid: Tensor
    scale: Tensor
    means: Tensor
    inverse: Tensor
    radius: int
    together: Tensor | None = None

    @property
    def maps(self) -> tuple[Tensor, ...]:
        """Colours, valid, scale, means and inverse, (B, ., h, w) each."""
        return self.colors, self.valid, self.scale, self.means, self.inverse

    def of(self, image_index: Tensor) -> "ColorGuide":
        """The guide of n pictures, (n,), one of which may be asked for more than once."""
        colors, valid, scale, means, inverse = (one[image_index] for one in self.maps)
        return ColorGuide(
            colors=colors,
            valid=valid,
            scale=scale,
            means=means,
            inverse=inverse,
            radius=self.radius,
        )


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
    fused = colors.dtype == torch.float32 and fused_kernels_run("filters", colors.device)
    form = fused_guide if fused else plain_guide
    return form(colors, valid, radius, smoothness)


def fused_guide(colors: Tensor, valid: Tensor, radius: int, smoothness: float) -> ColorGuide:
    """`color_guide` in one kernel on a CUDA device."""
    from boxmask.ops.guided_filter_triton import guide_maps  # Triton is not everywhere

    maps = guide_maps(colors, valid, radius, smoothness)
    parts = zip(("valid", "scale", "means", "inverse"), maps.split((1, 1, 3, 6), 1), strict=True)
    return ColorGuide(colors=colors, **dict(parts), radius=radius, together=maps)


def plain_guide(colors: Tensor, valid: Tensor, radius: int, smoothness: float) -> ColorGuide:
    """`color_guide`, operator by operator."""
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


def guided_filter(maps: Tensor, image_index: Tensor, guide: ColorGuide) -> tuple[Tensor, Tensor]:
    """In each window, the map that is linear in colours and nearest to the given one; their mean.

    Where a mask's border runs beside a border of colours, it moves onto it; where colours say
    nothing, the mask is smoothed, so that its scores near one half show doubt.

    Args:
        maps: (N, h, w) in 0..1.
        image_index: (N,) int64 picture of each map.
        guide: colours of the pictures.

    Returns:
        (N, h, w) in 0..1; 0 in padding. And (N,) at most 1, how much more of each mask's border
        colours explain than a filter without colours keeps: 1 less the ratio of both filters'
        squared errors in windows that hold a border. It is near 0 where an object has the colours
        of what is around it.

    Source: He, Sun and Tang, "Guided image filtering" (ECCV 2010; PAMI 2013), equations 19 to 21;
    what colours explain is ours.
    """
    if maps.device.type == "cpu" and maps.dtype == torch.float32:
        from boxmask.ops.guided_filter_cpu import (  # numba takes a while to import
            guided_filter_cpu,
        )

        return guided_filter_cpu(maps, image_index, guide)
    return filter_by(maps, image_index, guide)


def filter_by(maps: Tensor, image_index: Tensor, guide: ColorGuide) -> tuple[Tensor, Tensor]:
    """`guided_filter` with the kernels of the guide's maker, or operator by operator."""
    if guide.together is not None and maps.dtype == torch.float32:
        from boxmask.ops.guided_filter_triton import filtered_maps

        given = maps, image_index, guide.colors, guide.together
        found, errors = filtered_maps(*given, radius=guide.radius, no_border=NO_BORDER)
        return found, _explained(*errors.unbind(dim=1))
    filtered, explained = torch.zeros_like(maps), maps.new_ones(len(maps))
    together = max(CELLS_TOGETHER // max(maps.shape[-2] * maps.shape[-1], 1), 1)
    for start in range(0, len(maps), together):
        part = slice(start, start + together)
        here = guide.of(image_index[part])
        filtered[part], explained[part] = _filtered(maps[part], here)
    return filtered, explained


def _filtered(maps: Tensor, guide: ColorGuide) -> tuple[Tensor, Tensor]:
    """(n, h, w) and (n,), each with its own picture of the guide."""
    given = maps[:, None] * guide.valid
    sums = _window_sum(torch.cat([guide.colors * given, given], dim=1), guide.radius)
    means = sums * guide.scale  # (n, 4, h, w) of colour times map, and of the map
    covariance, near = means[:, :3] - guide.means * means[:, 3:], means[:, 3]
    inverse = guide.inverse.unbind(dim=1)
    rows = (torch.stack([inverse[_PLACE[a, b]] for b in range(3)], dim=1) for a in range(3))
    slopes = torch.stack([_dot(row, covariance) for row in rows], dim=1)
    heights = near - _dot(slopes, guide.means)
    sums = _window_sum(torch.cat([slopes, heights[:, None], near[:, None]], dim=1), guide.radius)
    sums = sums * guide.scale
    found = (_dot(sums[:, :3], guide.colors) + sums[:, 3]).clamp(0, 1)
    at_border = (near > NO_BORDER) & (near < 1 - NO_BORDER)
    kept, smoothed = (
        ((one - given[:, 0]).square() * at_border).sum(dim=(1, 2)) for one in (found, sums[:, 4])
    )
    return found, _explained(kept, smoothed)


def _explained(kept: Tensor, smoothed: Tensor) -> Tensor:
    """Of both filters' squared errors at borders, with colours and without."""
    return 1 - kept / smoothed.clamp(min=LEAST_ERROR)


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
