"""Parts of a picture, and of maps over it, at the size they are shown at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

from boxmask.visualization.page import INK

Picture = NDArray[np.uint8]
Values = NDArray[np.float32]
Mask = NDArray[np.bool_]

HEAT, COSINE = "inferno", "viridis"
BOX, MASK, TRUTH, DOUBTFUL, PREDICTED = "#1a8fe3", "#e8475c", "#2aa876", "#ff8c00", "#3ddc97"
_SAMPLE = (18, 30)  # (height, width) of the samples in legends, in pixels


@dataclass(frozen=True, kw_only=True)
class View:
    """A part of the network's input, and its size on a page.

    Pictures and masks of any resolution span the input without its padding; maps span all of it.

    Attributes:
        region: x1, y1, x2, y2 in input pixels, inside the image.
        size: (height, width) on the page.
        image_size: (height, width) of the input without its padding.
        padded_size: (height, width) of the whole input.
    """

    region: tuple[float, float, float, float]
    size: tuple[int, int]
    image_size: tuple[int, int]
    padded_size: tuple[int, int]

    @property
    def scale(self) -> float:
        """Shown pixels for each input pixel."""
        return self.size[1] / (self.region[2] - self.region[0])

    def picture(self, picture: Picture) -> Picture:
        """The region of an (H, W, 3) picture."""
        image = Image.fromarray(picture)
        return np.array(self._resized(image, self.image_size, Image.Resampling.LANCZOS))

    def mask(self, mask: Mask) -> Mask:
        """The region of an (H, W) mask, with smooth edges."""
        image = Image.fromarray(mask.astype(np.float32))
        return np.array(self._resized(image, self.image_size, Image.Resampling.BILINEAR)) >= 0.5

    def values(self, values: NDArray[Any]) -> Values:
        """The region of an (h, w) map, with smooth steps between cells."""
        image = Image.fromarray(values.astype(np.float32))
        return np.array(self._resized(image, self.padded_size, Image.Resampling.BILINEAR))

    def cells(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """The region of an (h, w) map of numbers in 0..255, each cell as it is."""
        image = Image.fromarray(values.astype(np.uint8))
        return np.array(self._resized(image, self.padded_size, Image.Resampling.NEAREST))

    def place(self, box: Sequence[float] | NDArray[Any]) -> tuple[int, int, int, int]:
        """Corners of a box, in input pixels, on the page; last pixels, not the next ones."""
        x, y = self.region[:2]
        left, top, right, bottom = (
            round((float(value) - origin) * self.scale)
            for value, origin in zip(box, (x, y, x, y), strict=True)
        )
        return left, top, max(right - 1, left), max(bottom - 1, top)

    def _resized(
        self, image: Image.Image, span: tuple[int, int], how: Image.Resampling
    ) -> Image.Image:
        """The region of an image that spans (height, width) input pixels."""
        x, y = image.width / span[1], image.height / span[0]
        x1, y1, x2, y2 = self.region
        box = (x1 * x, y1 * y, min(x2 * x, image.width), min(y2 * y, image.height))
        return image.resize((self.size[1], self.size[0]), how, box)


def view_of_image(
    image_size: tuple[int, int], padded_size: tuple[int, int], cell: tuple[int, int]
) -> View:
    """The whole image in a cell of (height, width)."""
    region = (0.0, 0.0, float(image_size[1]), float(image_size[0]))
    return View(
        region=region,
        size=_fitted(region, cell),
        image_size=image_size,
        padded_size=padded_size,
    )


def view_of_boxes(
    whole: View, boxes: NDArray[Any], cell: tuple[int, int], *, around: float, least_side: float
) -> View:
    """What lies in and around some boxes, nearly square where the image has room.

    Args:
        whole: view of the whole image.
        boxes: (N, 4) x1, y1, x2, y2 in input pixels, N > 0.
        cell: (height, width) that it must fit.
        around: side of the region in longest sides of the boxes, 1 or more.
        least_side: input pixels that it has at least.
    """
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    side = max(around * float((high - low).max()), least_side)
    limits = np.array(whole.image_size[::-1], dtype=np.float64)
    sides = np.minimum(side, limits)
    start = np.clip((low + high) / 2 - sides / 2, 0, limits - sides)
    x, y = (float(value) for value in start)
    region = (x, y, x + float(sides[0]), y + float(sides[1]))
    return View(
        region=region,
        size=_fitted(region, cell),
        image_size=whole.image_size,
        padded_size=whole.padded_size,
    )


def heat(values: Values, *, low: float = 0.0, high: float = 1.0, colors: str = HEAT) -> Picture:
    """(h, w) values as colours of a matplotlib map, from `low` to `high`."""
    shares = np.clip((values - low) / (high - low), 0, 1)
    return (mpl.colormaps[colors](shares)[..., :3] * 255).round().astype(np.uint8)


def painted(
    picture: Picture, states: NDArray[np.uint8], colors: Sequence[str | None], opacity: float
) -> Picture:
    """A pale grey picture with a colour over each pixel whose state has one.

    Args:
        picture: (h, w, 3).
        states: (h, w) index into `colors`.
        colors: None for none.
        opacity: in 0..1.
    """
    grey = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
    result = 0.55 * grey + 0.45 * 255  # pale, so that the colours lead
    for state, color in enumerate(colors):
        if color is not None:
            chosen = states == state
            result[chosen] = (1 - opacity) * grey[chosen] + opacity * _rgb(color)
    return result.round().astype(np.uint8)


def with_mask(picture: Picture, mask: Mask, color: str = MASK, opacity: float = 0.45) -> Picture:
    """The picture with a colour and a contour over an (h, w) mask."""
    result = picture.astype(np.float32)
    result[mask] = (1 - opacity) * result[mask] + opacity * _rgb(color)
    drawn = np.ascontiguousarray(result.round().astype(np.uint8))
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, contours, -1, _rgb(color).tolist(), 2, cv2.LINE_AA)
    return drawn


def with_box(
    picture: Picture,
    place: tuple[int, int, int, int],
    color: str = BOX,
    *,
    solid: tuple[bool, bool] = (True, True),
    doubtful: str | None = None,
    edge: str = "#ffffff",
    width: int = 2,
) -> Picture:
    """The picture with a box, its lines edged so that they show on any ground.

    Dashed lines have dark edges.

    Args:
        picture: (h, w, 3).
        place: corners on the picture.
        color: of solid sides.
        solid: whether the left and right sides are solid, and the upper and lower ones; others
            are dashed.
        doubtful: colour of dashed sides; None for `color`.
        edge: colour of the edges of solid sides.
        width: of the lines, in pixels.
    """
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    x1, y1, x2, y2 = place
    down = [((x1, y1), (x1, y2)), ((x2, y1), (x2, y2))]
    across = [((x1, y1), (x2, y1)), ((x1, y2), (x2, y2))]
    pieces = []
    for sides, whole in ((down, solid[0]), (across, solid[1])):
        for side in sides:
            colors = (color, edge) if whole else (doubtful or color, INK)
            pieces += [(piece, *colors) for piece in ([side] if whole else _dashes(*side))]
    for piece, _, around in pieces:  # first all edges, so that none crosses a line
        pen.line(piece, fill=around, width=width + 2)
    for piece, ink, _ in pieces:
        pen.line(piece, fill=ink, width=width)
    return np.array(image)


def color_sample(color: str) -> Picture:
    """A patch of a colour, for legends."""
    return np.full((*_SAMPLE, 3), _rgb(color), dtype=np.uint8)


def scale_sample(colors: str = HEAT) -> Picture:
    """A bar of all colours of a matplotlib map, for legends."""
    values = np.linspace(0, 1, 6 * _SAMPLE[1], dtype=np.float32)
    return heat(np.tile(values, (_SAMPLE[0], 1)), colors=colors)


def line_sample(color: str, *, solid: bool = True) -> Picture:
    """A piece of a box's side, for legends."""
    image = Image.new("RGB", (_SAMPLE[1] * 3 // 2, _SAMPLE[0]), "#ffffff")
    y, end = _SAMPLE[0] // 2, _SAMPLE[1] * 3 // 2
    for piece in [((0, y), (end, y))] if solid else _dashes((0, y), (end, y)):
        ImageDraw.Draw(image).line(piece, fill=color, width=3)
    return np.array(image)


def _dashes(
    start: tuple[int, int], end: tuple[int, int], dash: int = 8, gap: int = 6
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Pieces of a line along one axis."""
    length = max(end[0] - start[0], end[1] - start[1])
    x, y = int(end[0] > start[0]), int(end[1] > start[1])
    pieces = []
    for first in range(0, length + 1, dash + gap):
        last = min(first + dash, length)
        pieces.append(
            (
                (start[0] + x * first, start[1] + y * first),
                (start[0] + x * last, start[1] + y * last),
            )
        )
    return pieces


def _fitted(region: tuple[float, float, float, float], cell: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a region at the largest size that fits a cell."""
    width, height = region[2] - region[0], region[3] - region[1]
    scale = min(cell[0] / height, cell[1] / width)
    return max(round(height * scale), 1), max(round(width * scale), 1)


def _rgb(color: str) -> NDArray[np.float64]:
    return np.array(ImageColor.getrgb(color), dtype=np.float64)
