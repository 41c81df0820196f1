"""Options of the commands: plain data with defaults, light to import."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from boxmask.errors import UserError

Method = Literal["boxinst", "full"]
Precision = Literal["auto", "32", "bf16", "16"]


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How a run is trained.

    Attributes:
        method: What teaches the masks. boxinst: boxes alone; full: true masks, the upper bound.
        model: condinst-lite0, condinst-r50, condinst-r101, or condinst- and any timm model.
        epochs: Passes over the training pictures. Default: as many as the recipe's number of
            pictures needs.
        batch: Pictures of one optimizer step, all devices together. The learning rate follows.
            Default: the recipe's, 4 for lite models and 16 for others.
        accumulate: Parts that a batch is split into, one after the other, to save memory.
        image_size: Short side in pixels. Default: the recipe's.
        learning_rate: For the recipe's batch; other batches scale it. Default: the recipe's.
        devices: GPUs, or processes on the CPU.
        accelerator: Where to train.
        precision: auto is bf16 on a GPU that has it, else 32. Mask losses are always in 32.
        workers: Processes that read pictures. Default: the cores that are free, at most 4.
        seed: Of weights, order and random variants.
        use_masks: ignore: masks in the data are never read. trusted: annotations that have a
            mask learn from it, the others from their boxes.
        pretrained: Start from ImageNet weights.
        skip_bad: Train without the annotations and pictures that have errors.
        out: The run's folder. Default: runs/DATA-METHOD-NUMBER.
        resume: Go on with the run in --out.
        overwrite: Start anew in a folder that has a run.
    """

    method: Method = "boxinst"
    model: str = "condinst-lite0"
    epochs: int | None = None
    batch: int | None = None
    accumulate: int = 1
    image_size: int | None = None
    learning_rate: float | None = None
    devices: int = 1
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Precision = "auto"
    workers: int | None = None
    seed: int = 0
    use_masks: Literal["ignore", "trusted"] = "ignore"
    pretrained: bool = True
    skip_bad: bool = False
    out: Path | None = None
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "accumulate", "devices"):
            _at_least(name, getattr(self, name), 1)
        _at_least("image_size", self.image_size, 64)
        _at_least("workers", self.workers, 0)
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise UserError(f"learning_rate: expected more than 0, got {self.learning_rate}")
        if self.resume and self.out is None:
            raise UserError(
                "resume needs to know which run to go on with", fix="name its folder with --out"
            )
        if self.resume and self.overwrite:
            raise UserError("resume and overwrite exclude each other", fix="pass one of them")


def options_from(kind: type, given: dict[str, Any]) -> Any:
    """Builds an options dataclass from keyword arguments.

    Raises:
        UserError: If a name is not known; similar names are offered.
    """
    known = {field.name for field in fields(kind)}
    for name in given:
        if name not in known:
            import difflib

            close = difflib.get_close_matches(name, known, n=1)
            raise UserError(
                f"there is no option {name!r}",
                fix=f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known))}",
            )
    return kind(**given)


def _at_least(name: str, value: float | None, least: float) -> None:
    if value is not None and value < least:
        raise UserError(f"{name}: expected at least {least}, got {value}")
