"""Reads Pascal VOC folders: one XML file a picture, masks as index pictures beside them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from boxmask.data.pictures import is_turned, picture_sizes
from boxmask.data.reading import (
    Picture,
    ProblemLog,
    RawObject,
    RecordBuilder,
    declared_size_warning,
    relative_to,
)
from boxmask.data.records import DataFolder, DataSplit, ImageRecord
from boxmask.data.spelling import composed
from boxmask.data.voc_layout import VocSplit, class_file, voc_root, voc_splits
from boxmask.errors import UserError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, kw_only=True)
class VocFile:
    """One parsed XML file.

    Attributes:
        path: the file.
        shown: the file as messages name it.
        stem: its name without ending, inside its split.
        file_name: the picture's name that it gives; may be empty or wrong.
        declared: (height, width) that it gives, or None.
        objects: `index` (from 1, the pixel value in index pictures), `name`, `box` (as written,
            values that are no numbers are NaN; None when absent), `crowd`, `difficult`,
            `source_id` (an id that `write_voc` kept, or None).
    """

    path: Path
    shown: str
    stem: str
    file_name: str
    declared: tuple[int, int] | None
    objects: Sequence[Mapping[str, Any]]


def read_voc(root: Path | str) -> DataFolder:
    """Reads a VOC folder with all its splits.

    VOC's corners are 1-based and inclusive, so x1 = xmin - 1 and x2 = xmax. Class names come from
    a class list (`class_names.txt`, `labels.txt`, ...) where there is one, else from the objects,
    sorted. Where SegmentationObject/NAME.png exists, object k owns the pixels of value k.

    Raises:
        UserError: If the folder holds no VOC files.
    """
    root = Path(root)
    base = voc_root(root)
    if base is None:
        raise UserError("folder holds no Pascal VOC files", where=str(root))
    log = ProblemLog()
    splits = voc_splits(base)
    parsed = {split.name: _parse_split(split, root, log) for split in splits}
    names = _class_names(base, [file for files in parsed.values() for file in files])
    read = {}
    for split in splits:
        records = _read_split(split, parsed[split.name], names, log)
        read[split.name] = DataSplit(name=split.name, records=records, source=split.source)
    return DataFolder(
        root=root,
        format="voc",
        class_names=names,
        category_ids=tuple(range(len(names))),
        splits=read,
        problems=tuple(log.problems),
    )


def parse_voc(path: Path, *, shown: str, stem: str) -> VocFile:
    """Parses one XML file.

    Raises:
        UserError: If it is missing, no XML (with line and column), or not of VOC's form.
    """
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except ElementTree.ParseError as error:
        line, column = error.position
        raise UserError(f"file is no XML: {error}", where=f"{shown}:{line}:{column + 1}") from error
    except FileNotFoundError as error:
        raise UserError("annotation file is missing", where=shown) from error
    except (OSError, ValueError, LookupError) as error:
        raise UserError(f"file cannot be read ({error})", where=shown) from error
    size = tuple(_number(root.findtext(f"size/{side}")) for side in ("height", "width"))
    known = all(math.isfinite(side) and side > 0 for side in size)
    return VocFile(
        path=path,
        shown=shown,
        stem=stem,
        file_name=(root.findtext("filename") or "").strip(),
        declared=(int(size[0]), int(size[1])) if known else None,
        objects=[_object(node, k) for k, node in enumerate(root.findall("object"), start=1)],
    )


def _object(node: ElementTree.Element, index: int) -> dict[str, Any]:
    box = node.find("bndbox")
    return {
        "index": index,
        "name": (node.findtext("name") or "").strip(),
        "box": None if box is None else tuple(_number(box.findtext(side)) for side in _CORNERS),
        "source_id": _source_id(node.findtext("source_id")),
        "crowd": (node.findtext("crowd") or "").strip() == "1",
        "difficult": (node.findtext("difficult") or "").strip() == "1",
    }


def _parse_split(split: VocSplit, root: Path, log: ProblemLog) -> list[VocFile]:
    files = []
    for stem in split.stems:
        path = split.xml_file(stem)
        try:
            files.append(parse_voc(path, shown=relative_to(path, root), stem=stem))
        except UserError as error:
            log.error(error.where, error.what)
    return files


def _class_names(root: Path, files: Sequence[VocFile]) -> tuple[str, ...]:
    listed = class_file(root)
    if listed is not None:
        lines = listed.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        return tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    return tuple(sorted({obj["name"] for file in files for obj in file.objects if obj["name"]}))


def _read_split(
    split: VocSplit, files: Sequence[VocFile], names: Sequence[str], log: ProblemLog
) -> list[ImageRecord]:
    labels = {name: label for label, name in enumerate(names)}
    found = [split.find_picture(file.stem, file.file_name) for file in files]
    sizes = iter(picture_sizes([match[0] for match in found if match is not None]))
    records: list[ImageRecord] = []
    used: set[str] = set()
    for file, match in zip(files, found, strict=True):
        size = None if match is None else next(sizes)
        if match is None or not isinstance(size, tuple):
            why = size.what if isinstance(size, UserError) else "picture file is missing"
            log.error(file.shown, f"{why}; its {len(file.objects)} boxes are left out")
        elif match[1] in used:
            log.error(file.shown, f"picture {match[1]} already belongs to another file")
        else:
            used.add(match[1])
            picture = _picture(split, file, match, size, len(records) + 1)
            records.append(_read_objects(file, picture, labels, log))
    _warn_without_xml(split, files, log)
    return records


def _picture(
    split: VocSplit, file: VocFile, match: tuple[Path, str], size: tuple[int, int], number: int
) -> Picture:
    path, name = match
    extra = {"xml": file.path, "masks": split.mask_file(file.stem), "declared": file.declared}
    return Picture(path=path, name=name, image_size=size, image_id=number, extra=extra)


def _read_objects(
    file: VocFile, picture: Picture, labels: Mapping[str, int], log: ProblemLog
) -> ImageRecord:
    if file.declared is not None and file.declared != picture.image_size:
        swapped = file.declared == picture.image_size[::-1] and is_turned(picture.path)
        text = declared_size_warning(file.declared, picture.image_size, turned=swapped)
        log.warning(file.shown, text)
    builder = RecordBuilder(picture, log)
    masks = picture.extra["masks"]
    for entry in file.objects:
        where = f"{file.shown}: object {entry['index']}"
        if entry["box"] is None:
            log.error(where, "object has no bndbox")
        elif entry["name"] not in labels:
            log.error(where, f"class {entry['name']!r} is not among the data set's classes")
        else:
            xmin, ymin, xmax, ymax = entry["box"]
            given = entry["source_id"]
            raw = RawObject(
                box=(xmin - 1, ymin - 1, xmax, ymax),
                label=labels[entry["name"]],
                annotation_id=f"{file.shown}:{entry['index']}" if given is None else given,
                where=where,
                crowd=entry["crowd"],
                segmentation=None if masks is None else {"png": masks, "index": entry["index"]},
                annotation=entry,
            )
            builder.add(raw)
    return builder.build()


def _warn_without_xml(split: VocSplit, files: Sequence[VocFile], log: ProblemLog) -> None:
    """One warning for the pictures of a split's own folder that no XML file speaks of."""
    if split.source.is_file():
        return
    known = {composed(stem) for stem in (*(file.stem for file in files), *split.stems)}
    stems = dict.fromkeys(stem for _, by_stem in split.pictures_by_stem for stem in by_stem)
    lost = [stem for stem in stems if stem not in known]
    if lost:
        text = f"{len(lost)} pictures have no annotation file and are left out, first {lost[0]}"
        log.warning(split.source.name, text)


def _source_id(text: str | None) -> int | str | None:
    """The id that `write_voc` kept of an earlier source; None where there is none."""
    try:
        value = json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _number(text: str | None) -> float:
    """The number that a tag holds; NaN when it holds none."""
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
