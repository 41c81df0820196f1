"""Training batches for Lightning: made inside each process, for its share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from boxmask.data.dataset import MaskUse
from boxmask.data.loader import LoaderSettings, train_loader
from boxmask.data.records import ImageRecord
from boxmask.data.transforms import AugmentationSettings


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What is trained on, and how it is read.

    Attributes:
        records: the pictures.
        augmentation: how they vary.
        loader: batch size of one process and one accumulated part, workers and seed.
        masks: whether masks may be read.
        steps_per_epoch: optimizer steps.
    """

    records: Sequence[ImageRecord]
    augmentation: AugmentationSettings
    loader: LoaderSettings
    masks: MaskUse
    steps_per_epoch: int


class TrainingDataModule(pl.LightningDataModule):
    """Gives each process its share of every batch.

    Args:
        data: what is trained on.
    """

    def __init__(self, data: TrainingData) -> None:
        super().__init__()
        self.data = data

    def train_dataloader(self) -> DataLoader:
        """Batches whose order and variants depend on seed and epoch alone."""
        trainer = self.trainer
        assert trainer is not None
        loader = replace(self.data.loader, rank=trainer.global_rank, num_ranks=trainer.world_size)
        return train_loader(
            self.data.records,
            self.data.augmentation,
            loader,
            # Not `current_epoch`, which a resumed run moves on after readers have begun.
            lambda: trainer.global_step // self.data.steps_per_epoch,
            masks=self.data.masks,
        )
