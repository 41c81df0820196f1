"""Draws the borders of finished masks to borders of colours, at the network's input pixels."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from boxmask.data.box_pixels import Place, pixels_of_box, scores_in_box
from boxmask.ops.guided_filter_single import explained_by_colors_single, guided_filter_single
from boxmask.ops.masks import extent_of_mask

RADIUS = 2
"""Mask cells from the middle to the side of the windows in which borders are drawn."""

SMOOTHNESS = 1e-4
"""Variance of colours, in 0..1 squared, below which such a window is plain."""

LEAST_EXPLAINED = 0.2
"""Share of a mask's border that colours must explain, see `guided_filter`."""

LARGE_SIDE = 256
"""Input pixels of a side of a box beyond which borders are drawn on blocks of pixels."""

MARGIN = 2 * RADIUS + 1
"""Cells around a box that its refined mask depends on."""

LARGEST_CELL = 4
"""Input pixels of a cell of the grid on which detected masks are looked at, at most."""

Colors = NDArray[np.uint8]
Map = NDArray[np.float32]


def cells_near(sides: NDArray[Any], length: int, cell: int) -> slice:
    """Cells along an axis in and around a box, as far as `drawn_to_colors` looks.

    Args:
        sides: (2,) of the box, in input pixels.
        length: of the picture, in input pixels.
        cell: input pixels of a cell.
    """
    first, last = np.floor(sides / cell)
    count = -(-length // cell)
    start = min(max(int(first) - MARGIN, 0), count - 1)
    return slice(start, max(min(int(last) + 1 + MARGIN, count), start + 1))


def pixels_of_cells(picture: Colors, rows: slice, columns: slice, cell: int) -> Colors:
    """(H, W, 3) pixels of whole cells; the last pixel repeats where the picture ends in a cell."""
    y = np.arange(rows.start * cell, rows.stop * cell).clip(max=picture.shape[0] - 1)
    x = np.arange(columns.start * cell, columns.stop * cell).clip(max=picture.shape[1] - 1)
    return picture[y[0] : y[-1] + 1, x[0] : x[-1] + 1][y - y[0]][:, x - x[0]]


def drawn_to_colors(
    scores: Map,
    colors: Colors,
    box: Sequence[float] | NDArray[Any],
    threshold: float,
    *,
    claimed: NDArray[np.bool_] | None = None,
    thinnest: float = np.inf,
) -> Map | None:
    """Draws the border of one mask to borders of colours.

    Args:
        scores: (h, w) in 0..1, of cells.
        colors: (H, W, 3) the pixels of these cells.
        box: (4,) x1, y1, x2, y2 in these pixels, that the mask keeps to.
        threshold: above which scores are foreground.
        claimed: (h, w) bool, cells that another object owns; None for none.
        thinnest: pixels across the object; windows are at most half as wide.

    Returns:
        (H, W) in 0..1, or on blocks of pixels if the box is large; None where the object hides in
        its colours.
    """
    cell = colors.shape[1] // scores.shape[1]
    side = max(box[2] - box[0], box[3] - box[1])
    step = min(2 ** int(np.ceil(np.log2(max(side / LARGE_SIDE, 1)))), cell)
    height, width = (length // step for length in colors.shape[:2])
    blocks = cv2.resize(colors, (width, height), interpolation=cv2.INTER_AREA)
    fine = cv2.resize(scores, (width, height), interpolation=cv2.INTER_LINEAR)
    place = pixels_of_box(np.asarray(box) / step, (height, width))
    own = np.zeros((height, width), dtype=bool)
    own[place] = True
    if claimed is not None:
        own &= ~claimed.repeat(cell // step, axis=0).repeat(cell // step, axis=1)
    foreground = ((fine > threshold) & own).astype(np.float32)
    radius = max(int(min(RADIUS * cell, thinnest / 4) / step), 1)
    guide = np.asarray(blocks, dtype=np.float32) / np.float32(255)
    found = guided_filter_single(guide, foreground, radius=radius, smoothness=SMOOTHNESS)
    if explained_by_colors_single(foreground, found, radius=radius) < LEAST_EXPLAINED:
        return None
    return np.where(own, found, np.float32(0))


def detected_mask(
    scores: Map,
    frame: Map,
    picture: Colors,
    scale: tuple[float, float],
    image_size: tuple[int, int],
) -> tuple[NDArray[np.bool_], Place] | None:
    """A found object's mask, its border drawn to borders of colours.

    Args:
        scores: (h, w) in 0..1.
        frame: (4,) region of the input that they cover, in input pixels.
        picture: (H, W, 3) the input's pixels, without padding.
        scale: (x, y) input pixels for each pixel of the picture as it was.
        image_size: (height, width) of the picture as it was.

    Returns:
        Its pixels in rows and columns of the picture as it was; None where it is empty, hides in
        its colours, or is as fine as the input already.
    """
    extent = extent_of_mask(scores > 0.5)
    size = (frame[2:] - frame[:2]) / np.array(scores.shape[::-1], dtype=np.float32)  # of a cell
    cell = min(2 ** int(np.log2(max(size.min(), 1))), LARGEST_CELL)
    if extent is None or cell == 1:
        return None
    y, x = extent
    height, width = picture.shape[:2]
    first, last = np.array([x.start, y.start]), np.array([x.stop, y.stop])
    across = float(((last - first) * size).min())
    corners = np.concatenate([frame[:2] + first * size - cell, frame[:2] + last * size + cell])
    box = corners.clip(0, [width, height, width, height])
    rows, columns = (
        cells_near(box[1::2], height, cell),
        cells_near(box[0::2], width, cell),
    )
    near = np.array([columns.start, rows.start, columns.stop, rows.stop], dtype=np.float32) * cell
    cells = scores_in_box(scores, frame, (cell, cell), (rows, columns))
    colors = pixels_of_cells(picture, rows, columns, cell)
    drawn = drawn_to_colors(cells, colors, box - np.tile(near[:2], 2), 0.5, thinnest=across)
    if drawn is None:
        return None
    place = pixels_of_box(box / np.tile(scale, 2), image_size)
    return scores_in_box(drawn, near, scale, place) > 0.5, place
