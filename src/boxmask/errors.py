"""Errors that a user can mend: shown without a traceback, exit code 2."""

from functools import partial
from pathlib import Path
from typing import Any


class UserError(Exception):
    """Something the user gave cannot be used.

    Args:
        what: what is wrong, one line.
        where: file and line, or annotation id; may be empty.
        fix: what to do, one line; may be empty.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what = what
        self.where = where
        self.fix = fix
        super().__init__("\n".join(part for part in (what, where, fix) if part))

    def __reduce__(self) -> tuple[Any, ...]:
        """So that another process can send it whole."""
        return partial(type(self), where=self.where, fix=self.fix), (self.what,)


def require_folder(out: Path | None) -> None:
    """Asks for a place where a folder is or can be made.

    Raises:
        UserError: If a file has that name, or that of a folder above it.
    """
    if out is None:
        return
    for place in (out, *out.parents):
        if place.exists() and not place.is_dir():
            raise UserError(
                "a file is in the place of the output folder",
                where=str(place),
                fix="name a folder with --out",
            )
