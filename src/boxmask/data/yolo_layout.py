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
from boxmask.errors import UserError

CLASS_FILES = ("classes.txt", "obj.names", "labels/classes.txt", "train/labels/classes.txt")
"""Files that may list class names, one a line, where no YAML does."""

MAX_CLASSES = 100_000
"""Classes above which a number is taken for a mistake."""


@dataclass(frozen=True, kw_only=True)
class YoloSplit:
    """One split of a YOLO folder.

    Attributes:
        name: the split.
        source: the folder of pictures, or the list file.
        pictures: picture files and their names in the data set.
        folders: the folders of pictures that were searched; empty for a list file.
        class_source: the file that names the classes, for messages.
    """

    name: str
    source: Path
    pictures: Sequence[tuple[Path, str]]
    folders: Sequence[Path]
    class_source: str


@dataclass(frozen=True, kw_only=True)
class YoloLayout:
    """Classes and splits of a YOLO folder; `names` is None when nothing names the classes."""

    names: tuple[str, ...] | None
    splits: Sequence[YoloSplit]


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
    return YoloLayout(names=_names(content, file), splits=splits)


def layout_without_yaml(root: Path) -> YoloLayout | None:
    """Classes and splits by the usual folders; None when no label file is there."""
    class_file = next((root / name for name in CLASS_FILES if (root / name).is_file()), None)
    names = None
    if class_file is not None:
        lines = class_file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        names = tuple(line.strip() for line in lines if line.strip())
    shown = class_file.name if class_file else "the data set"
    splits = []
    for name, words in SPLIT_WORDS.items():
        places = [root / part for word in words for part in _places(word)]
        folder = next((path for path in places if _has_labels(path)), None)
        if folder is not None:
            splits.append(_folder_split(name, [folder], shown))
    if not splits:
        folder = next((path for path in (root / "images", root) if _has_labels(path)), None)
        splits = [_folder_split("train", [folder], shown)] if folder else []
    return YoloLayout(names=names, splits=splits) if splits else None


def _places(word: str) -> tuple[str, ...]:
    return f"images/{word}", f"{word}/images", word


def _has_labels(folder: Path) -> bool:
    """Whether one of the folder's pictures has a label file."""
    if not folder.is_dir():
        return False
    files = (path for path in folder.rglob("*") if is_picture(path))
    return any(beside_images(path, "labels").is_file() for path in files)


def _folder_split(name: str, folders: Sequence[Path], shown: str) -> YoloSplit:
    base = folders[0] if len(folders) == 1 else Path(os.path.commonpath(folders))
    pictures = [
        (path, path.relative_to(base).as_posix())
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if is_picture(path)
    ]
    return YoloSplit(
        name=name, source=folders[0], pictures=pictures, folders=folders, class_source=shown
    )


def _yaml_split(
    name: str, values: Any, file: Path, content: Mapping[str, Any], log: ProblemLog
) -> YoloSplit | None:
    listed = values if isinstance(values, list) else [values]
    folders: list[Path] = []
    pictures: list[tuple[Path, str]] = []
    sources: list[Path] = []
    for value in listed:
        path = _resolve(str(value), file, content)
        if path is None:
            log.error(f"{file.name}: {name}", f"{value} does not exist")
            continue
        sources.append(path)
        if path.is_dir():
            folders.append(path)
        else:
            pictures += _listed_pictures(path)
    if not sources:
        return None
    pictures += _folder_split(name, folders, "").pictures if folders else []
    return YoloSplit(
        name=name, source=sources[0], pictures=pictures, folders=folders, class_source=file.name
    )


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
            path = file.parent / text
            below = path.as_posix().rpartition("/images/")[2] if "/images/" in text else text
            pictures.append((path, below.removeprefix("./") if "/images/" in text else path.name))
    return pictures


def _names(content: Mapping[str, Any], file: Path) -> tuple[str, ...] | None:
    """Class names by number, from a list or a mapping, or as many numbers as `nc` says."""
    names = content.get("names")
    if isinstance(names, list):
        return tuple(str(name) for name in names)
    if isinstance(names, Mapping):
        try:
            by_number = {int(number): str(name) for number, name in names.items()}
        except (TypeError, ValueError) as error:
            raise UserError("a key of `names` is no number", where=str(file)) from error
        if by_number and not 0 <= min(by_number) <= max(by_number) < MAX_CLASSES:
            raise UserError("a key of `names` is out of range", where=str(file))
        return tuple(by_number.get(k, str(k)) for k in range(max(by_number, default=-1) + 1))
    count = content.get("nc")
    if not isinstance(count, int) or not 0 < count <= MAX_CLASSES:
        return None
    return tuple(str(k) for k in range(count))


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
