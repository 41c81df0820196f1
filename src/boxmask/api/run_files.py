"""Where a run is kept: its folder's name, its options, every line that it says."""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
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


def resumed_options(
    given: TrainOptions, data: Path | str | None = None
) -> tuple[str, TrainOptions]:
    """Data and options of the interrupted run in `given.out`, from its `args.yaml`, set to resume.

    Args:
        given: what was asked for. `workers` may differ from the run's: they change no result.
        data: the data set that was named, if one was.

    Raises:
        UserError: If the folder has no run, or other data or options are asked for than the run
            has.
    """
    assert given.out is not None
    folder = RunFolder(root=given.out)
    saved = folder.read_arguments()
    if saved is None:
        raise UserError("there is no run to resume", where=str(folder.arguments))
    kept_data = saved.pop("data")
    kept = options_from(
        TrainOptions, {**saved, "out": given.out, "resume": True, "overwrite": False}
    )
    changed = _changed_options(given, kept)
    if data is not None and Path(data).resolve() != Path(kept_data).resolve():
        changed = [f"data: {kept_data} there, {data} here", *changed]
    if changed:
        raise UserError(
            "a resumed run keeps the data, the length and the options that it was started with",
            where="\n".join([str(folder.arguments), *changed]),
            fix="leave these out to go on, or train a new run with them in another --out",
        )
    return kept_data, kept if given.workers is None else replace(kept, workers=given.workers)


def _changed_options(given: TrainOptions, kept: TrainOptions) -> list[str]:
    """What was asked for, which shows where it is no default, and differs from the run's."""
    changed = []
    for field in fields(TrainOptions):
        asked, had = getattr(given, field.name), getattr(kept, field.name)
        if field.name not in ("resume", "workers") and asked not in (field.default, had):
            name = field.name.replace("_", "-")
            changed.append(f"--{name}: {_word(had)} there, {_word(asked)} here")
    return changed


def _word(value: object) -> str:
    if value is None:
        return "by default"
    return " ".join(value) if isinstance(value, tuple) else str(value)


def saved_options(options: TrainOptions) -> dict[str, Any]:
    """The options as `args.yaml` keeps them."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(options).items()
        if name not in ("resume", "overwrite")
    }
