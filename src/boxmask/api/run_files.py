"""Where a run is kept: its folder's name, its options, every line that it says."""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from boxmask.api.options import TrainOptions, options_from
from boxmask.engine.run_folder import RunFolder
from boxmask.errors import UserError

Say = Callable[[str], None]


def say_nothing(line: str) -> None:
    """Takes lines that nobody reads; other processes find it."""


@dataclass(frozen=True, kw_only=True)
class Journal:
    """Says each line, and keeps it in a file; can be sent to other processes.

    Attributes:
        say: takes each line.
        file: where lines are added.
    """

    say: Say
    file: Path

    def __call__(self, line: str) -> None:
        """Says and keeps a line."""
        self.say(line)
        with self.file.open("a", encoding="utf-8") as opened:
            opened.write(line + "\n")


def free_folder(parent: Path, data: Path, word: str) -> Path:
    """`parent/DATA-WORD-N` with the first N that no run has."""
    stem = re.sub(r"[^\w.-]+", "-", data.resolve().stem) or "data"
    number = 1
    while (parent / f"{stem}-{word}-{number}").exists():
        number += 1
    return parent / f"{stem}-{word}-{number}"


def resumed_options(folder: Path) -> tuple[str, TrainOptions]:
    """Data and options of an interrupted run, from its `args.yaml`, set to resume.

    Raises:
        UserError: If the folder has no run.
    """
    saved = RunFolder(root=folder).read_arguments()
    if saved is None:
        raise UserError("there is no run to resume", where=str(RunFolder(root=folder).arguments))
    data = saved.pop("data")
    given = {**saved, "out": folder, "resume": True, "overwrite": False}
    return data, options_from(TrainOptions, given)


def saved_options(options: TrainOptions) -> dict[str, Any]:
    """The options as `args.yaml` keeps them."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(options).items()
        if name not in ("resume", "overwrite")
    }
