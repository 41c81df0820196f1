"""What a person sees while Lightning trains."""

import logging
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


def quiet_lightning() -> None:
    """Silences Lightning's notices; errors stay."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")


def progress_callbacks(say: Callable[[str], None]) -> list[Callback]:
    """A live bar on a terminal, a line now and then elsewhere."""
    return [Quiet(), OwnSignals(), LiveBar() if sys.stderr.isatty() else TimeLines(say)]


class Quiet(Callback):
    """Silences Lightning in every process of a run, from where it arrives there."""

    def __init__(self) -> None:
        quiet_lightning()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Made anew in other processes."""
        return type(self), ()


class OwnSignals(Callback):
    """SIGTERM ends a process as it did before the trainer came.

    Lightning would go on to the end of the step and ask other processes, which may be gone.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Before Lightning puts its own handler there."""
        self._before = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After that."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)


class LiveBar(Callback):
    """One bar over the whole run: step, rate, loss, time left."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Opens the bar."""
        if not trainer.is_global_zero:
            return
        from rich.console import Console

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        total = int(trainer.estimated_stepping_batches)
        self._task = self._progress.add_task("training", total=total, completed=trainer.global_step)
        self._clock = (time.monotonic(), trainer.global_step)
        self._progress.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any,
        batch: Any, batch_idx: int,
    ) -> None:  # fmt: skip
        """Moves the bar; reads the loss once a second at most."""
        now, step = time.monotonic(), trainer.global_step
        if self._progress is None or now - self._clock[0] < 1 or step == self._clock[1]:
            return
        rate = (step - self._clock[1]) / (now - self._clock[0])
        self._clock = (now, step)
        words = (
            f"epoch {trainer.current_epoch + 1}  {rate:.2f} it/s  loss {float(outputs['loss']):.3f}"
        )
        self._progress.update(self._task, completed=step, description=words)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Closes the bar."""
        if self._progress is not None:
            self._progress.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Closes the bar before the error is shown."""
        self.on_train_end(trainer, pl_module)


class TimeLines(Callback):
    """Without a terminal: a line a minute with the rate and the time left.

    Args:
        say: prints a line.
        interval: seconds from one line to the next.
    """

    def __init__(self, say: Callable[[str], None], interval: float = 60.0) -> None:
        self._say = say
        self._interval = interval

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock."""
        self._begin = self._shown = time.monotonic()
        self._first_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any,
        batch: Any, batch_idx: int,
    ) -> None:  # fmt: skip
        """Prints where a minute has passed."""
        now, step = time.monotonic(), trainer.global_step
        if not trainer.is_global_zero or now - self._shown < self._interval:
            return
        self._shown = now
        rate = max(step - self._first_step, 1) / (now - self._begin)
        total = int(trainer.estimated_stepping_batches)
        left = (total - step) / rate / 60
        loss = float(outputs["loss"])
        self._say(f"  step {step}/{total}  {rate:.2f} it/s  loss {loss:.3f}  {left:.0f} min left")
