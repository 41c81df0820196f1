"""Reads a data set of any known format from the folder or file that the user names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from boxmask.data.coco import read_coco
from boxmask.data.coco_file import class_table, load_coco
from boxmask.data.coco_layout import (
    coco_split_files,
    lone_coco_file,
    named_json_files,
    sibling_files,
    split_of,
    split_of_folder,
)
from boxmask.data.folder_checks import folder_warnings
from boxmask.data.reading import ProblemLog
from boxmask.data.records import DataFolder
from boxmask.data.splits import put_aside_val
from boxmask.data.voc import read_voc
from boxmask.data.voc_layout import voc_root
from boxmask.data.yolo import read_yolo
from boxmask.data.yolo_layout import find_yaml, layout_without_yaml
from boxmask.errors import UserError

SHOWN_ERRORS = 5
"""Errors that `require_usable` lists before it only counts."""


def read_data(path: Path | str, val_fraction: float = 0.0) -> DataFolder:
    """Reads a whole data set: COCO, YOLO or Pascal VOC, whichever the folder holds.

    A folder is taken as COCO when a JSON file's name speaks of a split, then as YOLO when it has
    a data.yaml, then as VOC when it has XML files, then as COCO when it has one JSON file of any
    name, then as YOLO when label files lie where they usually do.

    Args:
        path: a folder, one COCO `.json` file or one YOLO `.yaml` file. Of a COCO file the other
            splits are found by name: `train_a.json` belongs to `val_a.json`.
        val_fraction: share of the pictures, in [0, 1), to put aside as `val` when there is none.
            Which ones depends on their names alone.

    Returns:
        The data set with everything usable, and its problems.

    Raises:
        UserError: If no known data set is found, or a file of it cannot be read at all.
        ValueError: If `val_fraction` is out of range.
    """
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction: expected a share in [0, 1), got {val_fraction}")
    path = Path(path)
    folder = _read_file(path) if path.is_file() else _read_folder(path)
    if val_fraction > 0 and "val" not in folder.splits and "train" in folder.splits:
        folder = put_aside_val(folder, val_fraction)
    return replace(folder, problems=(*folder.problems, *folder_warnings(folder)))


def require_usable(folder: DataFolder, skip_bad: bool) -> None:
    """Stops when a data set has errors that the user did not agree to skip.

    Args:
        folder: the data set as read.
        skip_bad: whether pictures and objects with errors may be left out.

    Raises:
        UserError: If there are errors and `skip_bad` is False, or no picture can be used at all.
    """
    errors = folder.errors
    if errors and not skip_bad:
        lines = [str(problem) for problem in errors[:SHOWN_ERRORS]]
        if len(errors) > SHOWN_ERRORS:
            lines.append(f"... and {len(errors) - SHOWN_ERRORS} more")
        count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        raise UserError(
            f"{folder.root.name} has {count}",
            where="\n".join(lines),
            fix="Correct them, or pass --skip-bad to leave these pictures and boxes out.",
        )
    if not any(len(split.records) for split in folder.splits.values()):
        raise UserError("no picture of the data set can be used", where=str(folder.root))


def _read_file(path: Path) -> DataFolder:
    suffix = path.suffix.lower()
    if suffix == ".json":
        own = split_of(path.stem) or split_of_folder(path.parent.name) or "train"
        others = sibling_files(path) if own == "train" else {}
        return _read_coco_files(path, {own: path, **others})
    if suffix in (".yaml", ".yml"):
        return read_yolo(path)
    raise UserError(
        f"cannot read a data set from a {suffix or 'nameless'} file",
        where=str(path),
        fix="Name a folder, a COCO .json file or a YOLO .yaml file.",
    )


def _read_folder(path: Path) -> DataFolder:
    if not path.is_dir():
        raise UserError("no such folder or file", where=str(path))
    files = coco_split_files(path)
    if files:
        return _read_coco_files(path, files)
    if find_yaml(path):
        return read_yolo(path)
    if voc_root(path):
        return read_voc(path)
    lone = lone_coco_file(path)
    if lone:
        return _read_coco_files(path, {"train": lone})
    if layout_without_yaml(path):
        return read_yolo(path)
    for file in named_json_files(path):
        load_coco(file)  # says what is wrong with it
    raise UserError(
        "folder holds no data set",
        where=str(path),
        fix="Looked for COCO (train.json, annotations/*.json), YOLO (data.yaml, labels/*.txt) "
        "and Pascal VOC (Annotations/*.xml).",
    )


def _read_coco_files(root: Path, files: Mapping[str, Path]) -> DataFolder:
    log = ProblemLog()
    loaded = {split: load_coco(file) for split, file in files.items()}
    classes = class_table(list(loaded.values()), log)
    splits = {}
    for split, file in loaded.items():
        reading = read_coco(file, name=split, classes=classes)
        splits[split] = reading.split
        log.problems.extend(reading.problems)
    return DataFolder(
        root=root,
        format="coco",
        class_names=classes.names,
        category_ids=classes.category_ids,
        splits=splits,
        problems=tuple(log.problems),
    )
