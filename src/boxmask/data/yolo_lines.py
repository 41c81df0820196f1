"""Lines of YOLO label files, and of the box files that boxmask keeps beside them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boxmask.data.polygons import CORE_SHIFT
from boxmask.data.reading import Box

BOX_FILE_HEADER = "# boxmask boxes 2: class cx cy w h confidence crowd id"
"""First line of the files that `write_yolo` puts beside the labels to keep the given boxes."""

POLYGON_SHIFTS = {
    BOX_FILE_HEADER: CORE_SHIFT,
    "# boxmask boxes 1: class cx cy w h confidence crowd id": 0.0,  # polygons on pixel edges
}
"""By the first line of the box file: pixels to add to polygons so that they fill by centres."""

VISIBILITIES = (0, 1, 2)
"""What the third number of a keypoint says: not there, hidden, visible."""

PIXEL_DECIMALS = 9
"""Decimals that pixel coordinates are rounded to: takes the noise of the division away."""


@dataclass(frozen=True, kw_only=True)
class YoloLine:
    """One line of a label file.

    Attributes:
        number: the line's number, from 1.
        class_number: the class.
        box: x1, y1, x2, y2 in pixels.
        polygon: flat x, y in pixels, or None for a plain box.
        annotation_id: identity that a box file gives it, or None.
        crowd: whether it stands for a group (box files alone know).
    """

    number: int
    class_number: int
    box: Box
    polygon: list[float] | None = None
    annotation_id: int | str | None = None
    crowd: bool = False


def parse_yolo_line(
    text: str,
    number: int,
    image_size: tuple[int, int],
    keypoint_shape: tuple[int, int] | None = None,
) -> YoloLine:
    """Parses one line of a label file.

    Args:
        text: the line.
        number: its number in the file, kept in the result.
        image_size: (height, width) of the picture.
        keypoint_shape: (keypoints, numbers of each) of pose data, whose lines are a class, a box
            and keypoints. None: longer lines are polygons, except where `_has_visibility`.

    Raises:
        ValueError: If the line has another form; says how.
    """
    words = text.split()
    values = [_number(word) for word in words]
    is_box = _is_box_line(values, keypoint_shape)
    class_number = values[0]
    if not math.isfinite(class_number) or class_number != int(class_number) or class_number < 0:
        raise ValueError(f"class is {words[0]!r}, expected a whole number from 0")
    if is_box:
        return YoloLine(
            number=number, class_number=int(class_number), box=_corners(values[1:5], image_size)
        )
    polygon = _to_pixels(values[1:], image_size)
    if not all(math.isfinite(value) for value in polygon):
        raise ValueError("polygon holds a value that is no number")
    x, y = polygon[0::2], polygon[1::2]
    box = (min(x), min(y), max(x), max(y))
    return YoloLine(number=number, class_number=int(class_number), box=box, polygon=polygon)


def parse_box_row(text: str, image_size: tuple[int, int]) -> YoloLine:
    """Parses one row of a box file; its number and polygon are left open.

    Raises:
        ValueError: If the row has another form; says how.
    """
    words = text.split(maxsplit=7)
    if len(words) != 8:
        raise ValueError(f"row has {len(words)} values, expected 8")
    annotation_id: Any = json.loads(words[7])
    return YoloLine(
        number=0,
        class_number=int(words[0]),
        box=_corners([float(word) for word in words[1:5]], image_size),
        annotation_id=annotation_id if isinstance(annotation_id, int | str) else None,
        crowd=words[6] == "1",
    )


def shifted_polygon(polygon: Sequence[float] | None, shift: float) -> list[float] | None:
    """A flat x, y polygon moved by `shift` pixels to the right and down."""
    return None if polygon is None else [value + shift for value in polygon]


def numbered_lines(file: Path) -> list[tuple[int, str]]:
    """Lines that hold something, with their numbers; none when there is no file."""
    if not file.is_file():
        return []
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    lines = enumerate(text.split("\n"), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def _is_box_line(values: Sequence[float], keypoint_shape: tuple[int, int] | None) -> bool:
    """Whether a box follows the class, perhaps with keypoints behind it; else a polygon does.

    Raises:
        ValueError: If there are too few or too many values for either.
    """
    count = len(values)
    if count == 5:
        return True
    if keypoint_shape is not None:
        keypoints, numbers = keypoint_shape
        if count == 5 + keypoints * numbers:
            return True
        raise ValueError(
            f"line has {count} values, expected 5 (class and box) or {5 + keypoints * numbers} "
            f"(and {keypoints} keypoints, as `kpt_shape` says)"
        )
    if _has_visibility(values):
        return True
    if count < 7 or count % 2 == 0:
        raise ValueError(
            f"line has {count} values, expected 5 (class and box) or a class and 3 points"
        )
    return False


def _has_visibility(values: Sequence[float]) -> bool:
    """Whether a line can only be a class, a box, and keypoints of x, y and visibility.

    Every third value from the eighth is then 0, 1 or 2. No polygon is like that where the number
    of values is even, or where one is 2: the point would lie a whole picture outside.
    """
    flags = values[7::3]
    if not flags or (len(values) - 5) % 3 or not all(flag in VISIBILITIES for flag in flags):
        return False
    return len(values) % 2 == 0 or 2 in flags


def _corners(box_cxcywh: Sequence[float], image_size: tuple[int, int]) -> Box:
    """A normalised centre and size as x1, y1, x2, y2 in pixels."""
    cx, cy, width, height = box_cxcywh
    x1, y1, x2, y2 = _to_pixels(
        [cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2], image_size
    )
    return x1, y1, x2, y2


def _to_pixels(values: Sequence[float], image_size: tuple[int, int]) -> list[float]:
    """Normalised x, y, x, y, ... in pixels."""
    height, width = image_size
    sides = (width, height)
    return [round(value * sides[k % 2], PIXEL_DECIMALS) for k, value in enumerate(values)]


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"{word!r} is no number") from None
