"""What ends a training, in words of the user; also where it ends a process of several."""

import contextlib
import pickle
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch._dynamo.exc import BackendCompilerFailed
from torch.multiprocessing.spawn import ProcessRaisedException

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


class ErrorMessenger(Callback):
    """Writes down what ends a process, for the one that started it: it is told a text alone.

    Args:
        errors: which errors can be said in words.
        file: to be written.
    """

    def __init__(self, errors: FitErrors, file: Path) -> None:
        super().__init__()
        self.errors = errors
        self.file = file

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """The first process that has something to say is heard."""
        found = self.errors.in_words(exception)
        if found is not None:
            with contextlib.suppress(FileExistsError), self.file.open("xb") as file:
                pickle.dump(found, file)


@contextlib.contextmanager
def errors_in_words(trainer: pl.Trainer, errors: FitErrors) -> Iterator[None]:
    """Errors of the block, or of processes that it started, are raised as the user's.

    Raises:
        UserError: If what ends the block can be said in words.
    """
    with tempfile.TemporaryDirectory() as folder:
        messenger = ErrorMessenger(errors, Path(folder) / "error")
        trainer.callbacks.append(messenger)  # pyrefly: ignore
        try:
            yield
        except Exception as error:
            found = errors.in_words(error)
            if isinstance(error, ProcessRaisedException) and messenger.file.is_file():
                found = pickle.loads(messenger.file.read_bytes())
            if found is None or found is error:
                raise
            raise found from error
        finally:
            trainer.callbacks.remove(messenger)  # pyrefly: ignore
