"""Boxes and masks drawn over pictures, each object in a colour of its own."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # import notices of no use to anybody who draws
    import supervision as sv
    from supervision.detection.compact_mask import CompactMask

from boxmask.visualization.fonts import font_path

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]

# Neighbours in this list differ in hue and in lightness.
PALETTE = (
    "#ff4b5c",
    "#1fb8ff",
    "#ffc22e",
    "#9b5cff",
    "#2fd07a",
    "#ff7f2a",
    "#3b6cff",
    "#ff5fc1",
    "#17c9c3",
    "#c7e02f",
    "#b0603a",
    "#e08bff",
)
_COLORS = sv.ColorPalette.from_hex(list(PALETTE))


@dataclass(frozen=True, kw_only=True)
class DrawStyle:
    """How objects are drawn.

    Attributes:
        opacity: of the colour laid over a mask, 0..1.
        line_width: of boxes, in thousandths of the picture's longer side; at least one pixel.
        contour_width: of masks, in the same unit; at least one pixel.
        font_size: of labels, in thousandths of the picture's longer side; at least 11 pixels.
        boxes: whether to draw boxes.
        max_labels: pictures of more objects get no labels; 0 for none at all.
        least_side: pixels; a picture whose longer side is below it is enlarged first, so that
            lines and labels do not cover small objects. 0 to never enlarge.
    """

    opacity: float = 0.45
    line_width: float = 2.2
    contour_width: float = 3.2
    font_size: float = 19.0
    boxes: bool = True
    max_labels: int = 30
    least_side: int = 0


@dataclass(frozen=True)
class _Canvas:
    """A picture being drawn on, its scale against the given one, and the colour of each object."""

    picture: Picture  # BGR, as OpenCV and supervision expect
    scale: float
    colors: NDArray[np.int64]
    style: DrawStyle

    def pixels(self, thousandths: float, least: int) -> int:
        """A length given in thousandths of the longer side, in pixels."""
        return max(least, round(max(self.picture.shape[:2]) * thousandths / 1000))


def draw_boxes(
    picture: Picture,
    boxes: Any,
    labels: Any,
    class_names: Sequence[str],
    *,
    scores: Any = None,
    style: DrawStyle | None = None,
) -> Picture:
    """Draws boxes with their class names.

    Args:
        picture: (H, W, 3) uint8 RGB; left as it is.
        boxes: (N, 4) x1, y1, x2, y2 in pixels, right and bottom exclusive.
        labels: (N,) class index from 0.
        class_names: names in the order of the labels.
        scores: (N,) in 0..1, shown beside the name, or None.
        style: how to draw; None for the defaults.

    Returns:
        A new RGB picture; larger than `picture` if the style enlarges it.
    """
    boxes = _as_boxes(boxes)
    canvas = _start(picture, boxes, style or DrawStyle())
    _add_boxes(canvas, boxes)
    _add_labels(canvas, boxes, _texts(labels, class_names, scores))
    return _finish(canvas)


def draw_masks(
    picture: Picture,
    boxes: Any,
    masks: Iterable[Mask],
    labels: Any,
    class_names: Sequence[str],
    *,
    scores: Any = None,
    style: DrawStyle | None = None,
) -> Picture:
    """Draws masks with contours, thin boxes and class names.

    Args:
        picture: (H, W, 3) uint8 RGB; left as it is.
        boxes: (N, 4) x1, y1, x2, y2 in pixels, right and bottom exclusive.
        masks: N masks, (H, W) bool; read one at a time, so that they may be decoded on the way.
        labels: (N,) class index from 0.
        class_names: names in the order of the labels.
        scores: (N,) in 0..1, shown beside the name, or None.
        style: how to draw; None for the defaults.

    Returns:
        A new RGB picture; larger than `picture` if the style enlarges it.

    Raises:
        ValueError: If the number of masks is not that of the boxes, or a mask is not of the
            picture's size.
    """
    boxes = _as_boxes(boxes)
    canvas = _start(picture, boxes, style or DrawStyle())
    _add_masks(canvas, picture.shape[:2], boxes, masks)
    if canvas.style.boxes:
        _add_boxes(canvas, boxes)
    _add_labels(canvas, boxes, _texts(labels, class_names, scores))
    return _finish(canvas)


def given_and_found(
    picture: Picture,
    given_boxes: Any,
    masks: Iterable[Mask],
    labels: Any,
    class_names: Sequence[str],
    *,
    style: DrawStyle | None = None,
) -> Picture:
    """Shows a picture twice: left with the boxes that were given, right with the masks found.

    Args:
        picture: (H, W, 3) uint8 RGB.
        given_boxes: (N, 4) x1, y1, x2, y2 in pixels.
        masks: N masks, (H, W) bool, one per box.
        labels: (N,) class index from 0.
        class_names: names in the order of the labels.
        style: how to draw; None for the defaults, with small pictures enlarged to 720 pixels.

    Returns:
        One RGB picture, both halves side by side with a white gap.
    """
    style = style or DrawStyle(least_side=720)
    left = draw_boxes(picture, given_boxes, labels, class_names, style=style)
    # The left half names the objects and shows their boxes well already.
    plain = replace(style, max_labels=0, line_width=style.line_width / 2)
    right = draw_masks(picture, given_boxes, masks, labels, class_names, style=plain)
    gap = np.full((left.shape[0], max(4, left.shape[1] // 80), 3), 255, dtype=np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def instance_colors(boxes: NDArray[np.float64]) -> NDArray[np.int64]:
    """Chooses a colour for each object, so that objects whose boxes touch differ.

    Args:
        boxes: (N, 4) x1, y1, x2, y2 in pixels.

    Returns:
        (N,) index into `PALETTE`. Colours repeat only where more boxes meet than there are colours.
    """
    colors = np.zeros(len(boxes), dtype=np.int64)
    for index, (x1, y1, x2, y2) in enumerate(boxes):
        before = boxes[:index]
        touching = (before[:, 0] <= x2) & (before[:, 2] >= x1)
        touching &= (before[:, 1] <= y2) & (before[:, 3] >= y1)
        uses = np.bincount(colors[:index][touching], minlength=len(PALETTE))
        # Among the colours least used nearby, go on through the palette from this object's place.
        colors[index] = min(
            range(len(PALETTE)), key=lambda color: (uses[color], (color - index) % len(PALETTE))
        )
    return colors


def _as_boxes(boxes: Any) -> NDArray[np.float64]:
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4)


def _start(picture: Picture, boxes: NDArray[np.float64], style: DrawStyle) -> _Canvas:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        got = f"{picture.dtype} of shape {picture.shape}"
        raise ValueError(f"picture: expected (H, W, 3) uint8, got {got}")
    height, width = picture.shape[:2]
    scale = max(1.0, style.least_side / max(height, width))
    canvas = np.ascontiguousarray(picture[..., ::-1])
    if scale > 1:
        size = (round(width * scale), round(height * scale))
        canvas = cv2.resize(canvas, size, interpolation=cv2.INTER_CUBIC)
    return _Canvas(np.asarray(canvas, dtype=np.uint8), scale, instance_colors(boxes), style)


def _finish(canvas: _Canvas) -> Picture:
    return np.ascontiguousarray(canvas.picture[..., ::-1])


def _detections(canvas: _Canvas, boxes: NDArray[np.float64], masks: Any = None) -> sv.Detections:
    """Boxes on the canvas; their last pixels, not the first ones outside, are drawn."""
    scaled = boxes * canvas.scale - [0, 0, 1, 1]
    return sv.Detections(xyxy=scaled.astype(np.float32), mask=masks, class_id=canvas.colors)


def _add_masks(
    canvas: _Canvas, image_size: tuple[int, ...], boxes: NDArray[np.float64], masks: Iterable[Mask]
) -> None:
    """Lays a colour over every mask and draws its contour."""
    size = canvas.picture.shape[:2]
    packed, contours = [], []
    for mask in masks:
        if mask.shape != tuple(image_size):
            raise ValueError(f"masks: expected size {tuple(image_size)}, got {mask.shape}")
        pixels = _scale_mask(mask, size)
        x, y, width, height = cv2.boundingRect(pixels)
        right, bottom = max(x + 1, x + width), max(y + 1, y + height)
        frame = np.array([[x, y, right - 1, bottom - 1]])
        packed.append(CompactMask.from_dense(pixels[None].astype(bool), frame, size))
        crop = np.pad(pixels[y:bottom, x:right], 1)  # contours of the crop alone: far less to walk
        offset = (x - 1, y - 1)
        found = cv2.findContours(crop, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=offset)
        contours.append(found[0])
    if len(packed) != len(boxes):
        raise ValueError(f"masks: got {len(packed)} for {len(boxes)} boxes")
    if not packed:
        return
    detections = _detections(canvas, boxes, CompactMask.merge(packed))
    annotator = sv.MaskAnnotator(_COLORS, opacity=canvas.style.opacity)
    canvas.picture[:] = annotator.annotate(canvas.picture, detections)
    thickness = canvas.pixels(canvas.style.contour_width, 1)
    for color, contour in zip(canvas.colors.tolist(), contours, strict=True):
        bgr = sv.Color.from_hex(PALETTE[color]).as_bgr()
        cv2.drawContours(canvas.picture, contour, -1, bgr, thickness, cv2.LINE_AA)


def _scale_mask(mask: Mask, size: tuple[int, ...]) -> NDArray[np.uint8]:
    """The mask at the canvas's (height, width), as zeros and ones."""
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    if mask.shape == size:
        return pixels
    # Linear steps cut at one half keep edges smooth where the picture is enlarged.
    scaled = cv2.resize(pixels.astype(np.float32), size[::-1])
    return (scaled >= 0.5).astype(np.uint8)


