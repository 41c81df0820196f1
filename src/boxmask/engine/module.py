"""The Lightning module around the training step: optimizer, schedule, moving average."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from boxmask import ranks
from boxmask.box_supervision.objective import Objective
from boxmask.detectors.detector import Detector
from boxmask.engine.optimizer import OptimizerSettings, build_optimizer, rate_factor
from boxmask.engine.teacher import MovingAverage
from boxmask.engine.training_step import TrainingStep
from boxmask.errors import UserError
from boxmask.structures import Batch
from boxmask.waitless import Fetched

OTHER_PROCESSES = "extra_states_of_other_processes"  # key of a checkpoint; in their order


@dataclass(frozen=True, kw_only=True)
class ModuleSettings:
    """How a detector is trained.

    Attributes:
        optimizer: see `OptimizerSettings`.
        batch: pictures of one optimizer step, all processes together.
        total_steps: optimizer steps of the run. Lightning's own count begins to read pictures,
            which is too early for a run that is resumed: it is not known yet which come next.
        average_decay: of the moving average, in 0..1.
        seed: of everything random inside a step.
        fused: see `build_optimizer`.
        compiled: hand the detector's map parts to `torch.compile`.
    """

    optimizer: OptimizerSettings
    batch: int
    total_steps: int
    average_decay: float
    seed: int = 0
    fused: bool = False
    compiled: bool = False


class TrainingModule(pl.LightningModule):
    """Trains a detector with an objective and keeps its moving average.

    Everything random inside a step is seeded by run, step and process, and everything that moves
    is in the state dict: an interrupted run that goes on ends as an uninterrupted one.

    Args:
        detector: weights loaded.
        objective: what teaches its masks.
        settings: see `ModuleSettings`.
    """

    def __init__(
        self,
        detector: Detector,
        objective: Objective,
        settings: ModuleSettings,
    ) -> None:
        super().__init__()
        self.step = TrainingStep(detector, objective)
        self.average = MovingAverage(detector, settings.average_decay)
        self.settings = settings
        self.epoch_means = RunningMeans()
        self._last_step = -1
        self._unchecked: _Losses | None = None

    @property
    def progress(self) -> float:
        """Share of the run that is done, in 0..1."""
        return self.global_step / max(self.settings.total_steps, 1)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The loss of a batch; stops with the pictures' names when it is not finite.

        On a GPU it stops a step later, so as not to wait for the number.
        """
        torch.manual_seed(_step_seed(self.settings.seed, self.current_epoch, batch_index))
        losses, context = self.step(batch, self.progress, self.average.model)
        total = torch.stack(list(losses.values())).sum()
        self._check(_Losses.of(losses, batch, self.global_step))
        watched = self.step.objective.report()
        self.epoch_means.add(
            {**losses, **watched, "loss": total, "fill": context.student.mean_fill}
        )
        self._context = context
        return total

    def _check(self, losses: _Losses | None) -> None:
        """Raises if losses are not finite: these, or where the host would wait those before."""
        if self.device.type == "cpu":
            due = losses
        else:
            due, self._unchecked = self._unchecked, losses
        if due is not None:
            due.check()

    def means_of_epoch(self) -> dict[str, float]:
        """Means of named numbers since the epoch began, see `RunningMeans.compute`.

        Raises:
            UserError: If losses of the last step are not finite.
        """
        self._check(None)
        return self.epoch_means.compute()

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """The losses' own state learns from each part of a batch, the average after a step."""
        if self.global_step != self._last_step:
            self._last_step = self.global_step
            self.average.update(self.step.detector)
        self.step.objective.update(self._context)
        del self._context

    def setup(self, stage: str) -> None:
        """Several cores of a CPU sum in one order, so that a run can be repeated bit for bit.

        What is compiled is compiled at its first use.
        """
        if self.trainer.strategy.root_device.type == "cpu":
            torch.use_deterministic_algorithms(True, warn_only=True)
            # It costs time, and we read no memory that was not written.
            torch.utils.deterministic.fill_uninitialized_memory = False  # pyrefly: ignore
        if self.settings.compiled:
            compile_parts(self.step.detector)
            compile_parts(self.average.model)

    def on_train_start(self) -> None:
        """The steps of an earlier part of the run are counted already."""
        self._last_step = self.global_step

    def on_train_epoch_start(self) -> None:
        """A new epoch has new means."""
        self.epoch_means = RunningMeans()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The state dict is the first process's; what the others remember joins it.

        Tensors of the state dict are the same in all processes, extra states such as the bank of
        pasted objects are each process's own.
        """
        if ranks.num_ranks() > 1:
            states = ranks.gather_to_first(_extra_states(checkpoint["state_dict"]))
            checkpoint[OTHER_PROCESSES] = states[1:]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Each process takes its own extra states; of another number, they are dealt out in turn.

        Checkpoints of one process have no others, and all take the first one's.
        """
        state = checkpoint["state_dict"]
        states = [_extra_states(state), *checkpoint.get(OTHER_PROCESSES, ())]
        state.update(states[ranks.rank() % len(states)])

    def configure_optimizers(self) -> Any:
        """The optimizer with a rate that follows the share of the run."""
        settings = self.settings.optimizer
        optimizer = build_optimizer(
            self.step.detector, settings, self.settings.batch, fused=self.settings.fused
        )
        factor = rate_factor(settings, self.settings.total_steps)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Batches move as a whole."""
        return batch.to(device, non_blocking=True)


LEAST_SIDE = 5
"""Rows and columns of a map below which a part runs uncompiled.

