"""`boxmask train`."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Annotated

from cyclopts import Parameter

from boxmask.api.options import TrainOptions
from boxmask.cli.interrupted import resumable
from boxmask.cli.paths import require_data
from boxmask.errors import UserError

_RUN_LINE = "run "


def train(
    data: Path | None = None,
    /,
    *,
    options: Annotated[TrainOptions, Parameter(name="*")] = TrainOptions(),  # noqa: B008 - frozen
) -> int:
    """Train a model from boxes.

    Masks in the data are not needed and not read, unless you ask for it.
    An interrupted run goes on with: boxmask train --resume RUN

    Args:
        data: A folder in COCO, VOC or YOLO form, or one COCO file.
        options: Everything else.
    """
    if data is None and not options.resume:
        raise UserError("train needs data", fix="boxmask train DATA; see boxmask train --help")
    if data is not None:
        require_data(data)
    printer = RunPrinter()
    from boxmask.api.train import train as train_model

    with resumable(printer.hint):
        train_model(data, say=printer, **vars(options))
    return 0


class RunPrinter:
    """Prints each line, and remembers which run they tell of; can be sent to other processes."""

    def __init__(self) -> None:
        self.run = ""

    def __call__(self, line: str) -> None:
        """Prints a line."""
        if line.startswith(_RUN_LINE):
            self.run = line.removeprefix(_RUN_LINE).strip()
        print(line, flush=True)

    def hint(self) -> str:
        """How to go on; empty while no run is known."""
        return f"boxmask train --resume {quote(self.run)}" if self.run else ""


def resume_sugar(words: Sequence[str]) -> list[str]:
    """Turns `--resume RUN` of `train` into `--resume --out RUN`, unless --out names the run."""
    if words[:1] != ["train"] or "--resume" not in words:
        return [*words]
    if any(word == "--out" or word.startswith("--out=") for word in words):
        return [*words]
    after = words.index("--resume") + 1
    if words[after : after + 1] and words[after][:1] != "-":
        return [*words[:after], "--out", *words[after:]]
    if len(words) == 3 and words[1][:1] != "-":  # RUN --resume
        return ["train", "--resume", "--out", words[1]]
    return [*words]
