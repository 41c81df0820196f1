"""Whole training steps of the methods, on drawn numbers, in turn."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from boxmask.benchmark.gauges import peak_memory, seconds
from boxmask.benchmark.settings import StepCase
from boxmask.box_supervision.weak_loss import LossContext
from boxmask.engine.optimizer import build_optimizer
from boxmask.engine.teacher import MovingAverage
from boxmask.engine.training_step import TrainingStep
from boxmask.recipes.models import build_recipe
from boxmask.structures import Batch, Targets

NUM_CLASSES = 6
METHODS = ("boxinst", "sim")
PROGRESS = 0.45  # all parts of SIM are at work then, but for pasting: its bank is empty


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """How long a training step takes.

    Attributes:
        method: what teaches masks.
        case: the model, and what it is trained on.
        milliseconds: median of whole steps: forward, backward, and everything that moves.
        backbone_milliseconds: median of the learning backbone alone, forward and backward; a
            teacher's is not in it.
        loss_milliseconds: median of the weak losses alone, forward and backward, on masks that
            are there.
        mebibytes: largest memory of a step beyond that of weights and optimizer; None where it
            cannot be told.
    """

    method: str
    case: StepCase
    milliseconds: float
    backbone_milliseconds: float
    loss_milliseconds: float
    mebibytes: float | None


@dataclass(frozen=True, kw_only=True)
class _Training:
    step: TrainingStep
    average: MovingAverage
    optimizer: torch.optim.Optimizer
    bf16: bool

    def forward(self, batch: Batch) -> tuple[dict[str, Tensor], LossContext]:
        """The losses, in the case's precision."""
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=self.bf16):
            return self.step(batch, PROGRESS, self.average.model)

    def run(self, batch: Batch) -> None:
        """Forward, backward, and everything that moves."""
        losses, context = self.forward(batch)
        torch.stack(list(losses.values())).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(self.step.detector)
        self.step.objective.update(context)

    def backbone(self, batch: Batch) -> None:
        """The detector's backbone alone, forward and backward."""
        backbone = cast(nn.Module, self.step.detector.backbone)
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=self.bf16):
            maps = backbone(batch.images, batch.valid)
        torch.autograd.backward(
            [one for one in maps if one.requires_grad],
            [torch.ones_like(one) for one in maps if one.requires_grad],
        )
        self.optimizer.zero_grad()

    def weak_losses(self, batch: Batch) -> Callable[[], None]:
        """The weak losses of a batch, forward and backward, cut off from the detector."""
        with torch.no_grad():
            _, context = self.forward(batch)

        def run() -> None:
            leaf = context.student.logits.detach().requires_grad_()
            student = replace(context.student, logits=leaf)
            losses = self.step.objective(replace(context, student=student))
            losses = self.step.objective.reduce(losses, PROGRESS)
            torch.stack(list(losses.values())).sum().backward()

        return run


def time_steps(case: StepCase, repeats: int, device: torch.device) -> list[StepTimes]:
    """Trains all methods in turn, each with the same batches.

    Args:
        case: model and size.
        repeats: steps that count.
        device: where.
    """
    trainings = {method: _training(method, case, device) for method in METHODS}
    times: dict[str, list[float]] = {method: [] for method in METHODS}
    for number in range(-2, repeats):  # the first two warm up and find prototypes
        batch = drawn_batch(case, seed=number + 2).to(device)
        for method, training in trainings.items():
            taken = seconds(partial(training.run, batch), device)
            if number >= 0:
                times[method].append(taken)
    found = []
    batch = drawn_batch(case, seed=0).to(device)
    for method, training in trainings.items():
        losses = training.weak_losses(batch)
        losses()
        alone = [seconds(losses, device) for _ in range(repeats)]
        backbone = partial(training.backbone, batch)
        backbone()
        backbone_times = [seconds(backbone, device) for _ in range(repeats)]
        found.append(
            StepTimes(
                method=method,
                case=case,
                milliseconds=statistics.median(times[method]) * 1e3,
                backbone_milliseconds=statistics.median(backbone_times) * 1e3,
                loss_milliseconds=statistics.median(alone) * 1e3,
                mebibytes=peak_memory(partial(training.run, batch), device),
            )
        )
    return found


def drawn_batch(case: StepCase, seed: int) -> Batch:
    """Noise with boxes of a sixth to a half of the picture's sides."""
    size, num_objects = case.size, case.num_objects
    random = torch.Generator().manual_seed(seed)
    limits = torch.tensor([size[1], size[0]], dtype=torch.float32)

    def boxes() -> Tensor:
        sides = (torch.rand(num_objects, 2, generator=random) / 3 + 1 / 6) * limits
        corners = torch.rand(num_objects, 2, generator=random) * (limits - sides)
        return torch.cat([corners, corners + sides], dim=1)

    targets = [
        Targets.from_boxes(boxes(), torch.randint(NUM_CLASSES, (num_objects,), generator=random))
        for _ in range(case.batch)
    ]
    return Batch(
        images=torch.rand(case.batch, 3, *size, generator=random),
        valid=torch.ones(case.batch, *size, dtype=torch.bool),
        targets=tuple(targets),
        image_sizes=(size,) * case.batch,
        scales=torch.ones(case.batch, 2),
        indices=tuple(range(case.batch)),
        names=tuple(str(index) for index in range(case.batch)),
    )


def _training(method: str, case: StepCase, device: torch.device) -> _Training:
    torch.manual_seed(0)
    recipe = build_recipe(
        case.model, "sim" if method == "sim" else "boxinst", NUM_CLASSES, pretrained=False
    )
    # A step must cost what it costs with pretrained weights: these freeze stages and norms.
    backbone = replace(recipe.detector.backbone, frozen_stages=2, frozen_norm=True)
    recipe = replace(recipe, detector=replace(recipe.detector, backbone=backbone))
    detector = recipe.detector.build()
    step = TrainingStep(detector, recipe.build_objective(total_steps=1000)).to(device).train()
    return _Training(
        step=step,
        average=MovingAverage(detector, recipe.average_decay).to(device),
        optimizer=build_optimizer(detector, recipe.optimizer, recipe.batch, fused=True),
        bf16=case.bf16,
    )
