"""What a user may name to search for objects: a picture, a folder, a pattern, a video."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from boxmask.data.pictures import is_picture
from boxmask.errors import UserError

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"})


@dataclass(frozen=True, kw_only=True)
class Source:
    """Files to search.

    Attributes:
        name: a short name for folders.
        root: folder that the names of the files start from.
        pictures: picture files, sorted.
        videos: video files, sorted.
    """

    name: str
    root: Path
    pictures: tuple[Path, ...]
    videos: tuple[Path, ...]


def find_source(given: Path | str) -> Source:
    """The pictures and videos that a path or a pattern stands for.

    Raises:
        UserError: If there are none.
    """
    path = Path(given)
    if path.is_dir():
        return _source(path.resolve().name, path, [p for p in path.rglob("*") if p.is_file()])
    if path.is_file():
        source = _source(path.stem, path.parent, [path])
    else:
        matches = [Path(match) for match in glob.glob(str(given), recursive=True)]  # noqa: PTH207
        files = [match for match in matches if match.is_file()]
        if not files:
            raise UserError(
                "no such file, folder or pattern",
                where=str(given),
                fix="name a picture, a folder of pictures, a pattern in quotes, or a video",
            )
        root = Path(os.path.commonpath([file.parent.resolve() for file in files]))
        source = _source(root.name, root, [file.resolve() for file in files])
    return source


def _source(name: str, root: Path, files: Sequence[Path]) -> Source:
    pictures = tuple(sorted(file for file in files if is_picture(file)))
    videos = tuple(sorted(file for file in files if file.suffix.lower() in VIDEO_SUFFIXES))
    if not pictures and not videos:
        raise UserError(
            "there is no picture and no video",
            where=str(files[0] if len(files) == 1 else root),
            fix="pictures end in .jpg, .png, .tif, ...; videos in "
            + ", ".join(sorted(VIDEO_SUFFIXES)),
        )
    return Source(name=name or "source", root=root, pictures=pictures, videos=videos)
