"""Finds the picture files that a COCO file names, wherever people keep them beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from boxmask.errors import UserError

SAMPLE = 32
"""Pictures of a file that are looked for to tell the right folder."""


def safe_name(file_name: str) -> str:
    """A `file_name` as a name inside the data set: forward slashes, no drive, no way out."""
    parts = PurePosixPath(file_name.strip().replace("\\", "/")).parts
    kept = [p for p in parts if p not in ("/", "//", ".") and not re.fullmatch(r"[A-Za-z]:", p)]
    if len(kept) < len([p for p in parts if p != "."]) or ".." in kept:
        return kept[-1] if kept and kept[-1] != ".." else "picture"
    return "/".join(kept) or "picture"


def picture_folders(file: Path, split: str) -> list[Path]:
    """Existing folders in which the pictures of a COCO file may lie, likeliest first.

    Args:
        file: the JSON file.
        split: name of its split.
    """
    word = re.search(r"(train|val|test)[a-z]*\d*", file.stem, re.IGNORECASE)
    words = [word.group(0)] if word else []
    words += [re.sub(r"\d+$", "", words[0])] if words else []
    words += [split, *({"val": ["valid", "validation"]}.get(split, []))]
    folders: list[Path] = []
    for base in (file.parent, file.parent.parent):
        pictures = [base / name for name in ("images", "JPEGImages", "imgs", "data")]
        named = [base / word for word in words]
        below = [folder / word for folder in pictures[:1] for word in words]
        below += [folder / "images" for folder in named]
        folders += [base, *pictures, *named, *below, base / file.stem]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def resolve_pictures(
    file_names: Sequence[str], folders: Sequence[Path], *, source: Path
) -> list[Path | None]:
    """Finds each picture; None for one that is nowhere.

    Args:
        file_names: as the COCO file gives them, relative or absolute.
        folders: where to look, likeliest first.
        source: the COCO file, for the message.

    Raises:
        UserError: If there are names, and not one is found.
    """
    names = [name.strip().replace("\\", "/") for name in file_names]
    sample = names[:: max(1, len(names) // SAMPLE)]
    counts = {folder: sum(_is_file(folder / name) for name in sample) for folder in folders}
    ordered = sorted(folders, key=lambda folder: -counts[folder])
    found = [_find(name, ordered) for name in names]
    if names and not any(found):
        looked = ", ".join(folder.as_posix() for folder in folders)
        raise UserError(
            f"not one of the {len(names)} pictures was found, for example {names[0]}",
            where=str(source),
            fix=f"Looked in: {looked}. Put the pictures into images/ beside the file.",
        )
    return found


def _find(name: str, folders: Sequence[Path]) -> Path | None:
    return next((folder / name for folder in folders if _is_file(folder / name)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # names that no file system takes: too long, null bytes
        return False
