"""One annotated picture as every reader gives it and every writer takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """One picture and its N annotated objects, in pixels of the picture as shown.

    "As shown" means after the EXIF rotation that every viewer applies.

    Attributes:
        path: the picture file.
        name: its name inside the data set, with sub-folders and forward slashes; unique.
        image_size: (height, width) in pixels, as shown.
        boxes: (N, 4) float32 x1, y1, x2, y2, right and bottom exclusive, clipped to the picture.
        labels: (N,) int64 index into the data set's class names.
        annotation_ids: (N,) identity of each object in its source: a COCO annotation id, or
            `file:line` (YOLO), or `file:object number` (VOC).
        crowd: (N,) bool, boxes that stand for a group: never trained on, ignored when scoring.
        segmentations: (N,) what the source says of each object's mask, undecoded: COCO polygons
            or RLE, YOLO polygons in pixels, or None. Read by scoring, the full-mask upper bound
            and trusted masks alone.
        image_id: the source's id of the picture (COCO), else its position from 1.
        extra: anything else of the source that writers give back (COCO: the image entry).
        annotations: (N,) the source entry of each object, given back untouched by writers.
    """

    path: Path
    name: str
    image_size: tuple[int, int]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    annotation_ids: tuple[int | str, ...]
    crowd: NDArray[np.bool_]
    segmentations: tuple[Any, ...]
    image_id: int
    extra: Mapping[str, Any] = field(default_factory=dict)
    annotations: tuple[Mapping[str, Any], ...] = ()

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing wrong, or doubtful, in a data set.

    Attributes:
        level: "error" (the object or picture cannot be used) or "warning".
        where: file and line, or file and annotation id.
        what: what is wrong, in plain words.
        fix: what to do about it; may be empty for lists of many alike.
    """

    level: str
    where: str
    what: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.where}  {self.what}"


@dataclass(frozen=True, kw_only=True)
class DataSplit:
    """One split of a data set: `train`, `val` or `test`.

    Attributes:
        name: the split's name.
        records: its pictures that can be used, in the source's order.
        source: the annotation file, or the folder of annotation files, that it was read from.
    """

    name: str
    records: Sequence[ImageRecord]
    source: Path

    @property
    def num_instances(self) -> int:
        """Objects in all pictures, crowds left out."""
        return int(sum((~record.crowd).sum() for record in self.records))


@dataclass(frozen=True, kw_only=True)
class DataFolder:
    """A whole data set as found on disk.

    Attributes:
        root: the folder or file that the user named.
        format: "coco", "voc" or "yolo".
        class_names: names in the order of `labels`.
        category_ids: the source's id of each class (COCO); else 0, 1, 2, ...
        splits: by name; at least one. `train` and `val` where they could be told apart.
        problems: everything wrong or doubtful that reading met; bad objects are not in `splits`.
    """

    root: Path
    format: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    splits: Mapping[str, DataSplit]
    problems: tuple[Problem, ...] = ()

    def limited(self, count: int) -> DataFolder:
        """With the first `count` pictures of each split alone."""
        splits = {
            name: replace(split, records=split.records[:count])
            for name, split in self.splits.items()
        }
        return replace(self, splits=splits)

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that make an object or a picture unusable."""
        return tuple(problem for problem in self.problems if problem.level == "error")