def _add_boxes(canvas: _Canvas, boxes: NDArray[np.float64]) -> None:
    thickness = canvas.pixels(canvas.style.line_width, 1)
    annotator = sv.BoxAnnotator(_COLORS, thickness=thickness)
    canvas.picture[:] = annotator.annotate(canvas.picture, _detections(canvas, boxes))


def _add_labels(canvas: _Canvas, boxes: NDArray[np.float64], texts: list[str]) -> None:
    """Writes names beside the boxes, moved apart where they would overlap."""
    if len(texts) != len(boxes):
        raise ValueError(f"labels: got {len(texts)} for {len(boxes)} boxes")
    if not texts or len(texts) > canvas.style.max_labels:
        return
    annotator = sv.RichLabelAnnotator(
        _COLORS,
        text_color=sv.ColorPalette.from_hex([_text_color(color) for color in PALETTE]),
        font_path=str(font_path()),
        font_size=canvas.pixels(canvas.style.font_size, 11),
        text_padding=canvas.pixels(canvas.style.font_size / 4, 3),
        smart_position=True,
    )
    canvas.picture[:] = annotator.annotate(canvas.picture, _detections(canvas, boxes), texts)


def _text_color(background: str) -> str:
    """Black or white, whichever reads better on the colour."""
    red, green, blue = bytes.fromhex(background[1:])
    return "#10131a" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"


def _texts(labels: Any, class_names: Sequence[str], scores: Any) -> list[str]:
    names = [class_names[label] for label in np.asarray(labels, dtype=np.int64).tolist()]
    if scores is None:
        return names
    return [f"{name} {float(score):.2f}" for name, score in zip(names, scores, strict=True)]
