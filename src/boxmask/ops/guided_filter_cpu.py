"""The guided filter of many masks on a CPU, compiled by numba: each only where its mask is."""

from functools import partial
from typing import Any

import numpy as np
import torch
from numba import njit
from numba.core.types import UniTuple, float32, int64, void
from numpy.typing import NDArray
from torch import Tensor

from boxmask.ops.compiled import OPTIONS, compiled
from boxmask.ops.guided_filter import LEAST_ERROR, NO_BORDER, ColorGuide
from boxmask.ops.threads import do_all, even_parts

_4D, _3D = float32[:, :, :, ::1], float32[:, :, ::1]
_GUIDE = UniTuple(_4D, 5)  # colors, valid, scale, means, inverse
_SIGNATURE = void(_3D, int64[::1], _GUIDE, int64, float32, float32, _3D, float32[::1])
_ZERO, _ONE = np.float32(0), np.float32(1)

Array = NDArray[np.float32]
# Parts are written into their callers, see `dynamic_mask_cpu.py`.
_part = njit(inline="always", **OPTIONS)


def guided_filter_cpu(
    maps: Tensor, image_index: Tensor, guide: ColorGuide
) -> tuple[Tensor, Tensor]:
    """The same as `guided_filter`, see there; in single precision on a CPU.

    Cells further than two radii from all that is not 0 stay 0 and are not looked at.
    """
    filtered, explained = torch.zeros(maps.shape), torch.ones(len(maps))
    of_colors = tuple(one.contiguous().numpy() for one in guide.maps)
    work = compiled(_filter, _SIGNATURE)
    given: Any = [one.contiguous() for one in (maps, image_index)]
    do_all(
        [
            partial(
                work,
                *(one[part].numpy() for one in given),
                of_colors,
                guide.radius,
                NO_BORDER,
                LEAST_ERROR,
                *(one[part].numpy() for one in (filtered, explained)),
            )
            for part in even_parts(len(maps), torch.get_num_threads())
        ]
    )
    return filtered, explained


def _filter(
    maps: Array,
    image_index: NDArray[np.int64],
    guide: tuple[Array, ...],
    radius: int,
    no_border: float,
    least_error: float,
    filtered: Array,
    explained: Array,
) -> None:
    """Fills filtered (n, h, w) where maps (n, h, w) are not 0 near by, and explained (n,)."""
    height, width = maps.shape[1:]
    for index in range(len(maps)):
        top, bottom, left, right = _extent(maps[index])
        if bottom <= top:
            continue
        top, bottom = max(top - 2 * radius, 0), min(bottom + 2 * radius, height)
        left, right = max(left - 2 * radius, 0), min(right + 2 * radius, width)
        color, valid, scale, mean, inverse = [one[image_index[index]] for one in guide]
        size = (bottom - top, right - left)
        planes, sums = np.empty((4, *size), np.float32), np.empty((4, *size), np.float32)
        near, smooth = np.empty((1, *size), np.float32), np.empty((1, *size), np.float32)
        rows = np.empty(size, np.float32)
        _times_colors(maps[index], valid, color, top, left, planes)
        _window_sums(planes, rows, sums, radius)
        _linear(sums, scale, mean, inverse, top, left, planes)
        for y in range(size[0]):
            for x in range(size[1]):
                near[0, y, x] = sums[3, y, x] * scale[0, top + y, left + x]
        _window_sums(planes, rows, sums, radius)
        _window_sums(near, rows, smooth, radius)
        kept, smoothed = _ZERO, _ZERO
        for y in range(size[0]):
            v = top + y
            for x in range(size[1]):
                u = left + x
                found = sums[3, y, x] + sums[0, y, x] * color[0, v, u]
                found += sums[1, y, x] * color[1, v, u] + sums[2, y, x] * color[2, v, u]
                found = min(max(found * scale[0, v, u], _ZERO), _ONE)
                filtered[index, v, u] = found
                if no_border < near[0, y, x] < _ONE - no_border:
                    given = maps[index, v, u] * valid[0, v, u]
                    kept += (found - given) ** 2
                    smoothed += (smooth[0, y, x] * scale[0, v, u] - given) ** 2
        explained[index] = _ONE - kept / max(smoothed, least_error)


@_part
def _times_colors(
    mask: Array, valid: Array, color: Array, top: int, left: int, planes: Array
) -> None:
    """Fills planes (4, h, w): the mask times each colour, and the mask, from (top, left) on."""
    for y in range(planes.shape[1]):
        v = top + y
        for x in range(planes.shape[2]):
            u = left + x
            given = mask[v, u] * valid[0, v, u]
            planes[0, y, x] = given * color[0, v, u]
            planes[1, y, x] = given * color[1, v, u]
            planes[2, y, x] = given * color[2, v, u]
            planes[3, y, x] = given


@_part
def _linear(
    sums: Array, scale: Array, mean: Array, inverse: Array, top: int, left: int, planes: Array
) -> None:
    """Fills planes (4, h, w) with each window's slopes along the colours, and its height at 0."""
    for y in range(planes.shape[1]):
        v = top + y
        for x in range(planes.shape[2]):
            u = left + x
            middle = sums[3, y, x] * scale[0, v, u]
            # Covariances of the mask with the three colours, then the slopes.
            a = sums[0, y, x] * scale[0, v, u] - mean[0, v, u] * middle
            b = sums[1, y, x] * scale[0, v, u] - mean[1, v, u] * middle
            c = sums[2, y, x] * scale[0, v, u] - mean[2, v, u] * middle
            d = inverse[0, v, u] * a + inverse[1, v, u] * b + inverse[2, v, u] * c
            e = inverse[1, v, u] * a + inverse[3, v, u] * b + inverse[4, v, u] * c
            f = inverse[2, v, u] * a + inverse[4, v, u] * b + inverse[5, v, u] * c
            planes[0, y, x], planes[1, y, x], planes[2, y, x] = d, e, f
            planes[3, y, x] = middle - d * mean[0, v, u] - e * mean[1, v, u] - f * mean[2, v, u]


@_part
def _extent(plane: Array) -> tuple[int, int, int, int]:
    """First and last row, first and last column of (h, w) that are not all 0, ends excluded."""
    height, width = plane.shape
    top, bottom, left, right = height, 0, width, 0
    for y in range(height):
        first, last = width, 0
        for x in range(width):
            if plane[y, x] != 0:
                first, last = min(first, x), x + 1
        if last > 0:
            top, bottom = min(top, y), y + 1
            left, right = min(left, first), max(right, last)
    return top, bottom, left, right


@_part
def _window_sums(planes: Array, rows: Array, sums: Array, radius: int) -> None:
    """Sums of (p, h, w) over the window around each cell, with zeros around; rows is (h, w)."""
    height, width = rows.shape
    for plane in range(len(planes)):
        for y in range(height):
            rows[y] = planes[plane, y]
            for other in range(max(y - radius, 0), min(y + radius + 1, height)):
                if other != y:
                    for x in range(width):
                        rows[y, x] += planes[plane, other, x]
        for y in range(height):
            for x in range(width):
                sums[plane, y, x] = rows[y, x]
            for step in range(1, radius + 1):
                for x in range(step, width):
                    sums[plane, y, x] += rows[y, x - step]
                for x in range(width - step):
                    sums[plane, y, x] += rows[y, x + step]
