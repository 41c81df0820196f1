"""The guided filter for one mask of one picture: windows cost the same however wide they are."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from boxmask.ops.guided_filter import NO_BORDER, PAIRS

Map = NDArray[np.float32]
Numbers = NDArray[np.floating[Any]]  # in single or double precision


def guided_filter_cpu(colors: Map, mask: Map, *, radius: int, smoothness: float) -> Map:
    """The same as `guided_filter` of one map, see there.

    Args:
        colors: (h, w, 3) in 0..1.
        mask: (h, w) in 0..1.
        radius: cells from the middle of a window to its side, at least 1.
        smoothness: epsilon, variance of colours below which a window counts as plain.

    Returns:
        (h, w) in 0..1.
    """
    planes = [np.ascontiguousarray(colors[:, :, channel]) for channel in range(3)]
    means, of_mask = [_window_mean(one, radius) for one in planes], _window_mean(mask, radius)
    covariance = [
        _window_mean(plane * mask, radius) - mean * of_mask
        for plane, mean in zip(planes, means, strict=True)
    ]
    rows = _inverse_spread(planes, radius, smoothness)
    a, b, c = covariance
    slopes = [row[0] * a + row[1] * b + row[2] * c for row in rows]
    heights = of_mask.copy()
    for slope, mean in zip(slopes, means, strict=True):
        heights -= slope * mean
    found = _window_mean(heights, radius)
    for slope, plane in zip(slopes, planes, strict=True):
        found += _window_mean(slope, radius) * plane
    return found.clip(0, 1)


def _inverse_spread(planes: Sequence[Map], radius: int, smoothness: float) -> list[list[Map]]:
    """The inverse of each window's covariance of colours, 3 x 3 maps (h, w).

    In double precision: where all colours are grey, the determinant is smaller than what single
    precision rounds its products by.
    """
    exact = [plane.astype(np.float64) for plane in planes]
    means = [_window_mean(one, radius) for one in exact]
    xx, xy, xz, yy, yz, zz = (
        _window_mean(exact[a] * exact[b], radius) - means[a] * means[b] for a, b in PAIRS
    )
    for one in (xx, yy, zz):
        one += smoothness
    first, second, third = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    fourth, fifth, sixth = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    share = 1 / (xx * first + xy * second + xz * third)
    first, second, third, fourth, fifth, sixth = (
        (one * share).astype(np.float32) for one in (first, second, third, fourth, fifth, sixth)
    )
    return [[first, second, third], [second, fourth, fifth], [third, fifth, sixth]]


def explained_by_colors_cpu(mask: Map, filtered: Map, *, radius: int) -> float:
    """What colours explain of one map's border, see `guided_filter`."""
    near = _window_mean(mask, radius)
    smooth = _window_mean(near, radius)
    at_border = (near > NO_BORDER) & (near < 1 - NO_BORDER)
    kept, smoothed = (np.square(one - mask)[at_border].sum() for one in (filtered, smooth))
    return float(1 - kept / max(smoothed, 1e-6))


def _window_mean(plane: Numbers, radius: int) -> Numbers:
    """Means of (h, w) over the cells of the map in the square window around each cell."""
    side = (2 * radius + 1, 2 * radius + 1)
    total, count = (
        cv2.boxFilter(one, -1, side, normalize=False, borderType=cv2.BORDER_CONSTANT)
        for one in (plane, np.ones_like(plane))
    )
    return np.asarray(total / count, dtype=plane.dtype)
