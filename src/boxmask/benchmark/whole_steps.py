"""Whole training steps of the methods, on drawn numbers, in turn."""

import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from boxmask.engine.optimizer import build_optimizer
from boxmask.engine.teacher import MovingAverage
from boxmask.engine.training_step import TrainingStep
from boxmask.recipes.condinst import condinst
from boxmask.structures import Batch, Targets

MODEL = "condinst-lite0"
NUM_CLASSES = 6
PICTURES = 4  # of a step
METHODS = ("boxinst", "sim")
PROGRESS = 0.9  # all parts of SIM are at work by then, but for pasting: its bank is empty


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """How long a training step takes.

    Attributes:
        name: of the method.
        batch: pictures.
        size: (height, width) in pixels.
        milliseconds: median.
    """

    name: str
    batch: int
    size: tuple[int, int]
    milliseconds: float


@dataclass(frozen=True, kw_only=True)
class _Training:
    step: TrainingStep
    average: MovingAverage
    optimizer: torch.optim.Optimizer

    def run(self, batch: Batch) -> None:
        """Forward, backward, and everything that moves."""
        losses, context = self.step(batch, PROGRESS, self.average.model)
        torch.stack(list(losses.values())).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(self.step.detector)
        self.step.objective.update(context)


def time_steps(
    size: tuple[int, int], num_objects: int, repeats: int, device: torch.device
) -> list[StepTimes]:
    """Trains all methods in turn, each with the same batches.

    Args:
        size: (height, width) in pixels, multiples of 32.
        num_objects: objects a picture.
        repeats: steps that count.
        device: where.
    """
    trainings = {method: _training(method, device) for method in METHODS}
    times: dict[str, list[float]] = {method: [] for method in METHODS}
    for number in range(-2, repeats):  # the first two warm up and find prototypes
        batch = drawn_batch(size, num_objects, seed=number + 2).to(device)
        for method, training in trainings.items():
            start = time.perf_counter()
            training.run(batch)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number >= 0:
                times[method].append(time.perf_counter() - start)
    return [
        StepTimes(
            name=method,
            batch=PICTURES,
            size=size,
            milliseconds=statistics.median(times[method]) * 1e3,
        )
        for method in METHODS
    ]


def drawn_batch(size: tuple[int, int], num_objects: int, seed: int) -> Batch:
    """Noise with boxes of a sixth to a half of the picture's sides."""
    random = torch.Generator().manual_seed(seed)
    limits = torch.tensor([size[1], size[0]], dtype=torch.float32)

    def boxes() -> Tensor:
        sides = (torch.rand(num_objects, 2, generator=random) / 3 + 1 / 6) * limits
        corners = torch.rand(num_objects, 2, generator=random) * (limits - sides)
        return torch.cat([corners, corners + sides], dim=1)

    targets = [
        Targets.from_boxes(boxes(), torch.randint(NUM_CLASSES, (num_objects,), generator=random))
        for _ in range(PICTURES)
    ]
    return Batch(
        images=torch.rand(PICTURES, 3, *size, generator=random),
        valid=torch.ones(PICTURES, *size, dtype=torch.bool),
        targets=tuple(targets),
        image_sizes=(size,) * PICTURES,
        scales=torch.ones(PICTURES, 2),
        indices=tuple(range(PICTURES)),
        names=tuple(str(index) for index in range(PICTURES)),
    )


def _training(method: str, device: torch.device) -> _Training:
    torch.manual_seed(0)
    recipe = condinst(MODEL, "sim" if method == "sim" else "boxinst", NUM_CLASSES)
    detector = recipe.detector.build()
    step = TrainingStep(detector, recipe.build_objective(total_steps=1000)).to(device).train()
    return _Training(
        step=step,
        average=MovingAverage(detector, recipe.average_decay).to(device),
        optimizer=build_optimizer(detector, recipe.optimizer, recipe.batch),
    )
