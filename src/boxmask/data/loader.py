"""From a data set to padded batches: like shapes together, the same on any number of workers."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from boxmask.data.dataset import MaskUse, RecordDataset
from boxmask.data.records import ImageRecord
from boxmask.data.transforms import (
    AugmentationSettings,
    Sample,
    augment,
    resize_short_side,
)
from boxmask.data.unreadable import ReadableDataset, Unreadable
from boxmask.structures import Batch, Targets

PAD_TO = 32  # pixels; the backbone's largest stride


@dataclass(frozen=True, kw_only=True)
class LoaderSettings:
    """How batches are made.

    Attributes:
        batch_size: pictures of a batch, on each process.
        num_workers: processes that read pictures; 0 reads in the training process.
        seed: of order and random variants.
        rank: this process among `num_ranks`.
        num_ranks: processes that train together.
        pin_memory: copy batches to page-locked memory, for a GPU.
    """

    batch_size: int
    num_workers: int = 0
    seed: int = 0
    rank: int = 0
    num_ranks: int = 1
    pin_memory: bool = False


def collate(items: Sequence[tuple[int, str, Sample]]) -> Batch:
    """Pads samples at the right and at the bottom to one size, a multiple of 32 pixels."""
    indices, names, samples = zip(*items, strict=True)
    sizes = [sample.image_size for sample in samples]
    height, width = (-(-max(side) // PAD_TO) * PAD_TO for side in zip(*sizes, strict=True))
    images = torch.zeros((len(samples), 3, height, width))
    valid = torch.zeros((len(samples), height, width), dtype=torch.bool)
    for row, (sample, (h, w)) in enumerate(zip(samples, sizes, strict=True)):
        images[row, :, :h, :w] = sample.image.float() / 255
        valid[row, :h, :w] = True
    return Batch(
        images=images,
        valid=valid,
        targets=tuple(_pad_masks(sample.targets, (height, width)) for sample in samples),
        image_sizes=tuple(sizes),
        scales=torch.tensor([sample.scale for sample in samples]),
        indices=tuple(indices),
        names=tuple(names),
    )


def _pad_masks(targets: Targets, size: tuple[int, int]) -> Targets:
    if targets.masks is None:
        return targets
    height, width = targets.masks.shape[-2:]
    padding = (0, size[1] - width, 0, size[0] - height)
    return replace(targets, masks=torch.nn.functional.pad(targets.masks, padding))


def collate_or_first_unreadable(
    items: Sequence[tuple[int, str, Sample] | Unreadable],
) -> Batch | Unreadable:
    """`collate`, but one unreadable picture takes the place of its whole batch."""
    samples = [item for item in items if not isinstance(item, Unreadable)]
    if len(samples) == len(items):
        return collate(samples)
    return next(item for item in items if isinstance(item, Unreadable))


class RecordLoader(DataLoader):
    """A DataLoader that raises a picture's own error, also where another process reads it.

    Takes a `ReadableDataset` and `collate_or_first_unreadable`.
    """

    def __iter__(self) -> Iterator[Any]:  # pyrefly: ignore
        """Batches; the readers start at once.

        Raises:
            UserError: If a picture cannot be read; names its file.
        """
        return _batches(super().__iter__())


def _batches(items: Iterator[Batch | Unreadable]) -> Iterator[Batch]:
    for item in items:
        if isinstance(item, Unreadable):
            raise item.error
        yield item


class EpochBatches:
    """Batches of one epoch: every picture once, wide and tall pictures apart.

    The order depends on seed and epoch alone. The last batch is filled up from the epoch's start,
    so that all batches, and all processes, have the same number of pictures.

    Args:
        records: the pictures; their sizes decide what goes together.
        settings: batch size, seed and share of this process.
        epoch: gives the number of the epoch that is about to start.
    """

    def __init__(
        self, records: Sequence[ImageRecord], settings: LoaderSettings, epoch: Callable[[], int]
    ) -> None:
        self.wide = np.array([r.image_size[1] >= r.image_size[0] for r in records], dtype=bool)
        self.settings = settings
        self.epoch = epoch

    def __len__(self) -> int:
        together = self.settings.batch_size * self.settings.num_ranks
        return math.ceil(len(self.wide) / together)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self.epoch()
        settings = self.settings
        together = settings.batch_size * settings.num_ranks
        random = np.random.default_rng([settings.seed, epoch])
        order = random.permutation(len(self.wide))
        order = np.resize(order, len(self) * together)  # repeats from the start where short
        order = order[np.argsort(~self.wide[order], kind="stable")]
        groups = order.reshape(-1, together)[random.permutation(len(self))]
        for group in groups:
            mine = group[settings.rank :: settings.num_ranks]
            yield [(epoch, int(index)) for index in mine]


def train_loader(
    records: Sequence[ImageRecord],
    augmentation: AugmentationSettings,
    settings: LoaderSettings,
    epoch: Callable[[], int],
    masks: MaskUse = "ignore",
) -> DataLoader:
    """Augmented batches without end to the epochs; `epoch` gives the current one."""
    transform = partial(augment_sample, settings=augmentation)
    dataset = RecordDataset(records, transform, masks=masks, seed=settings.seed)
    return RecordLoader(
        ReadableDataset(dataset),
        batch_sampler=EpochBatches(records, settings, epoch),
        num_workers=settings.num_workers,
        collate_fn=collate_or_first_unreadable,
        pin_memory=settings.pin_memory,
        persistent_workers=settings.num_workers > 0,
    )


def plain_loader(
    records: Sequence[ImageRecord], image_size: int, settings: LoaderSettings
) -> DataLoader:
    """Each picture once, resized only, pictures of like shape together."""
    transform = partial(_resize, short_side=image_size)
    aspect = [record.image_size[1] / record.image_size[0] for record in records]
    order = np.argsort(aspect, kind="stable")[settings.rank :: settings.num_ranks]
    keys = [(0, int(index)) for index in order]
    return RecordLoader(
        ReadableDataset(RecordDataset(records, transform)),
        batch_sampler=[
            keys[start : start + settings.batch_size]
            for start in range(0, len(keys), settings.batch_size)
        ],
        num_workers=settings.num_workers,
        collate_fn=collate_or_first_unreadable,
        pin_memory=settings.pin_memory,
    )


def augment_sample(
    sample: Sample, generator: torch.Generator, *, settings: AugmentationSettings
) -> Sample:
    """`augment` as a transform of `RecordDataset`; name its settings with `functools.partial`."""
    return augment(sample, settings, generator)


def _resize(sample: Sample, generator: torch.Generator, *, short_side: int) -> Sample:
    return resize_short_side(sample, short_side)
