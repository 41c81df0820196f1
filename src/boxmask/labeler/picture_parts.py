"""The boxes of a picture in parts small enough to wait for a free process."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from boxmask.data.records import ImageRecord
from boxmask.detectors.detector import Detector
from boxmask.detectors.object_masks import ObjectMask, UncutMask, object_mask, uncut_masks
from boxmask.structures import Batch

PART = 32
"""Boxes of a part."""


@dataclass(frozen=True, kw_only=True)
class PicturePart:
    """Boxes of one picture that follow each other.

    Attributes:
        index: the picture's position in its records.
        is_last: whether the picture has no boxes after these.
        masks: what the model gives for them.
    """

    index: int
    is_last: bool
    masks: tuple[UncutMask, ...]


@torch.no_grad()
def parts_of_batch(
    detector: Detector, batch: Batch, records: Sequence[ImageRecord], *, refine: bool
) -> Iterator[PicturePart]:
    """At least one part for each picture of a batch; crowds are left out.

    Args:
        detector: in evaluation mode, on the batch's device.
        batch: resized pictures (no flip); `indices` point into `records`.
        records: the pictures.
        refine: sharpen masks by the object's colours and those at its border.
    """
    outputs = detector(batch.images, batch.valid)
    chosen = [records[index] for index in batch.indices]
    boxes = [record.boxes[~record.crowd] for record in chosen]
    sizes = [record.image_size for record in chosen]
    masks = uncut_masks(detector, outputs, batch, boxes, sizes, refine=refine)
    for index, of_picture in zip(batch.indices, boxes, strict=True):
        for start in range(0, max(len(of_picture), 1), PART):
            stop = min(start + PART, len(of_picture))
            yield PicturePart(
                index=index,
                is_last=stop == len(of_picture),
                masks=tuple(next(masks) for _ in range(start, stop)),
            )


def masks_of_part(part: PicturePart) -> list[ObjectMask]:
    """A mask for each box of a part."""
    return [object_mask(mask) for mask in part.masks]


def whole_pictures(
    made: Iterable[tuple[PicturePart, list[ObjectMask]]],
) -> Iterator[tuple[int, list[ObjectMask]]]:
    """Joins the masks of each picture, in order: (index of the picture, its masks)."""
    masks: list[ObjectMask] = []
    for part, some in made:
        masks += some
        if part.is_last:
            yield part.index, masks
            masks = []


def masks_of_batch(
    detector: Detector, batch: Batch, records: Sequence[ImageRecord], *, refine: bool = True
) -> list[list[ObjectMask]]:
    """All of it in one process: the masks of each picture of a batch, in the order of its boxes."""
    parts = parts_of_batch(detector, batch, records, refine=refine)
    return [masks for _, masks in whole_pictures((part, masks_of_part(part)) for part in parts)]
