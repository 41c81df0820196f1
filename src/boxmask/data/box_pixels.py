"""The pixels of a box, and masks that keep to them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boxmask.data.masks import coco_mask

Place = tuple[slice, slice]
"""Rows and columns of a picture."""

THRESHOLDS = (0.5, 0.45, 0.55, 0.4, 0.6, 0.35, 0.65, 0.3, 0.7, 0.25, 0.2)
"""That a mask in a known box may have, the preferred first."""

LEAST_GAIN = 0.05
"""Share of the box, in 0..1, that another threshold must reach more to be preferred."""


def pixels_of_box(box: Sequence[float] | NDArray[Any], image_size: tuple[int, int]) -> Place:
    """Rows and columns whose pixel centres lie in a box.

    A box between two centres has the row or column that it overlaps most: at least one of each.

    Args:
        box: (4,) x1, y1, x2, y2 in picture pixels.
        image_size: (height, width) of the picture.
    """
    x1, y1, x2, y2 = (float(value) for value in box)
    return _centers_between(y1, y2, image_size[0]), _centers_between(x1, x2, image_size[1])


def scores_in_box(
    cells: NDArray[np.float32],
    frame: NDArray[np.float32],
    scale: tuple[float, float],
    place: Place,
) -> NDArray[np.float32]:
    """Scores of a mask at the pixels of a box.

    Args:
        cells: (h, w) in 0..1.
        frame: (4,) region of the network's input that the map covers, in input pixels.
        scale: (x, y) input pixels for each pixel of the picture.
        place: rows and columns of the picture.

    Returns:
        (rows of the box, columns of the box) in 0..1, bilinear, 0 outside the frame.
    """
    x1, y1, x2, y2 = frame.tolist()
    height, width = cells.shape
    near, far, share, within = _between(place[0], scale[1], (y1, y2), height)
    drawn = cells[near] + (cells[far] - cells[near]) * share[:, None]  # (rows, w)
    drawn *= within[:, None]
    near, far, share, within = _between(place[1], scale[0], (x1, x2), width)
    left = drawn[:, near]
    return np.asarray((left + (drawn[:, far] - left) * share) * within, dtype=np.float32)


def _between(
    side: slice, scale: float, span: tuple[float, float], length: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32], NDArray[np.bool_]]:
    """For each pixel of a side: the cells around it, how far it is to the second, if within."""
    pixels = (np.arange(side.start, side.stop) + 0.5) * scale
    exact = (pixels - span[0]) / (span[1] - span[0]) * length - 0.5  # cell i has its middle at i
    exact = exact.clip(0, length - 1)
    near = exact.astype(np.intp)
    far = np.minimum(near + 1, length - 1)
    within = (pixels >= span[0]) & (pixels <= span[1])
    return near, far, (exact - near).astype(np.float32), within


def fitted_threshold(scores: NDArray[np.float32], least_gain: float = LEAST_GAIN) -> float:
    """The threshold at which a mask reaches the sides of its box best.

    The given box is known to touch the object on all four sides. Where the mask at 0.5 falls
    short of them, or only a stray pixel reaches them, another threshold may fit better; 0.5 and
    what is near it win ties.

    Args:
        scores: (rows, columns) in 0..1 at the pixels of the box.
        least_gain: share of the box, in 0..1, that a later one of `THRESHOLDS` must reach more.

    Returns:
        One of `THRESHOLDS`; 0.5 where no mask has a pixel.
    """
    height, width = _extents(scores.max(axis=1)), _extents(scores.max(axis=0))
    best, chosen = 0.0, THRESHOLDS[0]
    for threshold, reached in zip(THRESHOLDS, height * width / scores.size, strict=True):
        if reached > best + least_gain:
            best, chosen = reached, threshold
    return chosen


def encode_in_box(
    inside: NDArray[np.bool_], place: Place, image_size: tuple[int, int]
) -> dict[str, Any]:
    """Packs a mask that is empty outside a box, without drawing the picture.

    Args:
        inside: (rows, columns) bool, the mask's pixels in `place`.
        place: rows and columns of the picture.
        image_size: (height, width) of the picture.

    Returns:
        The same as `encode_mask` of the whole mask.
    """
    height, width = image_size
    padded = np.pad(inside, ((1, 1), (0, 0))).astype(np.int8)  # runs end inside their column
    steps = np.diff(padded, axis=0).T  # (columns, rows + 1): 1 where a run starts, -1 after it
    column, row = np.nonzero(steps)
    edges = (column + place[1].start) * height + row + place[0].start
    # Runs that end at the foot of a column and go on at the head of the next one are one run.
    edges = edges.reshape(-1, 2)
    joined = np.flatnonzero(edges[1:, 0] == edges[:-1, 1])
    flat = np.delete(edges.reshape(-1), np.concatenate([2 * joined + 1, 2 * joined + 2]))
    counts = np.diff(np.concatenate([[0], flat, [height * width]]))
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]
    packed = coco_mask.frPyObjects(
        {"size": [height, width], "counts": counts.tolist()}, height, width
    )
    return {"size": [height, width], "counts": packed["counts"].decode("ascii")}


def ellipse_in_box(place: Place) -> NDArray[np.bool_]:
    """The ellipse that fits a box: (rows, columns) bool, never empty."""
    rows, columns = (side.stop - side.start for side in place)
    y = ((np.arange(rows) + 0.5) / rows * 2 - 1)[:, None]
    x = ((np.arange(columns) + 0.5) / columns * 2 - 1)[None, :]
    return x**2 + y**2 <= 1


def _extents(highest: NDArray[np.float32]) -> NDArray[np.intp]:
    """How many of (n,) places lie from the first to the last above each of `THRESHOLDS`."""
    above = highest > np.array(THRESHOLDS, dtype=np.float32)[:, None]  # (thresholds, n)
    reach = len(highest) - above.argmax(axis=1) - above[:, ::-1].argmax(axis=1)
    return reach * above.any(axis=1)


def _centers_between(low: float, high: float, length: int) -> slice:
    first, end = max(int(np.ceil(low - 0.5)), 0), min(int(np.ceil(high - 0.5)), length)
    if first >= end:
        first = min(max(int(np.floor((low + high) / 2)), 0), length - 1)
        end = first + 1
    return slice(first, end)
