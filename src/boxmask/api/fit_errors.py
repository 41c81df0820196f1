"""What ends a training, in words of the user; also where it ends a process of several."""

import contextlib
import os
import pickle
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch._dynamo.exc import BackendCompilerFailed
from torch.multiprocessing.spawn import ProcessException

from boxmask.errors import UserError


@dataclass(frozen=True, kw_only=True)
class FitErrors:
    """Says what a user can do about errors of a training.

    Attributes:
        part: pictures that a process looks at together.
        image_size: their short side in pixels.
    """

    part: int
    image_size: int

    def in_words(self, error: BaseException) -> UserError | None:
        """The error as one of the user; None where it is not known to be one."""
        if isinstance(error, UserError):
            return error
        if isinstance(error, torch.OutOfMemoryError):
            return UserError(
                f"the device's memory is too small for {self.part} pictures of "
                f"{self.image_size} pixels at a time",
                where=str(error).splitlines()[0],
                fix="split the batch with --accumulate 2 (or more), or lower --image-size",
            )
        if isinstance(error, BackendCompilerFailed):
            return UserError(
                "backbone and heads could not be compiled",
                where=str(error).splitlines()[0],
                fix="install a C++ compiler such as g++, or leave out --compile",
            )
        return None


@dataclass(frozen=True, kw_only=True)
class ErrorMessenger:
    """Writes down what ends a process, for the one that started it: that one is told a text alone.

    Attributes:
        errors: which errors can be said in words.
        file: to be written.
    """

    errors: FitErrors
    file: Path

    def tell(self, error: BaseException) -> None:
        """Says it, if there is something to say and no other process was first."""
        found = self.errors.in_words(error)
        if found is None or self.file.exists():
            return
        beside = self.file.with_name(f"{self.file.name}-{os.getpid()}")
        beside.write_bytes(pickle.dumps(found))
        beside.replace(self.file)  # whole, also where another process ends this one now

    def told(self) -> UserError | None:
        """What a process has said."""
        return pickle.loads(self.file.read_bytes()) if self.file.is_file() else None


class TellingTrainer(pl.Trainer):
    """Lightning's trainer, whose processes say what ends them.

    Lightning tells callbacks of an error in the process that starts the others alone, so what these
    do is wrapped; where a Lightning to come calls it by another name, errors stay texts.
    """

    messenger: ErrorMessenger | None = None

    def _fit_impl(self, *given: Any, **named: Any) -> None:
        try:
            super()._fit_impl(*given, **named)
        except Exception as error:
            if self.messenger is not None:
                self.messenger.tell(error)
            raise


@contextlib.contextmanager
def errors_in_words(trainer: TellingTrainer, errors: FitErrors) -> Iterator[None]:
    """Errors of the block, or of processes that it started, are raised as the user's.

    Raises:
        UserError: If what ends the block can be said in words.
    """
    with tempfile.TemporaryDirectory() as folder:
        trainer.messenger = ErrorMessenger(errors=errors, file=Path(folder) / "error")
        try:
            yield
        except Exception as error:
            found = errors.in_words(error)
            if isinstance(error, ProcessException):
                found = trainer.messenger.told()
            if found is None or found is error:
                raise
            raise found from error
        finally:
            trainer.messenger = None
