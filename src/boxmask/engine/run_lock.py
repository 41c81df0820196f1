"""One process at a time trains in a folder, where the system has record locks: Windows has not."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TextIO

from boxmask.errors import UserError

LOCK = ".at_work"  # the file stays; the lock on it goes with its process


def require_idle(root: Path) -> None:
    """Asks for a folder in which no other process trains.

    Raises:
        UserError: If one does.
    """
    if (root / LOCK).is_file():
        with (root / LOCK).open("a") as file:
            _lock(file, root)


@contextmanager
def at_work(root: Path) -> Iterator[None]:
    """Other processes find the folder, which exists, in use until the block ends.

    Raises:
        UserError: If another one was faster.
    """
    with (root / LOCK).open("a") as file:
        _lock(file, root)
        yield


def _lock(file: TextIO, root: Path) -> None:
    """Locks until the file is closed. Forked readers do not take the lock over."""
    module = _record_locks()
    if module is None:
        return
    try:
        module.lockf(file, module.LOCK_EX | module.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            "a run is at work in this folder",
            where=str(root),
            fix="wait until it ends, stop it, or name another --out",
        ) from error
    except OSError:
        return  # a file system without locks


def _record_locks() -> ModuleType | None:
    try:
        return importlib.import_module("fcntl")
    except ImportError:
        return None
