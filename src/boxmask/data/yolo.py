"""Reads YOLO folders: one text file a picture, lines of normalised boxes or polygons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from boxmask.data.pictures import picture_sizes
from boxmask.data.reading import (
    Picture,
    ProblemLog,
    RawObject,
    RecordBuilder,
    relative_to,
)
from boxmask.data.records import DataFolder, DataSplit, ImageRecord
from boxmask.data.yolo_classes import CLASS_LIST, NAMES_FIX
from boxmask.data.yolo_layout import (
    YoloLayout,
    YoloSplit,
    beside_images,
    find_yaml,
    layout_of_yaml,
    layout_without_yaml,
    text_of_picture,
)
from boxmask.data.yolo_lines import (
    POLYGON_SHIFTS,
    YoloLine,
    numbered_lines,
    parse_box_row,
    parse_yolo_line,
    shifted_polygon,
)
from boxmask.errors import UserError


def read_yolo(root: Path | str) -> DataFolder:
    """Reads a YOLO folder, or its YAML file, with all its splits.

    A label is `class cx cy w h`, or `class x1 y1 x2 y2 x3 y3 ...` (the box is the polygon's
    extent), all but the class divided by the picture's width and height. Where a `boxes` folder
    written by boxmask lies beside `labels`, boxes, crowds and ids come from there.

    Raises:
        UserError: If nothing is found that looks like YOLO.
    """
    root = Path(root)
    log = ProblemLog()
    layout = _layout(root, log)
    base = root if root.is_dir() else root.parent
    names = layout.names
    if names is None:
        names = _numbered_names(layout)
        text = "nothing names the classes; they are called by their numbers"
        log.warning(base.name, text, NAMES_FIX)
        layout = replace(layout, names=names)
    splits = {}
    for split in layout.splits:
        records = _read_split(split, layout, base, log)
        splits[split.name] = DataSplit(name=split.name, records=records, source=split.source)
    return DataFolder(
        root=root,
        format="yolo",
        class_names=names,
        category_ids=tuple(range(len(names))),
        splits=splits,
        problems=tuple(log.problems),
    )


def _layout(root: Path, log: ProblemLog) -> YoloLayout:
    file = root if root.is_file() else find_yaml(root)
    layout = layout_of_yaml(file, log) if file else layout_without_yaml(root)
    if layout is None:
        raise UserError("folder holds no YOLO labels", where=str(root))
    return layout


def _read_split(
    split: YoloSplit, layout: YoloLayout, root: Path, log: ProblemLog
) -> list[ImageRecord]:
    records: list[ImageRecord] = []
    without: list[str] = []
    used: set[str] = set()
    sizes = picture_sizes([path for path, _ in split.pictures])
    for (path, name), size in zip(split.pictures, sizes, strict=True):
        where = relative_to(path, root)
        if not isinstance(size, tuple):
            log.error(where, f"{size.what}; its boxes are left out")
            continue
        if name in used:
            log.error(where, f"another picture of the split is called {name}, too")
            continue
        used.add(name)
        labels = text_of_picture(path)
        if not labels.is_file():
            without.append(where)
        picture = Picture(path=path, name=name, image_size=size, image_id=len(records) + 1)
        records.append(_read_labels(labels, picture, layout, root, log))
    if without:
        text = f"{len(without)} pictures have no label file and count as empty, first {without[0]}"
        log.warning(f"{split.name}: {relative_to(split.source, root)}", text)
    _find_orphans(split, root, log)
    return records


def _read_labels(
    file: Path, picture: Picture, layout: YoloLayout, root: Path, log: ProblemLog
) -> ImageRecord:
    """The record of one picture."""
    names = layout.names or ()
    shown = relative_to(file, root)
    builder = RecordBuilder(picture, log)
    lines = []
    for number, text in numbered_lines(file):
        try:
            lines.append(parse_yolo_line(text, number, picture.image_size, layout.keypoint_shape))
        except ValueError as error:
            log.error(f"{shown}:{number}", str(error))
    for line in _with_given_boxes(lines, text_of_picture(picture.path, "boxes"), picture, log):
        where = f"{shown}:{line.number}"
        if line.class_number >= len(names):
            text = (
                f"class {line.class_number}, but {layout.class_source} names {len(names)} classes"
            )
            log.error(where, text)
            continue
        builder.add(
            RawObject(
                box=line.box,
                label=line.class_number,
                annotation_id=where if line.annotation_id is None else line.annotation_id,
                where=where,
                crowd=line.crowd,
                segmentation=None if line.polygon is None else [line.polygon],
            )
        )
    return builder.build()


def _with_given_boxes(
    lines: Sequence[YoloLine], file: Path, picture: Picture, log: ProblemLog
) -> Sequence[YoloLine]:
    """Puts the boxes, ids and crowd marks of a box file into the label lines it was made for.

    Polygons of other tools are filled as they stand: theirs may lie on edges or on centres.
    """
    rows = numbered_lines(file) if lines else []
    if not rows or rows[0][1] not in POLYGON_SHIFTS:
        return lines
    shift = POLYGON_SHIFTS[rows[0][1]]
    try:
        given = [parse_box_row(text, picture.image_size) for _, text in rows[1:]]
    except (ValueError, RecursionError) as error:
        log.warning(str(file), f"box file is broken and left out ({error})")
        return lines
    if [g.class_number for g in given] != [line.class_number for line in lines]:
        log.warning(str(file), "box file does not fit the label file and is left out")
        return lines
    return [
        YoloLine(
            number=line.number,
            class_number=line.class_number,
            box=row.box,
            polygon=shifted_polygon(line.polygon, shift),
            annotation_id=row.annotation_id,
            crowd=row.crowd,
        )
        for line, row in zip(lines, given, strict=True)
    ]


def _find_orphans(split: YoloSplit, root: Path, log: ProblemLog) -> None:
    """One error for each label file of the split's folders that has no picture."""
    known = {text_of_picture(path) for path, _ in split.pictures}
    for folder in split.folders:
        labels = beside_images(folder / "x", "labels").parent
        for file in sorted(labels.rglob("*.txt")):
            if file.name == CLASS_LIST:
                continue
            if file not in known and (labels != folder or _starts_like_labels(file)):
                log.error(relative_to(file, root), "label file has no picture")


def _starts_like_labels(file: Path) -> bool:
    """Whether the first line is a label: text files of other kinds may lie beside pictures."""
    rows = numbered_lines(file)
    try:
        return bool(rows) and parse_yolo_line(rows[0][1], 1, (1, 1)).class_number >= 0
    except ValueError:
        return False


def _numbered_names(layout: YoloLayout) -> tuple[str, ...]:
    """Numbers as names, up to the highest class of all label files."""
    highest = -1
    for split in layout.splits:
        for path, _ in split.pictures:
            for _, text in numbered_lines(text_of_picture(path)):
                word = text.split()[0]
                if word.isascii() and word.isdigit() and len(word) < 6:
                    highest = max(highest, int(word))
    return tuple(str(number) for number in range(highest + 1))
