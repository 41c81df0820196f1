"""The torch data set over any list of records."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from boxmask.data.masks import decode_segmentation, has_mask
from boxmask.data.pictures import read_picture
from boxmask.data.records import ImageRecord
from boxmask.data.transforms import Sample
from boxmask.structures import Targets

MaskUse = Literal["ignore", "trusted"]
Transform = Callable[[Sample, torch.Generator], Sample]


class RecordDataset(Dataset):
    """Pictures with their boxes, transformed.

    Items are asked for by (epoch, position), so that a random variant depends on the seed,
    the epoch and the picture alone: not on workers, processes or an interruption.

    Args:
        records: the pictures.
        transform: makes the network's input of a `Sample`.
        masks: "ignore" never touches a segmentation; "trusted" decodes those that are there.
        seed: of the random variants.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        transform: Transform,
        *,
        masks: MaskUse = "ignore",
        seed: int = 0,
    ) -> None:
        self.records = records
        self.transform = transform
        self.masks = masks
        self.seed = seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: tuple[int, int]) -> tuple[int, str, Sample]:
        epoch, position = index
        record = self.records[position]
        image = torch.from_numpy(np.ascontiguousarray(read_picture(record.path).transpose(2, 0, 1)))
        sample = Sample(image=image, targets=record_targets(record, self.masks))
        generator = torch.Generator().manual_seed(_mix(self.seed, epoch, position))
        return position, record.name, self.transform(sample, generator)


def record_targets(record: ImageRecord, masks: MaskUse = "ignore") -> Targets:
    """The objects of a record in pixels of the picture, crowds left out."""
    keep = np.flatnonzero(~record.crowd)
    targets = Targets.from_boxes(
        torch.from_numpy(record.boxes[keep]), torch.from_numpy(record.labels[keep])
    )
    if masks == "ignore":
        return targets
    height, width = record.image_size
    decoded = torch.zeros((len(keep), height, width), dtype=torch.bool)
    trusted = torch.zeros(len(keep), dtype=torch.bool)
    for row, position in enumerate(keep):
        segmentation = record.segmentations[position]
        if has_mask(segmentation):
            mask = decode_segmentation(segmentation, record.image_size)
            decoded[row] = torch.from_numpy(mask)
            trusted[row] = bool(mask.any())
    return Targets(
        boxes=targets.boxes,
        labels=targets.labels,
        tight=targets.tight,
        masks=decoded,
        trusted=trusted,
    )


def _mix(seed: int, epoch: int, index: int) -> int:
    """One seed from three numbers, far apart for neighbours."""
    return int(np.random.SeedSequence([seed, epoch, index]).generate_state(1, np.uint64)[0] >> 1)
