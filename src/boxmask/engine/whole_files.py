"""Large files are written beside their place: what was there stays until the new one is whole."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from boxmask.errors import UserError

LEAST_FREE = 2**16  # bytes; a disk with less is full


@contextmanager
def written_beside(file: Path) -> Iterator[Path]:
    """Gives a path to write to, which takes the place of `file` when the block ends well.

    Raises:
        UserError: If the disk is full.
    """
    partial = file.with_name(file.name + ".partial")
    try:
        yield partial
        partial.replace(file)
    except Exception as error:
        # Torch and safetensors have errors of their own, which do not always tell.
        full = "No space left on device" in str(error)
        if not full and shutil.disk_usage(file.parent).free > LEAST_FREE:
            raise
        raise UserError(
            f"the disk is full: {file.name} cannot be written",
            where=str(file),
            fix="free some space and go on with --resume, or name another --out",
        ) from error
    finally:
        partial.unlink(missing_ok=True)


class WholeCheckpoints(TorchCheckpointIO):
    """How Lightning writes checkpoints: its own way can leave half of one in the place of the last.

    That is where the folder for temporary files lies on another disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Writes a checkpoint; the earlier one stays until this one is whole."""
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        with written_beside(file) as partial, partial.open("wb") as stream:
            torch.save(checkpoint, stream)
