"""Small files' business that all writers share: safe replacing, links to pictures, free names."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import TextIO

from boxmask.data.pictures import is_picture
from boxmask.errors import UserError
from boxmask.whole_files import written_beside


def write_whole(path: Path, write: Callable[[TextIO], object]) -> None:
    """Writes a text file beside its place and moves it there, so that no half file is left.

    Raises:
        UserError: If the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(path) as part, part.open("w", encoding="utf-8", newline="\n") as stream:
        write(stream)


def check_not_source(out: Path, source: Path) -> None:
    """Refuses to write over the data set that is read.

    Raises:
        UserError: If both are the same place.
    """
    if out.resolve() == source.resolve():
        raise UserError(
            "the data set would be written over itself",
            where=str(out),
            fix="Name another place for the output.",
        )


def link_picture(source: Path, target: Path) -> None:
    """Makes `target` stand for the picture: a symbolic link, or a copy where links are barred.

    Raises:
        UserError: If another file is already there; it is left alone.
    """
    source = source.resolve()
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        if filecmp.cmp(source, target, shallow=False):
            return
        raise UserError(
            "another file is in the place of a picture",
            where=str(target),
            fix="Write into an empty folder.",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.symlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def relative_posix(path: Path, start: Path) -> str:
    """`path` seen from the folder `start`, with forward slashes; absolute on another drive."""
    try:
        return Path(os.path.relpath(path.resolve(), start.resolve())).as_posix()
    except ValueError:
        return path.resolve().as_posix()


class FreeNames:
    """Gives pictures names whose stems differ, for formats that know pictures by their stem."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {stem.casefold() for stem in taken}

    def take(self, name: str) -> str:
        """`name`, or where `a.jpg` is taken and `a.png` comes, `a.png.png`.

        A name that tools would not take for a picture (no ending, hidden) is mended.
        """
        path = PurePosixPath(name)
        if path.name.startswith("."):
            path = path.with_name("_" + path.name)
        if not is_picture(Path(path)):
            path = path.with_name(path.name + ".jpg")
        while path.with_suffix("").as_posix().casefold() in self._taken:
            path = path.with_name(path.name + path.suffix)
        self._taken.add(path.with_suffix("").as_posix().casefold())
        return path.as_posix()
