"""Finds the picture files that a COCO file names, wherever people keep them beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from boxmask.data.coco_layout import SPLIT_WORDS
from boxmask.data.spelling import spellings
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


def picture_folders(file: Path, split: str) -> list[list[Path]]:
    """Existing folders in which the pictures of a COCO file may lie.

    Args:
        file: the JSON file.
        split: name of its split.

    Returns:
        First those beside the file, then those beside its folder; each likeliest first.
    """
    word = re.search(r"(train|val|test)[a-z]*\d*", file.stem, re.IGNORECASE)
    words = [word.group(0)] if word else []
    words += [re.sub(r"\d+$", "", words[0])] if words else []
    words += SPLIT_WORDS.get(split, (split,))
    words.append(file.stem.removeprefix("instances_"))  # CVAT: instances_default, images/default
    tiers = []
    for base in (file.parent, file.parent.parent):
        pictures = [base / name for name in ("images", "JPEGImages", "imgs", "data")]
        named = [base / word for word in words]
        below = [base / "images" / word for word in words]
        below += [folder / "images" for folder in named]
        folders = dict.fromkeys([base, *pictures, *named, *below, base / file.stem])
        tiers.append([folder for folder in folders if folder.is_dir()])
    return tiers


def resolve_pictures(
    file_names: Sequence[str], tiers: Sequence[Sequence[Path]], *, source: Path
) -> list[Path | None]:
    """Finds each picture; None for one that is nowhere.

    Args:
        file_names: as the COCO file gives them, relative or absolute.
        tiers: groups of folders. Only the first group that holds a picture is used, so that a
            missing picture is not mistaken for one of the same name in a data set next door.
        source: the COCO file, for the message.

    Raises:
        UserError: If there are names, and not one is found.
    """
    sample = file_names[:: max(1, len(file_names) // SAMPLE)]
    for names in (sample, file_names):
        for folders in tiers:
            counts = {
                folder: sum(_find(n, [folder]) is not None for n in names) for folder in folders
            }
            if any(counts.values()):
                ordered = sorted(folders, key=lambda folder: -counts[folder])
                return [_find(name, ordered) for name in file_names]
    if not file_names:
        return []
    looked = ", ".join(folder.as_posix() for folders in tiers for folder in folders)
    raise UserError(
        f"not one of the {len(file_names)} pictures was found, for example {file_names[0]}",
        where=str(source),
        fix=f"Looked in: {looked}. Put the pictures into images/ beside the file.",
    )


def _find(file_name: str, folders: Sequence[Path]) -> Path | None:
    given = file_name.strip().replace("\\", "/")
    names = dict.fromkeys((*spellings(given), *spellings(safe_name(file_name))))
    places = (folder / name for folder in folders for name in names)
    return next((path for path in places if _is_file(path)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # names that no file system takes: too long, null bytes
        return False
