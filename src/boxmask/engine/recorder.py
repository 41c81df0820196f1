"""Scores after epochs, keeps the best weights, writes the run folder, says what happens."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
import torch

from boxmask import ranks
from boxmask.detectors.detector import Detector
from boxmask.engine.module import TrainingModule
from boxmask.engine.run_folder import RunFolder, save_weights
from boxmask.remarks import remarks


class Scoring(Protocol):
    """Scores a detector; `pictures` is a folder for drawings, or None."""

    def __call__(
        self, detector: Detector, device: torch.device, pictures: Path | None
    ) -> dict[str, float]:
        """The numbers by name; every process takes part."""


class TrainingPictures(Protocol):
    """Draws what a run teaches; leaves weights and random numbers as they are."""

    def __call__(self, module: TrainingModule, folder: Path) -> None:
        """Writes pictures into the folder; the first process alone calls it."""


@dataclass(frozen=True, kw_only=True)
class RecorderSettings:
    """What is recorded, and when.

    Attributes:
        folder: where.
        scoring: how the moving average is scored; None without a validation split.
        every: epochs from one scoring to the next; the last epoch is always scored.
        description: plain data saved with the weights.
        warmup: share of the run, in 0..1, over which the mask losses find their balance.
        warn: turns the numbers into a warning in plain words, or None.
        say: prints a line.
        pictures: draws what the run teaches, after each scored epoch; None for no such pictures.
    """

    folder: RunFolder
    scoring: Scoring | None
    every: int
    description: Mapping[str, Any]
    warmup: float
    warn: Callable[[Mapping[str, float]], str | None]
    say: Callable[[str], None]
    pictures: TrainingPictures | None = None


class RunRecorder(pl.Callback):
    """Writes `results.csv`, `metrics.json`, pictures and the best weights.

    The best epoch is chosen without masks, by `fitness`: a run on data whose masks were deleted
    keeps the same weights. It is the last epoch that is level with the best: boxes are found long
    before masks are, so of two like epochs the later one has the better masks.

    Args:
        settings: see `RecorderSettings`.
    """

    def __init__(self, settings: RecorderSettings) -> None:
        self.settings = settings
        self.best_fitness = -math.inf
        self.best_metrics: dict[str, float] = {}
        self.minutes = 0.0
        self._start = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs."""
        return {
            "best_fitness": self.best_fitness,
            "best_metrics": self.best_metrics,
            "minutes": self.minutes,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self.best_fitness = state_dict["best_fitness"]
        self.best_metrics = state_dict["best_metrics"]
        self.minutes = state_dict["minutes"]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The clock of training runs; scoring is not counted."""
        self._start = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Means of the epoch, scores where due, files, one printed line."""
        assert isinstance(pl_module, TrainingModule)
        self.minutes += (time.monotonic() - self._start) / 60
        means = pl_module.means_of_epoch()
        epoch = trainer.current_epoch + 1
        last = epoch == trainer.max_epochs
        due = last or epoch % self.settings.every == 0
        with remarks() as said:
            scores = self._score(pl_module) if due else {}
        row = {
            "epoch": epoch,
            "step": trainer.global_step,
            "minutes": self.minutes,
            "learning_rate": trainer.optimizers[0].param_groups[-1]["lr"],
            "warmup_share": warmup_of_epoch(
                epoch, int(trainer.max_epochs or 1), self.settings.warmup
            ),
            **{f"train/{name}": value for name, value in means.items()},
            **{name: scores.get(name, math.nan) for name in REPORTED if scores},
        }
        if ranks.is_first():
            self._write(pl_module, row, scores, said)
            if due and self.settings.pictures is not None:
                self.settings.pictures(pl_module, self.settings.folder.root)

    def _score(self, module: TrainingModule) -> dict[str, float]:
        if self.settings.scoring is None:
            return {}
        pictures = self.settings.folder.root if ranks.is_first() else None
        return self.settings.scoring(module.average.model, module.device, pictures)

    def _write(
        self,
        module: TrainingModule,
        row: dict[str, Any],
        scores: dict[str, float],
        said: Sequence[str],
    ) -> None:
        settings = self.settings
        settings.folder.add_results(row)
        settings.say(epoch_line(row))
        for remark in said:
            settings.say(f"  ! {remark}")
        place, judged = ("val", scores) if scores else ("training", {"fill": row["train/fill"]})
        warning = settings.warn(judged)
        if warning:
            settings.say(f"  ! in {place}, {warning}")
        if settings.scoring is not None and not scores:
            return
        fitness = fitness_of(scores)
        if fitness >= LEVEL * self.best_fitness or settings.scoring is None:
            self.best_fitness = max(fitness, self.best_fitness)
            self.best_metrics = {"epoch": row["epoch"], "minutes": row["minutes"], **scores}
            settings.folder.write_metrics(self.best_metrics)
            save_weights(settings.folder.best, module.average.model, settings.description)


# Share of the best fitness from which an epoch is level with it.
LEVEL = 0.95

# Columns of results.csv that come from scoring.
REPORTED = (
    "box_ap",
    "box_ap50",
    "mask_ap",
    "mask_ap50",
    "label_iou",
    "fill",
    "box_tightness",
)


def fitness_of(scores: Mapping[str, float]) -> float:
    """How good an epoch is, from boxes alone: box AP times how well masks reach their boxes."""
    box_ap = scores.get("box_ap", math.nan)
    tightness = scores.get("box_tightness", math.nan)
    fitness = box_ap * tightness
    return fitness if math.isfinite(fitness) else 0.0


def warmup_of_epoch(epoch: int, num_epochs: int, warmup: float) -> float:
    """The part of an epoch (counted from 1), in 0..1, that lies in the run's warm-up."""
    return min(max(warmup * num_epochs - (epoch - 1), 0.0), 1.0)


def epoch_line(row: Mapping[str, Any]) -> str:
    """One line on an epoch: losses, fill in training, rate, and scores of val where due."""
    losses = "  ".join(
        f"{name.removeprefix('train/loss_')} {value + 0.0:.3f}"  # no "-0.000"
        for name, value in row.items()
        if name.startswith("train/loss_")
    )
    line = (
        f"epoch {row['epoch']}  {row['minutes']:.1f} min  {row['train/rate']:.2f} it/s  "
        f"{losses}  fill {row['train/fill']:.2f}"
    )
    if math.isfinite(row.get("fill", math.nan)):
        line += f" (val {row['fill']:.2f})"
    names = {"box_ap": "box AP", "mask_ap": "mask AP", "label_iou": "label IoU"}
    shown = [
        f"{title} {row[name]:.3f}"
        for name, title in names.items()
        if math.isfinite(row.get(name, math.nan))
    ]
    return "  ".join([line, *shown])
