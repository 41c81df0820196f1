"""Options of the commands: plain data with defaults, light to import."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast, get_args

from boxmask.errors import UserError, require_folder

Method = Literal["sim", "boxinst", "full"]
Precision = Literal["auto", "32", "bf16", "16"]
ScheduleName = Literal["short", "1x", "2x", "3x", "50e"]
LabelFormat = Literal["coco", "yolo", "voc"]

DEFAULT_MODEL = "condinst-lite0"


TRAIN_CHOICES = {
    "method": ("sim", "boxinst", "full"),
    "preset": ("default", "paper"),
    "accelerator": ("auto", "cpu", "gpu"),
    "precision": ("auto", "32", "bf16", "16"),
    "use_masks": ("ignore", "trusted"),
    "schedule": get_args(ScheduleName),
}


_WHOLE_NUMBERS = (
    "epochs", "batch", "accumulate", "devices", "image_size", "workers", "seed", "limit",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How a run is trained.

    Attributes:
        method: What teaches the masks. sim: boxes, and pseudo masks that the model corrects
            itself; boxinst: boxes alone, a little faster; full: true masks, the upper bound.
        preset: Settings to start from. default: ours; paper: as in SIM's paper.
        settings: Settings of the method to change, NAME=VALUE, such as temperature=0.2; repeat it
            for several. docs/methods.md lists all.
        model: An architecture and a backbone, such as condinst-lite0, condinst-r50 or
            mask2former-r101; any timm model serves as a backbone. boxmask models lists them.
        schedule: How long. short: the model's own length, for small data; the others: steps,
            batch and drops of the learning rate as published for COCO.
        epochs: Passes over the training pictures. Default: as many as the schedule needs.
        batch: Pictures of one optimizer step, all devices together. The learning rate follows.
            Default: the recipe's, 4 for lite models and 16 for others.
        accumulate: Parts that a batch is split into, one after the other, to save memory.
        image_size: Short side in pixels. Default: the recipe's.
        learning_rate: For the recipe's batch; other batches scale it. Default: the recipe's.
        devices: GPUs, or processes on the CPU.
        accelerator: Where to train.
        precision: auto is bf16 on a GPU that has it, else 32. Mask losses are always in 32.
        compile: Hand backbone and heads to torch.compile, for large pictures: minutes at the
            start. On a CPU it needs a C++ compiler. EfficientNet-Lite's backbone is left out.
        workers: Processes that read pictures. Default: the cores that are free, at most 4.
        seed: Of weights, order and random variants.
        use_masks: ignore: masks in the data are never read. trusted: annotations that have a
            mask learn from it, the others from their boxes.
        pretrained: Start from ImageNet weights.
        skip_bad: Train without the annotations and pictures that have errors.
        limit: Use only the first pictures of each split, this many, to try something out.
        val_fraction: Share of the pictures, 0 to 1, to put aside for scoring where the data has
            no val split.
        out: The run's folder. Default: runs/DATA-METHOD-NUMBER.
        resume: Go on with the run in --out.
        overwrite: Start anew in a folder that has a run.
    """

    method: Method = "sim"
    preset: Literal["default", "paper"] = "default"
    settings: tuple[str, ...] = ()
    model: str = DEFAULT_MODEL
    schedule: ScheduleName = "short"
    epochs: int | None = None
    batch: int | None = None
    accumulate: int = 1
    image_size: int | None = None
    learning_rate: float | None = None
    devices: int = 1
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Precision = "auto"
    compile: bool = False
    workers: int | None = None
    seed: int = 0
    use_masks: Literal["ignore", "trusted"] = "ignore"
    pretrained: bool = True
    skip_bad: bool = False
    limit: int | None = None
    val_fraction: float = 0.0
    out: Path | None = None
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        require_folder(self.out)
        for name, known in TRAIN_CHOICES.items():
            _one_of(name, getattr(self, name), known)
        object.__setattr__(self, "settings", _words(self.settings))
        for name in _WHOLE_NUMBERS:
            _whole_number(name, getattr(self, name))
        for name in ("epochs", "batch", "accumulate", "devices", "limit"):
            _at_least(name, getattr(self, name), 1)
        if not 0 <= self.val_fraction < 1:
            raise UserError(f"val_fraction: expected 0 up to below 1, got {self.val_fraction}")
        _at_least("image_size", self.image_size, 64)
        _at_least("workers", self.workers, 0)
        _at_least("seed", self.seed, 0)
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise UserError(f"learning_rate: expected more than 0, got {self.learning_rate}")
        if self.resume and self.out is None:
            raise UserError(
                "resume needs to know which run to go on with",
                fix="boxmask train --resume RUN, or name its folder with --out",
            )
        if self.resume and self.overwrite:
            raise UserError("resume and overwrite exclude each other", fix="pass one of them")


