"""Tells which COCO files of a folder are its splits."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from boxmask.errors import UserError

SPLIT_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Words that name each split in files and folders."""

_WORD = re.compile(
    r"(?<![a-z])(train(?:ing)?|val(?:id(?:ation)?)?|test(?:ing)?)(?![a-z])", re.IGNORECASE
)
_FOLDER = re.compile(_WORD.pattern + r"[-_]?\d*", re.IGNORECASE)
_OTHER_TASKS = ("keypoints", "captions", "panoptic", "stuff", "image_info")


def split_of(name: str) -> str | None:
    """The split that a file's name speaks of: "train", "val", "test" or None."""
    words = _WORD.findall(name)
    if not words:
        return None
    return next(s for s, known in SPLIT_WORDS.items() if words[-1].lower() in known)


def split_of_folder(name: str) -> str | None:
    """The split that a folder is named after: its whole name must be the word, but for a year."""
    return split_of(name) if _FOLDER.fullmatch(name) else None


def coco_split_files(root: Path) -> dict[str, Path]:
    """The COCO file of each split below a folder; empty when no file name speaks of a split.

    Exact names (`train.json`) come before `instances_train2017.json`, and those before any other
    name with the word in it. `val` and `test` follow the way in which `train` is named.
    """
    by_split: dict[str, list[Path]] = {}
    for file in _json_files(root):
        split = split_of(file.stem) or (
            split_of_folder(file.parent.name) if file.parent != root else None
        )
        if split and looks_like_coco(file):
            by_split.setdefault(split, []).append(file)
    best = {split: min(files, key=_rank) for split, files in by_split.items()}
    if "train" in best:
        best |= sibling_files(best["train"])
    return {split: best[split] for split in SPLIT_WORDS if split in best}


def sibling_files(file: Path) -> dict[str, Path]:
    """Files of other splits that are named like this one, with the split's word replaced.

    The word is looked for in the file's name, then in its folder's.
    """
    own = split_of(file.stem) or split_of_folder(file.parent.name)
    found: dict[str, Path] = {}
    for split, words in SPLIT_WORDS.items():
        candidates = (_renamed(file, word) for word in words)
        first = next((path for path in candidates if path and path.is_file()), None)
        if split != own and first is not None:
            found[split] = first
    return found


def lone_coco_file(root: Path) -> Path | None:
    """The one COCO file of a folder whose name speaks of no split; None when there is none.

    Files that are named after other tasks, such as keypoints, count only where no other file is.

    Raises:
        UserError: If there are several.
    """
    files = [file for file in _json_files(root) if looks_like_coco(file)]
    files = [file for file in files if not _of_other_task(file)] or files
    if len(files) > 1:
        names = ", ".join(file.relative_to(root).as_posix() for file in files[:5])
        raise UserError(
            f"folder holds {len(files)} COCO files, and their names speak of no split: {names}",
            where=str(root),
            fix="Name the file itself, or call them train.json and val.json.",
        )
    return files[0] if files else None


def named_json_files(root: Path) -> list[Path]:
    """JSON files whose whole name is a split's, such as `train.json`, whatever they hold."""
    return [file for file in sorted(root.glob("*.json")) if _WORD.fullmatch(file.stem)]


def looks_like_coco(file: Path) -> bool:
    """Whether the file holds the word "images" as JSON writes a key; reads no more than that."""
    try:
        with (
            file.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return data.find(b'"images"') >= 0
    except (OSError, ValueError):  # unreadable, or empty
        return False


def _json_files(root: Path) -> list[Path]:
    folders = [root, root / "annotations", root / "Annotations"]
    folders += sorted(
        path for path in root.iterdir() if path.is_dir() and split_of_folder(path.name)
    )
    files: Iterable[Path] = (file for folder in folders for file in sorted(folder.glob("*.json")))
    return list({file.resolve(): file for file in files}.values())


def _rank(file: Path) -> tuple[int, int, str]:
    """Lower is likelier."""
    stem = file.stem.lower()
    if _of_other_task(file):
        order = 3
    elif _WORD.fullmatch(stem) or stem == "_annotations.coco":
        order = 0
    elif stem.startswith("instances_"):
        order = 1
    else:
        order = 2
    return order, len(stem), file.as_posix()


def _of_other_task(file: Path) -> bool:
    return any(task in file.stem.lower() for task in _OTHER_TASKS)


def _renamed(file: Path, word: str) -> Path | None:
    """The file with the last split word of its name, or of its folder's, replaced."""
    if split_of(file.stem):
        return file.with_name(_replace_last(file.stem, word) + file.suffix)
    if split_of_folder(file.parent.name):
        return file.parent.with_name(_replace_last(file.parent.name, word)) / file.name
    return None


def _replace_last(text: str, word: str) -> str:
    matches: Mapping[int, re.Match[str]] = dict(enumerate(_WORD.finditer(text)))
    last = matches[len(matches) - 1]
    return text[: last.start()] + word + text[last.end() :]
