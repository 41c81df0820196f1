"""The guided filter for one mask of one picture: windows cost the same however wide they are."""

import cv2
import numpy as np
from numpy.typing import NDArray

from boxmask.ops.guided_filter import NO_BORDER

Map = NDArray[np.float32]


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
    mean, of_mask = _window_mean(colors, radius), _window_mean(mask, radius)
    spread = _window_mean(_products(colors), radius) - _products(mean)
    xx, xy, xz, yy, yz, zz = np.moveaxis(spread, 2, 0)
    xx, yy, zz = xx + smoothness, yy + smoothness, zz + smoothness
    covariance = _window_mean(colors * mask[:, :, None], radius)
    covariance -= mean * of_mask[:, :, None]
    a, b, c = np.moveaxis(covariance, 2, 0)
    first, second, third = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    fourth, fifth, sixth = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    inverse = 1 / (xx * first + xy * second + xz * third)  # of the determinant
    slopes = np.stack(
        [
            (first * a + second * b + third * c) * inverse,
            (second * a + fourth * b + fifth * c) * inverse,
            (third * a + fifth * b + sixth * c) * inverse,
        ],
        axis=2,
    )
    heights = of_mask - (slopes * mean).sum(axis=2)
    found = (_window_mean(slopes, radius) * colors).sum(axis=2) + _window_mean(heights, radius)
    return found.clip(0, 1)


def explained_by_colors_cpu(mask: Map, filtered: Map, *, radius: int) -> float:
    """The same as `explained_by_colors` of one map, see there."""
    near = _window_mean(mask, radius)
    smooth = _window_mean(near, radius)
    at_border = (near > NO_BORDER) & (near < 1 - NO_BORDER)
    kept, smoothed = (np.square(one - mask)[at_border].sum() for one in (filtered, smooth))
    return float(1 - kept / max(smoothed, 1e-6))


def _products(colors: Map) -> Map:
    """(h, w, 3) to (h, w, 6), of each pair of channels."""
    x, y, z = np.moveaxis(colors, 2, 0)
    return np.stack([x * x, x * y, x * z, y * y, y * z, z * z], axis=2)


def _window_mean(maps: Map, radius: int) -> Map:
    """Means over the cells of the map in the square window around each cell."""
    side = (2 * radius + 1, 2 * radius + 1)
    cells = np.ones(maps.shape[:2], dtype=np.float32)
    total, count = (
        cv2.boxFilter(one, -1, side, normalize=False, borderType=cv2.BORDER_CONSTANT)
        for one in (maps, cells)
    )
    share = 1 / np.asarray(count, dtype=np.float32)
    return np.asarray(total * (share if maps.ndim == 2 else share[:, :, None]), dtype=np.float32)
