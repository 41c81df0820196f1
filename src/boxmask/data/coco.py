"""Reads COCO instance files: one JSON a split, boxes needed, segmentations never."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boxmask.data.coco_layout import split_of
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


@dataclass(frozen=True, kw_only=True)
class CocoFile:
    """A COCO file in memory.

    Attributes:
        path: the JSON file.
        content: the whole JSON object.
    """

    path: Path
    content: Mapping[str, Any]

    @property
    def shown(self) -> str:
        """The file as messages name it: with its folder where that tells the split."""
        parent = self.path.parent.name
        return f"{parent}/{self.path.name}" if split_of(parent) else self.path.name

    def entries(self, key: str) -> list[Any]:
        """The list under `key`; empty when it is absent."""
        return self.content.get(key) or []


@dataclass(frozen=True, kw_only=True)
class ClassTable:
    """Classes of a whole data set.

    Attributes:
        names: in the order of labels.
        category_ids: the source's id of each.
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...]


def load_coco(path: Path | str) -> CocoFile:
    """Loads a COCO JSON file.

    Raises:
        UserError: If it is missing, no JSON (with line and column), or not of COCO's form.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError("annotation file is missing", where=str(path)) from error
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}:{error.colno}"
        raise UserError(f"file is no JSON: {error.msg}", where=where) from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"file cannot be read ({error})", where=str(path)) from error
    missing = [key for key in ("images", "categories") if not _is_list(content, key)]
    if missing:
        raise UserError(
            f"file is no COCO instance file: it has no list {missing[0]!r}",
            where=str(path),
            fix="Expected an object with the lists images, annotations and categories.",
        )
    if not isinstance(content.get("annotations") or [], list):
        raise UserError("'annotations' is no list", where=str(path))
    return CocoFile(path=path, content=content)


def class_table(files: Sequence[CocoFile], log: ProblemLog) -> ClassTable:
    """Joins the categories of all splits by name, in the order of their ids.

    Two ids of one name in a file become one class, with a warning; the id that has boxes counts.
    """
    ids_by_name: dict[str, int] = {}
    for file in files:
        used = {a["category_id"] for a in file.entries("annotations") if _is_classed(a)}
        names = _category_names(file, log)
        known = set(ids_by_name)
        for raw_id, name in sorted(names.items(), key=lambda item: item[0] not in used):
            if name in ids_by_name:
                continue
            taken = not isinstance(raw_id, int) or raw_id in ids_by_name.values()
            if taken and known:
                log.warning(
                    f"{file.shown}: category {raw_id}",
                    f"id is another class in {files[0].shown}; classes are matched by name",
                )
            ids_by_name[name] = _free_id(ids_by_name) if taken else int(raw_id)
    ordered = sorted(ids_by_name.items(), key=lambda item: item[1])
    return ClassTable(
        names=tuple(name for name, _ in ordered), category_ids=tuple(i for _, i in ordered)
    )


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
        folders = [picture_folder]
    else:
        folders = [*_noted_folders(file), *picture_folders(file.path, name)]
    pictures = _read_images(file, folders, log)
    records = _read_annotations(file, pictures, classes, log)
    split = DataSplit(name=name, records=records, source=file.path)
    return SplitReading(split=split, problems=tuple(log.problems))


def _noted_folders(file: CocoFile) -> list[Path]:
    """Picture folders that `write_coco` noted in the file, relative to it or absolute."""
    noted = file.content.get("boxmask")
    folders = noted.get("picture_folders") if isinstance(noted, Mapping) else None
    if not isinstance(folders, list):
        return []
    return [file.path.parent / folder for folder in folders if isinstance(folder, str)]


def _read_images(
    file: CocoFile, folders: Sequence[Path], log: ProblemLog
) -> dict[int | str, Picture | None]:
    """Pictures by raw id; None for one that is listed but cannot be used."""
    entries = _good_image_entries(file, log)
    found = resolve_pictures([e["file_name"] for e in entries], folders, source=file.path)
    sizes = iter(picture_sizes([path for path in found if path is not None]))
    pictures: dict[int | str, Picture | None] = {}
    for position, (entry, path) in enumerate(zip(entries, found, strict=True), start=1):
        where = f"{file.shown}: image {entry['id']}"
        size = None if path is None else next(sizes)
        if path is None or not isinstance(size, tuple):
            why = "picture file is missing" if size is None else size.what
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
        if not _has_id(entry):
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
    height, width = entry.get("height"), entry.get("width")
    if not isinstance(height, int) or not isinstance(width, int) or (height, width) == size:
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
    names = _category_names(file, ProblemLog())
    labels = {raw: classes.names.index(name) for raw, name in names.items()}
    seen: set[int | str] = set()
    for position, entry in enumerate(file.entries("annotations")):
        if not _has_id(entry):
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
    if not _is_id(image_id) or image_id not in pictures:
        return f"image {image_id!r} is not among the usable images"
    if not _is_id(category) or category not in labels:
        return f"class {category!r} is not in categories"
    if not isinstance(box, list) or len(box) != 4:
        return f"bbox is {box!r}, expected [x, y, width, height]"
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in box):
        return f"bbox {box!r} holds something that is no number"
    return ""


def _raw_object(entry: Mapping[str, Any], label: int, where: str) -> RawObject:
    x, y, width, height = (_as_float(value) for value in entry["bbox"])
    return RawObject(
        box=(x, y, x + width, y + height),
        label=label,
        annotation_id=entry["id"],
        where=where,
        crowd=bool(entry.get("iscrowd") or 0),
        segmentation=entry.get("segmentation"),
        annotation=entry,
    )


def _category_names(file: CocoFile, log: ProblemLog) -> dict[int | str, str]:
    """Names by raw id; what is broken or double becomes a problem."""
    names: dict[int | str, str] = {}
    for position, entry in enumerate(file.entries("categories")):
        where = f"{file.shown}: categories[{position}]"
        if not _has_id(entry):
            log.error(where, "category has no usable id")
            continue
        name = str(entry.get("name") or entry["id"])
        if entry["id"] in names:
            log.error(where, f"category id {entry['id']} is used twice")
            continue
        if name in names.values():
            log.warning(where, f"class name {name!r} is used twice; taken as one class")
        names[entry["id"]] = name
    return names


def _free_id(ids_by_name: Mapping[str, int]) -> int:
    return max(ids_by_name.values(), default=0) + 1


def _as_float(value: float) -> float:
    """A JSON number as a float; whole numbers too large for one become infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _is_list(content: Any, key: str) -> bool:
    return isinstance(content, Mapping) and isinstance(content.get(key), list)


def _is_classed(entry: Any) -> bool:
    return isinstance(entry, Mapping) and _is_id(entry.get("category_id"))


def _has_id(entry: Any) -> bool:
    return isinstance(entry, Mapping) and _is_id(entry.get("id"))


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)
