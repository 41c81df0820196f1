"""Tells the classes of a YOLO folder, and which pictures belong to which split."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from boxmask.data.coco_layout import SPLIT_WORDS
from boxmask.data.pictures import is_picture
from boxmask.data.reading import ProblemLog
from boxmask.data.spelling import as_stored
from boxmask.data.yolo_classes import counted_names, listed_names, yaml_names
from boxmask.errors import UserError


@dataclass(frozen=True, kw_only=True)
class YoloSplit:
    """One split of a YOLO folder.

    Attributes:
        name: the split.
        source: the folder of pictures, or the list file.
        pictures: picture files and their names in the data set.
        folders: the folders of pictures that were searched; empty for a list file.
    """

    name: str
    source: Path
    pictures: Sequence[tuple[Path, str]]
    folders: Sequence[Path]


@dataclass(frozen=True, kw_only=True)
class YoloLayout:
    """Classes and splits of a YOLO folder.

    Attributes:
        names: of the classes; None when nothing names them.
        class_source: the file that names the classes, for messages.
        splits: at least one.
        keypoint_shape: (keypoints of an object, numbers of a keypoint) of pose data, else None.
    """

    names: tuple[str, ...] | None
    class_source: str
    splits: Sequence[YoloSplit]
    keypoint_shape: tuple[int, int] | None = None


def beside_images(picture: Path, folder: str) -> Path:
    """The text file of a picture: its last folder `images` replaced, or the same folder.

    Args:
        picture: the picture file.
        folder: what to put for `images`, such as `labels`.
    """
    parts = list(picture.parts)
    for position in range(len(parts) - 2, -1, -1):
        if parts[position] == "images":
            parts[position] = folder
            return Path(*parts).with_suffix(".txt")
    return picture.with_suffix(".txt")


def text_of_picture(picture: Path, folder: str = "labels") -> Path:
    """`beside_images`, as the disk spells the file's name."""
    return as_stored(beside_images(picture, folder))


def find_yaml(root: Path) -> Path | None:
    """The YAML file of a YOLO folder: it has `names` or `nc`; `data.yaml` comes first."""
    files = sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    files.sort(key=lambda file: (file.stem != "data", file.stem != "dataset"))
    return next((file for file in files if _describes_data(file)), None)


def layout_of_yaml(file: Path, log: ProblemLog) -> YoloLayout:
    """Classes and splits by a YAML file.

    Raises:
        UserError: If it cannot be read, or names no folder that exists.
    """
    content = _load_yaml(file)
    splits = []
    for name, words in SPLIT_WORDS.items():
        values = next((content[word] for word in words if content.get(word)), None)
        if values is None:
            continue
        split = _yaml_split(name, values, file, content, log)
        if split is not None:
            splits.append(split)
    if not splits:
        raise UserError(
            "not one of the folders that the file names exists",
            where=str(file),
            fix="Correct `path`, `train` and `val` in it.",
        )
    names, source = yaml_names(content, file, log), file.name
    if names is None:
        listed = listed_names(file.parent, _label_folders(splits))
        names, source = listed or (counted_names(content, file, log), file.name)
    return YoloLayout(
        names=names,
        class_source=source,
        splits=splits,
        keypoint_shape=_keypoint_shape(content, file),
    )


def layout_without_yaml(root: Path) -> YoloLayout | None:
    """Classes and splits by the usual folders; None when no label file is there."""
    splits = []
    for name, words in SPLIT_WORDS.items():
        places = [root / part for word in words for part in _places(word)]
        folder = next((path for path in places if _has_labels(path)), None)
        if folder is not None:
            splits.append(_folder_split(name, [folder]))
    if not splits:
        folder = next((path for path in (root / "images", root) if _has_labels(path)), None)
        splits = [_folder_split("train", [folder])] if folder else []
    if not splits:
        return None
    names, source = listed_names(root, _label_folders(splits)) or (None, "the data set")
    return YoloLayout(names=names, class_source=source, splits=splits)


def _label_folders(splits: Sequence[YoloSplit]) -> list[Path]:
    """The folders of labels and of pictures, in which a class list may lie."""
    folders = []
    for split in splits:
        below = split.folders or [path.parent for path, _ in split.pictures[:1]]
        for folder in below:
            folders += [beside_images(folder / "x", "labels").parent, folder]
    return folders