Halved twice, such a map has one row, and the compiler takes each pattern of ones as a case of its
own; it gives up after a few.
"""

CODES_OF_PART = 4  # with and without a graph, of one size and of all


def compile_parts(detector: Detector, **options: Any) -> None:
    """Compiles what makes maps of maps, in place; names in the state dict stay.

    Sizes are symbols, so pictures of many sizes share the code. What lists points and objects
    changes its shape with each batch and is left as it is.

    Args:
        detector: to be changed.
        options: more arguments of `torch.compile`, whose limit of recompilations is raised.
    """
    parts = detector.map_parts
    # What is compiled is counted for all parts together, as if one had changed its mind so often.
    torch._dynamo.config.recompile_limit += CODES_OF_PART * len(parts)
    for part in parts:
        part.compile(dynamic=True, **options)
        # Torch's own place, which copies of a module leave out.
        assert part._compiled_call_impl is not None
        part._compiled_call_impl = partial(
            _compiled_if_large, part._call_impl, part._compiled_call_impl
        )


def _compiled_if_large(
    plain: Callable[..., Any], compiled: Callable[..., Any], *inputs: Any
) -> Any:
    maps = (one for one in tree_leaves(inputs) if isinstance(one, Tensor))
    sizes = [side for one in maps for side in one.shape[-2:]]
    return (compiled if min(sizes) >= LEAST_SIDE else plain)(*inputs)


class RunningMeans:
    """Means of named numbers over an epoch, kept on their device until they are asked for."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        self._start = time.monotonic()

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Adds one step's numbers."""
        self._count += 1
        for name, value in values.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def compute(self) -> dict[str, float]:
        """Means over steps and processes, and steps per second as `rate`."""
        if not self._count:
            return {}
        names = list(self._sums)
        means = ranks.mean_over_ranks(torch.stack([self._sums[name] for name in names]))
        rate = self._count / max(time.monotonic() - self._start, 1e-9)
        values = (means / self._count).tolist()
        return dict(zip(names, values, strict=True)) | {"rate": rate}


def _extra_states(state: Mapping[str, Any]) -> dict[str, Any]:
    """What modules keep in a state dict beside their tensors."""
    return {name: value for name, value in state.items() if name.endswith("_extra_state")}


def _step_seed(seed: int, epoch: int, batch_index: int) -> int:
    return hash((seed, epoch, batch_index, ranks.rank())) % (2**63)


@dataclass(frozen=True, kw_only=True)
class _Losses:
    """Losses of a step, on their way to the host."""

    values: Fetched
    names: tuple[str, ...]
    pictures: tuple[str, ...]
    step: int

    @classmethod
    def of(cls, losses: Mapping[str, Tensor], batch: Batch, step: int) -> _Losses:
        return cls(
            values=Fetched(torch.stack(list(losses.values())).detach()),
            names=tuple(losses),
            pictures=batch.names,
            step=step,
        )

    def check(self) -> None:
        """Raises UserError unless all are finite."""
        values = self.values.get()[0].tolist()
        bad = [
            name for name, value in zip(self.names, values, strict=True) if not math.isfinite(value)
        ]
        if bad:
            raise UserError(
                f"{' and '.join(bad)} became NaN or infinite at step {self.step}",
                where=f"pictures: {', '.join(self.pictures)}",
                fix="look at these pictures and their boxes; if they are fine, lower "
                "--learning-rate or train with --precision 32",
            )
