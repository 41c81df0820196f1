"""Reads COCO instance files: one JSON a split, boxes needed, segmentations never."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from boxmask.data.coco_file import (
    ClassTable,
    CocoFile,
    category_names,
    class_table,
    has_id,
    is_id,
    load_coco,
)
from boxmask.data.coco_pictures import picture_folders, resolve_pictures, safe_name
from boxmask.data.pictures import is_turned, picture_sizes
from boxmask.data.reading import (
    Picture,
    ProblemLog,
    RawObject,
    RecordBuilder,
    SplitReading,
    declared_size_warning,
)
from boxmask.data.records import DataSplit, ImageRecord
from boxmask.errors import UserError

CROWD_WORDS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
"""What `iscrowd` may be, as text."""


def read_coco(
    source: CocoFile | Path | str,
    *,
    name: str = "train",
    classes: ClassTable | None = None,
    picture_folder: Path | None = None,
) -> SplitReading:
    """Reads one split.

    Args:
        source: the JSON file, or the same already loaded.
        name: name of the split; also helps to find its pictures.
        classes: classes of the whole data set; those of this file when None.
        picture_folder: where `file_name` starts; looked for near the file when None.

    Returns:
        The split with all pictures and boxes that can be used, and the problems.

    Raises:
        UserError: If the file cannot be read, or not one of its pictures is found.
    """
    file = source if isinstance(source, CocoFile) else load_coco(source)
    log = ProblemLog()
    classes = classes or class_table([file], log)
    if picture_folder is not None:
        tiers = [[picture_folder]]
    else:
        tiers = [_noted_folders(file), *picture_folders(file.path, name)]
    pictures = _read_images(file, tiers, log)
    records = _read_annotations(file, pictures, classes, log)
    split = DataSplit(name=name, records=records, source=file.path)
    return SplitReading(split=split, problems=tuple(log.problems))


def _noted_folders(file: CocoFile) -> list[Path]:
    """Picture folders that `write_coco` noted in the file, relative to it or absolute."""
    noted = file.content.get("boxmask")
    folders = noted.get("picture_folders") if isinstance(noted, Mapping) else None
    if not isinstance(folders, list):
        return []
    return [(file.path.parent / f).resolve() for f in folders if isinstance(f, str)]


def _read_images(
    file: CocoFile, tiers: Sequence[Sequence[Path]], log: ProblemLog
) -> dict[int | str, Picture | None]:
    """Pictures by raw id; None for one that is listed but cannot be used."""
    entries = _good_image_entries(file, log)
    found = resolve_pictures([e["file_name"] for e in entries], tiers, source=file.path)
    sizes = iter(picture_sizes([path for path in found if path is not None]))
    pictures: dict[int | str, Picture | None] = {}
    for position, (entry, path) in enumerate(zip(entries, found, strict=True), start=1):
        where = f"{file.shown}: image {entry['id']}"
        size = None if path is None else next(sizes)
        if path is None or not isinstance(size, tuple):
            why = size.what if isinstance(size, UserError) else "picture file is missing"
            log.error(where, f"{entry['file_name']}: {why}; its boxes are left out")
            pictures[entry["id"]] = None
            continue
        _check_declared_size(entry, path, size, where, log)
        pictures[entry["id"]] = Picture(
            path=path,
            name=safe_name(entry["file_name"]),
            image_size=size,
            image_id=entry["id"] if isinstance(entry["id"], int) else position,
            extra=entry,
        )
    return pictures


def _good_image_entries(file: CocoFile, log: ProblemLog) -> list[Mapping[str, Any]]:
    """Image entries with an id and a file name that are both new."""
    good: list[Mapping[str, Any]] = []
    ids: set[int | str] = set()
    names: set[str] = set()
    for position, entry in enumerate(file.entries("images")):
        where = f"{file.shown}: images[{position}]"
        if not has_id(entry):
            log.error(where, "image entry has no usable id")
        elif not isinstance(entry.get("file_name"), str) or not entry["file_name"].strip():
            log.error(where, f"image {entry['id']} has no file_name")
        elif entry["id"] in ids:
            log.error(where, f"image id {entry['id']} is used twice")
        elif safe_name(entry["file_name"]) in names:
            log.error(where, f"file {entry['file_name']} is listed twice")
        else:
            ids.add(entry["id"])
            names.add(safe_name(entry["file_name"]))
            good.append(entry)
    return good


def _check_declared_size(
    entry: Mapping[str, Any], path: Path, size: tuple[int, int], where: str, log: ProblemLog
) -> None:
    height, width = (_whole_number(entry.get(side)) for side in ("height", "width"))
    if height is None or width is None or (height, width) == size:
        return
    turned = (height, width) == size[::-1] and is_turned(path)
    log.warning(where, declared_size_warning((height, width), size, turned=turned))


def _read_annotations(
    file: CocoFile,
    pictures: Mapping[int | str, Picture | None],
    classes: ClassTable,
    log: ProblemLog,
) -> list[ImageRecord]:
    builders = {key: RecordBuilder(pic, log) for key, pic in pictures.items() if pic is not None}
    names = category_names(file, ProblemLog())
    labels = {raw: classes.names.index(name) for raw, name in names.items()}
    seen: set[int | str] = set()
    for position, entry in enumerate(file.entries("annotations")):
        if not has_id(entry):
            log.error(f"{file.shown}: annotations[{position}]", "annotation has no usable id")
            continue
        where = f"{file.shown}: annotation {entry['id']}"
        if entry["id"] in seen:
            log.error(where, "annotation id is used twice")
            continue
        seen.add(entry["id"])
        why = _annotation_error(entry, pictures, labels)
        builder = None if why else builders.get(entry["image_id"])
        if why:
            log.error(where, why)
        elif builder is not None:
            builder.add(_raw_object(entry, labels[entry["category_id"]], where))
    return [builder.build() for builder in builders.values()]


def _annotation_error(
    entry: Mapping[str, Any],
    pictures: Mapping[int | str, Picture | None],
    labels: Mapping[int | str, int],
) -> str:
    """Why an annotation cannot be used; empty when nothing is wrong but perhaps its box."""
    image_id, category, box = (entry.get(key) for key in ("image_id", "category_id", "bbox"))
    if not is_id(image_id) or image_id not in pictures:
        return f"image {image_id!r} is not among the usable images"
    if not is_id(category) or category not in labels:
        return f"class {category!r} is not in categories"
    if not isinstance(box, list) or len(box) != 4:
        given = "missing" if box is None else repr(box)
        return f"bbox is {given}, expected [x, y, width, height]"
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in box):
        return f"bbox {box!r} holds something that is no number"
    if _crowd(entry.get("iscrowd")) is None:
        return f"iscrowd is {entry['iscrowd']!r}, expected 0 or 1"
    return ""


def _raw_object(entry: Mapping[str, Any], label: int, where: str) -> RawObject:
    x, y, width, height = (_as_float(value) for value in entry["bbox"])
    return RawObject(
        box=(x, y, x + width, y + height),
        label=label,
        annotation_id=entry["id"],
        where=where,
        crowd=bool(_crowd(entry.get("iscrowd"))),
        segmentation=entry.get("segmentation"),
        annotation=entry,
    )


def _crowd(value: Any) -> bool | None:
    """What `iscrowd` says, be it a number, a text or true or false; None for anything else."""
    return False if value is None else CROWD_WORDS.get(str(value).strip().lower())


def _whole_number(value: Any) -> int | None:
    """A side of a picture, also as text or with decimals that are 0; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
        return int(number) if number == int(number) else None
    except (ValueError, OverflowError):
        return None


def _as_float(value: float) -> float:
    """A JSON number as a float; whole numbers too large for one become infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf
