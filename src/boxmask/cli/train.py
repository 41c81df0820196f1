"""`boxmask train`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from boxmask.api.options import TrainOptions
from boxmask.cli.interrupted import resumable
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
    source: Path | str | None = data
    if options.resume and data is None and options.out is not None:
        from boxmask.api.train import resumed_options

        source, options = resumed_options(options.out)
    if source is None:
        raise UserError("train needs data", fix="boxmask train DATA; see boxmask train --help")
    folder = [str(options.out or "")]

    def say(line: str) -> None:
        if line.startswith(_RUN_LINE):
            folder[0] = line.removeprefix(_RUN_LINE).strip()
        print(line, flush=True)

    from boxmask.api.train import train as train_model

    with resumable(lambda: f"boxmask train --resume {folder[0]}" if folder[0] else ""):
        train_model(source, say=say, **vars(options))
    return 0


def resume_sugar(words: Sequence[str]) -> list[str]:
    """Turns `train --resume RUN`, and nothing more, into `train --resume --out RUN`."""
    rest = [word for word in words[1:] if word != "--resume"]
    if words[:1] == ["train"] and len(words) == 3 and len(rest) == 1 and rest[0][:1] != "-":
        return ["train", "--resume", "--out", rest[0]]
    return [*words]
