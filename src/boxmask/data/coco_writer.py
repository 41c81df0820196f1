"""Writes masks into COCO files; everything else of a COCO source stays as it was."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from boxmask.data.coco_file import has_id, load_coco
from boxmask.data.labels import LabelledRecord, WriteReport
from boxmask.data.masks import encode_mask, mask_area
from boxmask.data.output_files import check_not_source, relative_posix, write_whole
from boxmask.data.records import DataFolder, DataSplit, ImageRecord

SCORE_DECIMALS = 5
"""Decimals of the written confidences."""


def write_coco(
    out_file: Path | str,
    split: DataSplit,
    folder: DataFolder,
    labelled: Iterable[LabelledRecord],
) -> WriteReport:
    """Writes one split as a COCO instance file.

    Of a COCO source all keys, pictures, boxes and ids are kept; `segmentation` (compressed RLE),
    `area` and `score` (the confidence) are put into the annotations by id, and `iscrowd` where it
    is absent. Crowd annotations stay as they were; one without a usable mask gets its whole box,
    one without `area` that.
    What reading left out is left out, so that every reader can open the file: pictures that are
    not in `labelled` (also those of another split put aside from the same file), their
    annotations, and entries with an error.

    Of another source a complete file is built. Annotations keep their ids when all are whole
    numbers and differ; else they are numbered from 1, and `source_id` keeps their identity.

    A key `boxmask` notes where the pictures lie, so that the file can be read from any folder.

    Args:
        out_file: the JSON file to write.
        split: the split that is written.
        folder: the data set that it belongs to.
        labelled: its pictures with masks, in any order. Nothing but packed masks is held.

    Raises:
        UserError: If `out_file` is the source itself, or that can no longer be read.
    """
    out_file = Path(out_file)
    check_not_source(out_file, split.source)
    report = WriteReport()
    if folder.format == "coco":
        content = _filled_source(split, labelled, report)
    else:
        content = _new_content(folder, labelled, report)
    content["boxmask"] = {"picture_folders": _picture_folders(split, out_file.parent)}
    write_whole(out_file, lambda stream: json.dump(content, stream))
    return report


def _filled_source(
    split: DataSplit, labelled: Iterable[LabelledRecord], report: WriteReport
) -> dict[str, Any]:
    content = dict(load_coco(split.source).content)
    file_names: dict[int | str, str] = {}
    found: dict[int | str, dict[str, Any]] = {}
    for item in labelled:
        file_names[item.record.extra["id"]] = item.record.extra["file_name"]
        for position, annotation_id in enumerate(item.record.annotation_ids):
            found[annotation_id] = _keys_to_fill(item, position)
        _count(report, item)
    content["categories"] = _first_of_each_id(content["categories"])
    content["images"] = _first_of_each_id(
        entry
        for entry in content["images"]
        if has_id(entry)
        and entry["id"] in file_names
        and file_names[entry["id"]] == entry.get("file_name")
    )
    content["annotations"] = [
        {**entry, **found[entry["id"]]}
        for entry in _first_of_each_id(content.get("annotations") or [])
        if entry["id"] in found
    ]
    return content


def _first_of_each_id(entries: Iterable[Any]) -> list[Mapping[str, Any]]:
    """The entries that reading took: those with a usable id, and of an id used twice the first."""
    first: dict[int | str, Mapping[str, Any]] = {}
    for entry in entries:
        if has_id(entry):
            first.setdefault(entry["id"], entry)
    return list(first.values())


def _keys_to_fill(item: LabelledRecord, position: int) -> dict[str, Any]:
    """What is put into a source's annotation; of a crowd with a mask, at most its area.

    Other tools need `iscrowd`, and take any text for a crowd.
    """
    if not item.record.crowd[position]:
        return {"iscrowd": 0, **_mask_keys(item, position)}
    own = item.own_crowd_mask(position)
    if own is None:
        mask = item.masks[position]
        return {"iscrowd": 1, "segmentation": _rle(mask), "area": mask_area(mask)}
    known = "area" in item.record.annotations[position]
    return {"iscrowd": 1} if known else {"iscrowd": 1, "area": int(own.sum())}


def _new_content(
    folder: DataFolder, labelled: Iterable[LabelledRecord], report: WriteReport
) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for item in labelled:
        record = item.record
        height, width = record.image_size
        image = {"id": record.image_id, "file_name": record.name, "width": width, "height": height}
        images.append(image)
        for position in range(len(record)):
            annotations.append(_new_annotation(item, position, folder))
        _count(report, item)
    _give_ids(annotations)
    categories = [
        {"id": category_id, "name": name, "supercategory": ""}
        for category_id, name in zip(folder.category_ids, folder.class_names, strict=True)
    ]
    info = {"description": folder.root.name, "version": "1.0"}
    return {
        "info": info,
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def _give_ids(annotations: list[dict[str, Any]]) -> None:
    """Puts whole-numbered ids in place: the source's where all differ, else 1, 2, 3, ..."""
    given = [entry["source_id"] for entry in annotations]
    if len(set(given)) < len(given) or not all(isinstance(number, int) for number in given):
        given = list(range(1, len(annotations) + 1))
    for entry, number in zip(annotations, given, strict=True):
        entry["id"] = number


def _new_annotation(item: LabelledRecord, position: int, folder: DataFolder) -> dict[str, Any]:
    record = item.record
    x1, y1, x2, y2 = (float(value) for value in record.boxes[position])
    return {
        "id": 0,
        "image_id": record.image_id,
        "category_id": folder.category_ids[int(record.labels[position])],
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "iscrowd": int(record.crowd[position]),
        **_mask_keys(item, position),
        "source_id": record.annotation_ids[position],
    }


def _mask_keys(item: LabelledRecord, position: int) -> dict[str, Any]:
    own = item.own_crowd_mask(position)
    mask = item.masks[position] if own is None else encode_mask(own)
    return {
        "segmentation": _rle(mask),
        "area": mask_area(mask),
        "score": round(float(item.confidences[position]), SCORE_DECIMALS),
    }


def _rle(mask: Mapping[str, Any]) -> dict[str, Any]:
    return {"size": list(mask["size"]), "counts": mask["counts"]}


def _count(report: WriteReport, item: LabelledRecord) -> None:
    report.num_pictures += 1
    report.ious.extend([1.0] * len(item.record))


def _picture_folders(split: DataSplit, start: Path) -> list[str]:
    """Folders that the names of the split's pictures start from, seen from `start`."""
    folders = dict.fromkeys(_picture_folder(record) for record in split.records)
    return [relative_posix(folder, start) for folder in folders]


def _picture_folder(record: ImageRecord) -> Path:
    depth = len(PurePosixPath(record.name).parts)
    return record.path.parents[depth - 1]