def _places(word: str) -> tuple[str, ...]:
    return f"images/{word}", f"{word}/images", word


def _has_labels(folder: Path) -> bool:
    """Whether one of the folder's pictures has a label file."""
    if not folder.is_dir():
        return False
    files = (path for path in folder.rglob("*") if is_picture(path))
    return any(text_of_picture(path).is_file() for path in files)


def _folder_split(name: str, folders: Sequence[Path]) -> YoloSplit:
    base = folders[0] if len(folders) == 1 else Path(os.path.commonpath(folders))
    pictures = [
        (path, path.relative_to(base).as_posix())
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if is_picture(path)
    ]
    return YoloSplit(name=name, source=folders[0], pictures=pictures, folders=folders)


def _yaml_split(
    name: str, values: Any, file: Path, content: Mapping[str, Any], log: ProblemLog
) -> YoloSplit | None:
    listed = [str(value) for value in (values if isinstance(values, list) else [values])]
    found = {value: _resolve(value, file, content) for value in listed}
    sources = [path for path in found.values() if path is not None]
    missing = [value for value in listed if found[value] is None]
    _report_missing(name, missing, file, log, needed=name == "train" or bool(sources))
    if not sources:
        return None
    folders = [path for path in sources if path.is_dir()]
    pictures = [named for path in sources if path.is_file() for named in _listed_pictures(path)]
    pictures += _folder_split(name, folders).pictures if folders else []
    return YoloSplit(name=name, source=sources[0], pictures=pictures, folders=folders)


def _report_missing(
    name: str, missing: Sequence[str], file: Path, log: ProblemLog, *, needed: bool
) -> None:
    """Says which folders of a split do not exist: an error where the split is `needed`."""
    fix = f"Correct `{name}` in {file.name}"
    if name == "val":
        fix += ", or train with --val-fraction 0.2"
    if name == "test":
        fix += "; training does without it"
    tell = log.error if needed else log.warning
    for value in missing:
        tell(f"{file.name}: {name}", f"{value} does not exist", f"{fix}.")


def _resolve(value: str, file: Path, content: Mapping[str, Any]) -> Path | None:
    """The folder or list file that a YAML value means; None when it does not exist."""
    base = Path(str(content.get("path") or "."))
    tail = value.replace("\\", "/")
    while tail.startswith(("../", "./")):  # exports that are one folder off
        tail = tail.split("/", 1)[1]
    places = [file.parent / base / value, file.parent / value, base / value]
    places += [file.parent / base / tail, file.parent / tail]
    try:
        return next((path for path in places if path.exists()), None)
    except OSError:  # a name that no file system takes
        return None


def _listed_pictures(file: Path) -> list[tuple[Path, str]]:
    """Pictures of a list file, absolute or relative to it; names start below `images`."""
    pictures = []
    for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        text = line.strip().replace("\\", "/")
        if text:
            path = as_stored(file.parent / text)
            below = path.as_posix().rpartition("/images/")[2] if "/images/" in text else text
            pictures.append((path, below.removeprefix("./") if "/images/" in text else path.name))
    return pictures


def _keypoint_shape(content: Mapping[str, Any], file: Path) -> tuple[int, int] | None:
    """The `kpt_shape` of pose data."""
    shape = content.get("kpt_shape")
    if shape is None:
        return None
    if (
        not isinstance(shape, list)
        or len(shape) != 2
        or not all(isinstance(number, int) for number in shape)
        or shape[0] < 1
        or shape[1] not in (2, 3)
    ):
        raise UserError(
            f"`kpt_shape` is {shape!r}",
            where=str(file),
            fix="Expected [number of keypoints, 2 or 3], such as [17, 3].",
        )
    return shape[0], shape[1]


def _load_yaml(file: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        raise UserError(f"file is no YAML: {error.problem}", where=where) from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"file cannot be read ({error})", where=str(file)) from error
    if not isinstance(content, Mapping):
        raise UserError("file holds no names and folders", where=str(file))
    return content


def _describes_data(file: Path) -> bool:
    if file.stem in ("data", "dataset"):
        return True
    try:
        content = _load_yaml(file)
    except UserError:
        return False
    return any(key in content for key in ("names", "nc")) and "train" in content
