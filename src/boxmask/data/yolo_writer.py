"""Writes masks as YOLO segmentation labels, and the given boxes beside them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from boxmask.data.labels import LabelledRecord, WriteReport, mask_iou
from boxmask.data.masks import decode_segmentation
from boxmask.data.output_files import FreeNames, check_not_source, link_picture, write_whole
from boxmask.data.polygons import CORE_SHIFT, mask_polygon
from boxmask.data.records import DataFolder, DataSplit
from boxmask.data.yolo_layout import beside_images
from boxmask.data.yolo_lines import BOX_FILE_HEADER, parse_yolo_line, shifted_polygon
from boxmask.errors import UserError

DECIMALS = 8
"""Decimals of normalised polygon points: a thousandth of a pixel at 100 000 pixels."""


def write_yolo(
    out: Path | str,
    split: DataSplit,
    folder: DataFolder,
    labelled: Iterable[LabelledRecord],
) -> WriteReport:
    """Writes one split as a YOLO segmentation data set; call it once for each split.

    - `images/<split>/NAME`: a link to the original picture (a copy where links are barred),
      because YOLO tools look for labels by replacing `images` in its path.
    - `labels/<split>/NAME.txt`: one line a box, in order: class and polygon, normalised. Parts
      and holes are joined by bridges of no width. An empty mask is written as its box. Crowds
      are left out, because a reader would take them for objects.
    - `boxes/<split>/NAME.txt`: the given boxes, which a polygon's extent need not equal, with
      confidence, crowd mark (0) and source id. Other tools pass it by; `read_yolo` reads it.
    - `data.yaml`: class names, `path`, and the splits written so far.

    A polygon runs inside the outermost pixels of its mask, from 0.25 to 0.49 pixels behind the
    left and upper edge of each (see `mask_polygon`). Readers that turn it into whole numbers and
    fill it with `cv2.fillPoly` (ultralytics, supervision) then get the mask and the bridges.
    Readers that fill by pixel centres (pycocotools) lose its last column and row; `read_yolo`
    knows by the box file to move the polygon first, and gets the mask.

    Args:
        out: folder to write into.
        split: the split that is written.
        folder: the data set that it belongs to.
        labelled: its pictures with masks; each is written before the next is asked for.

    Returns:
        How much of each mask `read_yolo` gets back: less than 1 only for empty masks.

    Raises:
        UserError: If `out` is the source itself, holds a data.yaml with other classes, or
            another file is in the place of a picture.
    """
    out = Path(out)
    check_not_source(out, folder.root)
    report = WriteReport()
    names = FreeNames()
    _write_yaml(out, split.name, folder)
    for item in labelled:
        picture = out / "images" / split.name / names.take(item.record.name)
        report.ious.extend(_write_picture(picture, item))
        report.num_pictures += 1
        report.num_crowds_left_out += int(item.record.crowd.sum())
    return report


def _write_picture(picture: Path, item: LabelledRecord) -> list[float]:
    """Links one picture and writes its labels and boxes; how much of each mask is kept."""
    link_picture(item.record.path, picture)
    positions = np.flatnonzero(~item.record.crowd).tolist()
    labels = [_label_line(item, position) for position in positions]
    boxes = [_box_row(item, position) for position in positions]
    _write_lines(beside_images(picture, "labels"), [line for line, _ in labels])
    _write_lines(beside_images(picture, "boxes"), [BOX_FILE_HEADER, *boxes])
    return [iou for _, iou in labels]


def _label_line(item: LabelledRecord, position: int) -> tuple[str, float]:
    """The line of one object, and its IoU with the mask once read back."""
    record = item.record
    mask = item.decode(position)
    polygon: NDArray[Any] = mask_polygon(mask)  # (P, 2)
    if not len(polygon):
        x1, y1, x2, y2 = record.boxes[position]
        polygon = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
    height, width = record.image_size
    points = (polygon / (width, height)).reshape(-1)
    words = [_decimal(value) for value in points]
    line = " ".join([str(int(record.labels[position])), *words])
    read = parse_yolo_line(line, 1, record.image_size)
    polygon_read = shifted_polygon(read.polygon, CORE_SHIFT)
    return line, mask_iou(decode_segmentation([polygon_read], record.image_size), mask)


def _box_row(item: LabelledRecord, position: int) -> str:
    record = item.record
    height, width = record.image_size
    x1, y1, x2, y2 = (float(value) for value in record.boxes[position])
    center_and_size = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height)
    center_and_size += ((x2 - x1) / width, (y2 - y1) / height)
    return " ".join(
        [
            str(int(record.labels[position])),
            *(repr(value) for value in center_and_size),
            f"{item.confidences[position]:.5g}",
            "0",
            json.dumps(record.annotation_ids[position]),
        ]
    )


def _write_yaml(out: Path, split: str, folder: DataFolder) -> None:
    """Puts the split into data.yaml, which other splits may have begun."""
    file = out / "data.yaml"
    content: dict[str, Any] = {"path": out.resolve().as_posix()}
    names = dict(enumerate(folder.class_names))
    if file.is_file():
        known = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(known, dict) or known.get("names") != names:
            raise UserError(
                "the folder holds a data set with other classes",
                where=str(file),
                fix="Write into an empty folder.",
            )
        content |= {key: known[key] for key in ("train", "val", "test") if key in known}
    content[split] = f"images/{split}"
    content |= {"nc": len(names), "names": names}
    write_whole(
        file, lambda stream: yaml.safe_dump(content, stream, sort_keys=False, allow_unicode=True)
    )


def _write_lines(path: Path, lines: list[str]) -> None:
    write_whole(path, lambda stream: stream.writelines(f"{line}\n" for line in lines))


def _decimal(value: float) -> str:
    """A number in [0, 1] without needless zeros."""
    return f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".")
