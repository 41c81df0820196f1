"""What all readers share: collecting problems, checking boxes, building one picture's record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from boxmask.data.masks import has_mask
from boxmask.data.records import DataSplit, ImageRecord, Problem

CLIP_TOLERANCE = 1.0
"""Pixels that a box may pass the picture's border, from rounding, without a warning."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class SplitReading:
    """One split as read, with everything wrong or doubtful that was met."""

    split: DataSplit
    problems: tuple[Problem, ...]


class ProblemLog:
    """Collects problems in the order in which they are met."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def error(self, where: str, what: str, fix: str = "") -> None:
        """Notes something that had to be left out."""
        self.problems.append(Problem(level="error", where=where, what=what, fix=fix))

    def warning(self, where: str, what: str, fix: str = "") -> None:
        """Notes something doubtful that was kept."""
        self.problems.append(Problem(level="warning", where=where, what=what, fix=fix))


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture file that a record is built for; fields as in `ImageRecord`."""

    path: Path
    name: str
    image_size: tuple[int, int]
    image_id: int
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RawObject:
    """One object as the source gives it, before any check.

    Attributes:
        box: x1, y1, x2, y2 in pixels.
        label: class index, already known to exist.
        annotation_id: its identity in the source.
        where: file and line, or file and annotation id, for messages.
        crowd: whether it stands for a group.
        segmentation: what the source says of its mask.
        annotation: the source entry.
    """

    box: Sequence[float]
    label: int
    annotation_id: int | str
    where: str
    crowd: bool = False
    segmentation: Any = None
    annotation: Mapping[str, Any] = field(default_factory=dict)


class RecordBuilder:
    """Collects the objects of one picture; a bad one becomes a problem and is left out."""

    def __init__(self, picture: Picture, log: ProblemLog) -> None:
        self._picture = picture
        self._log = log
        self._objects: list[RawObject] = []
        self._boxes: list[Box] = []
        self._seen: dict[tuple[Any, ...], str] = {}

    def add(self, raw: RawObject) -> None:
        """Checks one object and takes it in if it can be used."""
        why = box_error(raw.box, self._picture.image_size)
        if why:
            self._log.error(raw.where, why)
            return
        box = clip_box(raw.box, self._picture.image_size)
        excess = max(abs(a - b) for a, b in zip(raw.box, box, strict=True))
        if excess > CLIP_TOLERANCE:
            self._log.warning(raw.where, f"box reaches {excess:.1f} px out of the picture; clipped")
        first = self._seen.setdefault((raw.label, raw.crowd, *box), raw.where)
        if first != raw.where:
            self._log.warning(raw.where, f"same box and class as {first}")
        self._objects.append(raw)
        self._boxes.append(box)

    def build(self) -> ImageRecord:
        """The finished record."""
        objects = self._objects
        return ImageRecord(
            path=self._picture.path,
            name=self._picture.name,
            image_size=self._picture.image_size,
            boxes=np.array(self._boxes, dtype=np.float32).reshape(-1, 4),
            labels=np.array([raw.label for raw in objects], dtype=np.int64),
            annotation_ids=tuple(raw.annotation_id for raw in objects),
            crowd=np.array([raw.crowd for raw in objects], dtype=np.bool_),
            segmentations=tuple(
                raw.segmentation if has_mask(raw.segmentation) else None for raw in objects
            ),
            image_id=self._picture.image_id,
            extra=self._picture.extra,
            annotations=tuple(raw.annotation for raw in objects),
        )


def box_error(box: Sequence[float], image_size: tuple[int, int]) -> str:
    """Says why a box (x1, y1, x2, y2 in pixels) cannot be used; empty when it can."""
    if not all(math.isfinite(value) for value in box):
        return f"box {_show(box)} holds a value that is no number"
    x1, y1, x2, y2 = box
    for side, length in (("width", x2 - x1), ("height", y2 - y1)):
        if length <= 0:
            return f"box has {'zero' if length == 0 else 'negative'} {side}"
    height, width = image_size
    if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        return f"box {_show(box)} lies outside the picture, {width} x {height}"
    left, top, right, bottom = np.array(clip_box(box, image_size), dtype=np.float32)
    if right <= left or bottom <= top:
        return f"box {_show(box)} is thinner than can be stored"
    return ""


def clip_box(box: Sequence[float], image_size: tuple[int, int]) -> Box:
    """The part of a box (x1, y1, x2, y2 in pixels) that lies in the picture."""
    height, width = image_size
    x1, y1, x2, y2 = (float(value) for value in box)
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))


def declared_size_warning(
    declared: tuple[int, int], actual: tuple[int, int], *, turned: bool
) -> str:
    """Words for a picture whose (height, width) is not what its annotation says.

    Args:
        declared: (height, width) of the annotation.
        actual: (height, width) of the picture as shown; the one that is used.
        turned: whether the file's EXIF entry explains the difference.
    """
    text = f"size is given as {show_size(declared)}, the file has {show_size(actual)}"
    if turned:
        text += ": its EXIF entry turns it; boxes are taken as drawn on the turned picture"
    return text


def show_size(image_size: tuple[int, int]) -> str:
    """A size as people write it, width x height."""
    return f"{image_size[1]} x {image_size[0]}"


def relative_to(path: Path, root: Path) -> str:
    """The path as messages show it: below `root` where it is, with forward slashes."""
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.as_posix()


def _show(box: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in box) + ")"
