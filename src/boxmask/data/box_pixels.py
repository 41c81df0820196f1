"""The pixels of a box, and masks that keep to them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from boxmask.data.masks import coco_mask
from boxmask.ops.masks import paste_mask

Place = tuple[slice, slice]
"""Rows and columns of a picture."""


def pixels_of_box(box: Sequence[float] | NDArray[Any], image_size: tuple[int, int]) -> Place:
    """Rows and columns whose pixel centres lie in a box; at least one of each.

    Args:
        box: (4,) x1, y1, x2, y2 in picture pixels.
        image_size: (height, width) of the picture.
    """
    x1, y1, x2, y2 = (float(value) for value in box)
    return _centers_between(y1, y2, image_size[0]), _centers_between(x1, x2, image_size[1])


def mask_in_box(
    mask_scores: Tensor,
    frame: Tensor,
    scale: tuple[float, float],
    picture: tuple[tuple[int, int], Place],
    *,
    threshold: float = 0.5,
) -> NDArray[np.bool_]:
    """The part of a mask that lies in a box, at the size of the picture.

    Args:
        mask_scores: (h, w) in 0..1, on the CPU.
        frame: (4,) region of the network's input that the map covers, in input pixels.
        scale: (x, y) input pixels for each pixel of the picture.
        picture: (height, width) of the picture, and the pixels of the box.
        threshold: score above which a pixel is foreground, in 0..1.

    Returns:
        (rows of the box, columns of the box) bool.
    """
    image_size, place = picture
    # Only the cells around the box are drawn, with the neighbours that interpolation needs.
    parts = [
        slice(max(cells.start - 1, 0), min(cells.stop + 1, count))
        for cells, count in zip(
            cells_of_pixels(mask_scores, frame, scale, place), mask_scores.shape, strict=True
        )
    ]
    rows, columns = parts
    height, width = mask_scores.shape
    cell = (frame[2:] - frame[:2]) / frame.new_tensor([width, height])
    start = frame.new_tensor([columns.start, rows.start])
    stop = frame.new_tensor([columns.stop, rows.stop])
    near = torch.cat([frame[:2] + start * cell, frame[:2] + stop * cell])  # (4,)
    drawn = paste_mask(mask_scores[rows, columns], near, scale, image_size, threshold=threshold)
    return drawn.numpy()[place]


def cells_of_pixels(
    mask_scores: Tensor, frame: Tensor, scale: tuple[float, float], place: Place
) -> Place:
    """Rows and columns of a mask's cells that the centres of some pixels lie in.

    Args:
        mask_scores: (h, w).
        frame: (4,) region of the network's input that it covers, in input pixels.
        scale: (x, y) input pixels for each pixel of the picture.
        place: rows and columns of the picture.
    """
    x1, y1, x2, y2 = frame.tolist()
    height, width = mask_scores.shape
    return (
        _cells(place[0], scale[1], (y1, y2), height),
        _cells(place[1], scale[0], (x1, x2), width),
    )


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


def _centers_between(low: float, high: float, length: int) -> slice:
    first = min(max(int(np.ceil(low - 0.5)), 0), length - 1)
    return slice(first, max(min(int(np.ceil(high - 0.5)), length), first + 1))


def _cells(pixels: slice, scale: float, span: tuple[float, float], count: int) -> slice:
    """Cells along one side of a map that covers `span`, for the pixels of a picture."""
    cell = (span[1] - span[0]) / count
    first, last = (
        min(max(int(((pixel + 0.5) * scale - span[0]) / cell), 0), count - 1)
        for pixel in (pixels.start, pixels.stop - 1)
    )
    return slice(first, last + 1)
