"""Reads a data set of any known format from the folder or file that the user names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from boxmask.data.coco import class_table, load_coco, read_coco
from boxmask.data.coco_layout import coco_split_files, lone_coco_file, sibling_files, split_of
from boxmask.data.reading import ProblemLog
from boxmask.data.records import DataFolder
from boxmask.errors import UserError


def read_data(path: Path | str, val_fraction: float = 0.0) -> DataFolder:
    """Reads a whole data set.

    Args:
        path: a folder, or one COCO `.json` file; the files of its other splits are found by name.
        val_fraction: share of the pictures, in 0..1, to put aside as `val` when there is none.

    Returns:
        The data set with everything usable, and its problems.

    Raises:
        UserError: If no known data set is found, or a file of it cannot be read at all.
    """
    path = Path(path)
    if not path.exists():
        raise UserError("no such folder or file", where=str(path))
    return _read_coco_folder(path, _coco_files(path))


def _coco_files(path: Path) -> dict[str, Path]:
    if path.is_file():
        own = split_of(path.stem) or split_of(path.parent.name) or "train"
        return {own: path} | (sibling_files(path) if own == "train" else {})
    files = coco_split_files(path)
    if files:
        return files
    lone = lone_coco_file(path)
    return {"train": lone} if lone else {}


def _read_coco_folder(root: Path, files: Mapping[str, Path]) -> DataFolder:
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
