"""Settings of the benchmarks: plain data with defaults, light to import."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from boxmask.api.options import DEFAULT_MODEL
from boxmask.benchmark.variants import VARIANTS, Taught, Variant, VariantName
from boxmask.errors import UserError, require_folder


@dataclass(frozen=True, kw_only=True)
class AccuracySettings:
    """What the accuracy list trains.

    Attributes:
        methods: What teaches the masks, or SIM with one part changed; one row of the table each.
        models: Which models; see --model of boxmask train.
        seeds: One run for each.
        epochs: Passes over the training pictures. Default: the recipe's.
        image_size: Short side in pixels. Default: the recipe's.
        batch: Pictures of one optimizer step. Default: the recipe's.
        jobs: Runs that are trained side by side, each with its share of the cores.
        out: Folder of all runs; finished ones are not done again.
    """

    methods: tuple[Taught, ...] = ("sim", "boxinst", "full")
    models: tuple[str, ...] = (DEFAULT_MODEL,)
    seeds: tuple[int, ...] = (0,)
    epochs: int | None = None
    image_size: int | None = None
    batch: int | None = None
    jobs: int = 1
    out: Path = Path("runs/accuracy")

    def __post_init__(self) -> None:
        require_folder(self.out)
        _positive(self, "jobs")
        for name in ("methods", "models", "seeds"):
            _without_repeats(self, name)
            _at_least_one(name, getattr(self, name))

    @property
    def options(self) -> dict[str, Any]:
        """Options of `boxmask.train` that were chosen for all runs."""
        chosen = {"epochs": self.epochs, "image_size": self.image_size, "batch": self.batch}
        return {name: value for name, value in chosen.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class ChallengeSettings:
    """What the challenges train.

    Attributes:
        camouflage: Values of this dial, 0 to 1; the other is at 0. At 1 objects have the
            background's mean colour.
        crowding: Values of this dial, 0 to 1; the other is at 0. At 1 objects lie in heaps of one
            class and colour.
        variants: What is compared.
        seeds: One run of each variant for each.
        epochs: Passes over the training pictures.
        image_size: Side of the pictures in pixels.
        num_train: Pictures to learn from, for each dial value.
        num_val: Pictures to score on, for each dial value.
        score: end: the last weights are scored once, which saves time. best: weights are scored
            now and then, and those of the best epoch, judged by boxes alone, count.
        jobs: Runs that are trained side by side, each with its share of the cores.
        out: Folder of data, runs and results; finished runs are not done again.
    """

    camouflage: tuple[float, ...] = (0.0, 0.5, 0.8, 1.0)
    crowding: tuple[float, ...] = (0.0, 0.5, 1.0)
    variants: tuple[VariantName, ...] = tuple(variant.name for variant in VARIANTS)
    seeds: tuple[int, ...] = (0, 1, 2)
    epochs: int = 25
    image_size: int = 128
    num_train: int = 60
    num_val: int = 30
    score: Literal["end", "best"] = "end"
    jobs: int = 1
    out: Path = Path("runs/challenges")

    def __post_init__(self) -> None:
        require_folder(self.out)
        for name in ("camouflage", "crowding", "variants", "seeds"):
            _without_repeats(self, name)
            _at_least_one(name, getattr(self, name))
        for name in ("camouflage", "crowding"):
            for value in getattr(self, name):
                if not 0 <= value <= 1:
                    raise UserError(f"{name}: expected 0 to 1, got {value:g}")
        _positive(self, "epochs", "num_train", "num_val", "jobs")
        known = [variant.name for variant in VARIANTS]
        for name in self.variants:
            if name not in known:
                raise UserError(f"there is no variant {name!r}", fix=f"known: {', '.join(known)}")

    @property
    def chosen_variants(self) -> tuple[Variant, ...]:
        """The variants to compare."""
        return tuple(variant for variant in VARIANTS if variant.name in self.variants)


@dataclass(frozen=True, kw_only=True)
class ReproduceSettings:
    """Which rows of a table are trained, and how.

    Attributes:
        data: COCO, a folder with train and val.
        row: Rows to train; repeat it for several.
        smoke: Run the same code on a few small pictures, without pretrained weights, to see that
            it runs.
        seed: Of weights, order and random variants.
        devices: GPUs, or processes on the CPU.
        accumulate: Parts that a batch is split into, one after the other, to save memory.
        workers: Processes that read pictures. Default: the cores that are free, at most 4.
        out: Folder of the runs and the table; runs of --smoke go into a folder in it.
    """

    data: Path | None = None
    row: tuple[str, ...] = ()
    smoke: bool = False
    seed: int = 0
    devices: int = 1
    accumulate: int = 1
    workers: int | None = None
    out: Path = Path("runs/reproduce")

    def __post_init__(self) -> None:
        require_folder(self.out)

    @property
    def folder(self) -> Path:
        """Where runs and table go."""
        return self.out / "smoke" if self.smoke else self.out


@dataclass(frozen=True, kw_only=True)
class StepCase:
    """A whole training step.

    Attributes:
        model: as in `TrainOptions.model`; weights are drawn, so that nothing is downloaded.
        batch: pictures.
        size: (height, width) in pixels, multiples of 32.
        num_objects: objects of a picture.
        bf16: mixed precision, as `--precision bf16`; else 32 bits.
    """

    model: str = "condinst-lite0"
    batch: int = 4
    size: tuple[int, int] = (320, 416)
    num_objects: int = 4
    bf16: bool = False

    @property
    def title(self) -> str:
        """The model, and its precision where that is not 32 bits."""
        return f"{self.model}, bf16" if self.bf16 else self.model


@dataclass(frozen=True, kw_only=True)
class FlowSettings:
    """Work on drawn pictures whose rate is counted.

    Attributes:
        model: see `StepCase`.
        size: (height, width) of the pictures in pixels.
        num_images: how many there are.
        num_objects: boxes of a picture, about; also detections of it.
        batches: pictures that the model sees together.
    """

    model: str = "condinst-lite0"
    size: tuple[int, int] = (320, 416)
    num_images: int = 64
    num_objects: int = 4
    batches: tuple[int, ...] = (1, 16)


@dataclass(frozen=True, kw_only=True)
class SpeedSettings:
    """What the speed benchmark measures.

    Attributes:
        quick: Few sizes and repeats: less than a minute on two cores.
        json: File to write all numbers to.
    """

    quick: bool = False
    json: Path | None = None

    @property
    def cases(self) -> tuple[tuple[tuple[int, int], int], ...]:
        """Picture sizes in pixels, each with a number of objects."""
        sizes = ((512, 512),) if self.quick else ((512, 512), (800, 800), (800, 1333))
        numbers = (16, 64) if self.quick else (1, 16, 64, 256)
        return tuple((size, number) for size in sizes for number in numbers)

    @property
    def repeats(self) -> int:
        """Runs of which the median counts."""
        return 3 if self.quick else 7

    @property
    def step_cases(self) -> tuple[StepCase, ...]:
        """Whole training steps: a light model, a large one, and a crowd."""
        if self.quick:
            return (StepCase(size=(192, 256)),)
        large = StepCase(model="condinst-r50", batch=2, size=(480, 640), num_objects=8)
        return (
            StepCase(),
            large,
            replace(large, bf16=True),
            replace(large, batch=1, size=(640, 640), num_objects=16),
            StepCase(batch=1, size=(800, 800), num_objects=1000),
        )

    @property
    def gpu_step_cases(self) -> tuple[StepCase, ...]:
        """Whole training steps that only a GPU takes: a published batch at published size."""
        size = (480, 640) if self.quick else (800, 800)
        return (StepCase(model="condinst-r50", batch=16, size=size, num_objects=8, bf16=True),)

    @property
    def step_repeats(self) -> int:
        """Steps of which the median counts."""
        return 3 if self.quick else 5

    @property
    def flows(self) -> tuple[FlowSettings, ...]:
        """Work whose pictures a second are counted."""
        return (FlowSettings(num_images=16, batches=(1,)) if self.quick else FlowSettings(),)

    @property
    def gpu_flows(self) -> tuple[FlowSettings, ...]:
        """The same with a large model and large pictures."""
        if self.quick:
            return ()
        return (FlowSettings(model="condinst-r50", size=(800, 800), num_objects=8),)


def _without_repeats(settings: object, name: str) -> None:
    object.__setattr__(settings, name, tuple(dict.fromkeys(getattr(settings, name))))


def _positive(settings: object, *names: str) -> None:
    for name in names:
        if getattr(settings, name) < 1:
            raise UserError(f"{name}: expected at least 1, got {getattr(settings, name)}")


def _at_least_one(name: str, values: tuple[object, ...]) -> None:
    if not values:
        raise UserError(f"{name}: expected at least one value")
