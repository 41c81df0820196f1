"""The guided filter for one mask of one picture: windows cost the same however wide they are."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from boxmask.ops.guided_filter import LEAST_ERROR, NO_BORDER, PAIRS

Map = NDArray[np.float32]
Numbers = NDArray[np.floating[Any]]  # in single or double precision


def guided_filter_single(colors: Map, mask: Map, *, radius: int, smoothness: float) -> Map:
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
    window = _Window(mask.shape, radius)
    means, of_mask = [window.mean(one) for one in planes], window.mean(mask)
    covariance = [
        window.mean(plane * mask) - mean * of_mask
        for plane, mean in zip(planes, means, strict=True)
    ]
    rows = _inverse_spread(planes, window, smoothness)
    a, b, c = covariance
    slopes = [row[0] * a + row[1] * b + row[2] * c for row in rows]
    heights = of_mask.copy()
    for slope, mean in zip(slopes, means, strict=True):
        heights -= slope * mean
    found = window.mean(heights)
    for slope, plane in zip(slopes, planes, strict=True):
        found += window.mean(slope) * plane
    return found.clip(0, 1)


def _inverse_spread(planes: Sequence[Map], window: "_Window", smoothness: float) -> list[list[Map]]:
    """The inverse of each window's covariance of colours, 3 x 3 maps (h, w).

    In double precision: where all colours are grey, the determinant is smaller than what single
    precision rounds its products by.
    """
    exact = [plane.astype(np.float64) for plane in planes]
    means = [window.mean(one) for one in exact]
    xx, xy, xz, yy, yz, zz = (
        window.mean(exact[a] * exact[b]) - means[a] * means[b] for a, b in PAIRS
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


def explained_by_colors_single(mask: Map, filtered: Map, *, radius: int) -> float:
    """What colours explain of one map's border, see `guided_filter`."""
    window = _Window(mask.shape, radius)
    near = window.mean(mask)
    smooth = window.mean(near)
    at_border = (near > NO_BORDER) & (near < 1 - NO_BORDER)
    kept, smoothed = (np.square(one - mask)[at_border].sum() for one in (filtered, smooth))
    return float(1 - kept / max(smoothed, LEAST_ERROR))


class _Window:
    """The cells of a map (h, w) in the square window around each cell."""

    def __init__(self, shape: tuple[int, ...], radius: int) -> None:
        self.side = (2 * radius + 1, 2 * radius + 1)
        count = self._sum(np.ones(shape, dtype=np.float32))  # whole numbers
        self.count = {np.dtype(kind): count.astype(kind) for kind in (np.float32, np.float64)}

    def mean(self, plane: Numbers) -> Numbers:
        """Mean of the window around each cell, in the precision that is given."""
        return np.asarray(self._sum(plane) / self.count[plane.dtype])

    def _sum(self, plane: Numbers) -> Any:
        return cv2.boxFilter(plane, -1, self.side, normalize=False, borderType=cv2.BORDER_CONSTANT)
