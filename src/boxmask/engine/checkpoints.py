"""How a run's checkpoints are written."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from boxmask.whole_files import written_beside


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