@dataclass(frozen=True, kw_only=True)
class ValOptions:
    """How a run is scored.

    Attributes:
        image_size: Short side in pixels. Default: the model's.
        device: Where the model runs: auto, cpu, cuda or cuda:1.
        batch: Pictures at a time.
        workers: Processes that read pictures. Default: the cores that are free, at most 4.
        refine: Sharpen masks by the picture's colours.
        skip_bad: Score without the annotations and pictures that have errors.
        out: Folder of metrics.json. Default: runs/val/RUN-SPLIT.
    """

    image_size: int | None = None
    device: str = "auto"
    batch: int = 4
    workers: int | None = None
    refine: bool = True
    skip_bad: bool = False
    out: Path | None = None

    def __post_init__(self) -> None:
        require_folder(self.out)
        _check_inference(self.image_size, self.batch, self.workers)


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """How pictures and videos are searched for objects.

    Attributes:
        threshold: Least score, in 0..1, of what is shown and written.
        image_size: Short side in pixels. Default: the model's.
        device: Where the model runs: auto, cpu, cuda or cuda:1.
        batch: Pictures at a time.
        workers: Processes that read pictures. Default: the cores that are free, at most 4.
        refine: Sharpen masks by the picture's colours.
        pictures: Draw what was found over the pictures.
        out: Folder to write into. Default: runs/predict/SOURCE-NUMBER.
        overwrite: Write into a folder that is not empty.
    """

    threshold: float = 0.3
    image_size: int | None = None
    device: str = "auto"
    batch: int = 4
    workers: int | None = None
    refine: bool = True
    pictures: bool = True
    out: Path | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        require_folder(self.out)
        _check_inference(self.image_size, self.batch, self.workers)
        if not 0 <= self.threshold <= 1:
            raise UserError(f"threshold: expected 0 to 1, got {self.threshold}")


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """How a boxed data set gets its masks.

    Attributes:
        format: What to write; repeat it for several.
        split: Which part of the data.
        image_size: Short side in pixels. Default: 1.25 times the model's.
        device: Where the model runs: auto, cpu, cuda or cuda:1.
        batch: Pictures at a time.
        workers: Processes that read pictures and, beside a GPU, as many that cut masks out.
            Default: the cores that are free, at most 4.
        refine: Sharpen masks by the picture's colours.
        skip_bad: Leave out the annotations and pictures that have errors.
        out: Folder to write into. Default: DATA-masks.
        resume: Go on with the labelling that was begun in --out.
        overwrite: Replace an earlier labelling in --out.
    """

    format: tuple[LabelFormat, ...] = ("coco",)
    split: Literal["all", "train", "val", "test"] = "all"
    image_size: int | None = None
    device: str = "auto"
    batch: int = 4
    workers: int | None = None
    refine: bool = True
    skip_bad: bool = False
    out: Path | None = None
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        require_folder(self.out)
        _check_inference(self.image_size, self.batch, self.workers)
        given: object = self.format
        formats = (given,) if isinstance(given, str) else tuple(dict.fromkeys(self.format))
        for name in formats or ("",):
            _one_of("format", name, get_args(LabelFormat))
        _one_of("split", self.split, ("all", "train", "val", "test"))
        object.__setattr__(self, "format", formats)
        if self.resume and self.overwrite:
            raise UserError("resume and overwrite exclude each other", fix="pass one of them")


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """How pictures of a run's data set are explained.

    Attributes:
        image_size: Short side in pixels. Default: the run's.
        device: Where the model runs: auto, cpu, cuda or cuda:1.
        out: Folder to write into, with a folder for each picture if there are several. Default:
            runs/explain/RUN-PICTURE-NUMBER.
        overwrite: Write into a folder that is not empty.
    """

    image_size: int | None = None
    device: str = "auto"
    out: Path | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        require_folder(self.out)
        _whole_number("image_size", self.image_size)
        _at_least("image_size", self.image_size, 64)


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """How a data set is looked at.

    Attributes:
        image_size: Short side in pixels that training would use.
        out: Folder of pictures and problems.csv. Default: runs/check/NAME.
    """

    image_size: int = 320
    out: Path | None = None

    def __post_init__(self) -> None:
        require_folder(self.out)
        _at_least("image_size", self.image_size, 64)


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
    if isinstance(given.get("out"), str):
        given = {**given, "out": Path(given["out"])}
    return kind(**given)


def _words(given: object) -> tuple[str, ...]:
    """Settings as "name=value" words, from such words or from a mapping."""
    if isinstance(given, Mapping):
        return tuple(f"{name}={value}" for name, value in given.items())
    if isinstance(given, str):
        return (given,)
    return tuple(str(word) for word in cast(Iterable[object], given))


def _whole_number(name: str, value: object) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise UserError(f"{name}: expected a whole number, got {value!r}")


def _at_least(name: str, value: float | None, least: float) -> None:
    if value is not None and value < least:
        raise UserError(f"{name}: expected at least {least}, got {value}")


def _check_inference(image_size: int | None, batch: int, workers: int | None) -> None:
    _at_least("image_size", image_size, 64)
    _at_least("batch", batch, 1)
    _at_least("workers", workers, 0)


def _one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
