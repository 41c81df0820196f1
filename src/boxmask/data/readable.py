"""Pictures that are used, not trained on: one that cannot be read stops nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader

from boxmask.data.loader import LoaderSettings, collate, plain_loader
from boxmask.data.records import ImageRecord
from boxmask.data.transforms import Sample
from boxmask.data.unreadable import Unreadable
from boxmask.structures import Batch


@dataclass(frozen=True, kw_only=True)
class ReadBatch:
    """What was read together.

    Attributes:
        batch: the readable pictures; None if there are none.
        unreadable: the others.
    """

    batch: Batch | None
    unreadable: tuple[Unreadable, ...]


def readable_loader(
    records: Sequence[ImageRecord], image_size: int, settings: LoaderSettings
) -> DataLoader:
    """`plain_loader` that gives `ReadBatch`es and goes on after unreadable pictures."""
    plain = plain_loader(records, image_size, settings)
    sampler: Any = plain.batch_sampler
    return DataLoader(
        plain.dataset,
        batch_sampler=sampler,
        num_workers=settings.num_workers,
        collate_fn=collate_readable,
    )


def batches_of(
    records: Sequence[ImageRecord], image_size: int, settings: LoaderSettings
) -> list[list[int]]:
    """Which pictures `readable_loader` puts together, in its order."""
    sampler: Any = plain_loader(records, image_size, settings).batch_sampler
    return [[index for _, index in keys] for keys in sampler]


def collate_readable(items: Sequence[tuple[int, str, Sample] | Unreadable]) -> ReadBatch:
    """Pads the readable pictures to one size."""
    samples = [item for item in items if not isinstance(item, Unreadable)]
    return ReadBatch(
        batch=collate(samples) if samples else None,
        unreadable=tuple(item for item in items if isinstance(item, Unreadable)),
    )
