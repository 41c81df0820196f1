"""Masks for the boxes of a picture, on their way to a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boxmask.data.masks import decode_segmentation
from boxmask.data.records import ImageRecord
from boxmask.errors import UserError


@dataclass(frozen=True, kw_only=True)
class LabelledRecord:
    """One picture with a mask for each of its N objects.

    Attributes:
        record: the picture and its boxes.
        masks: (N,) compressed COCO RLE of the picture's size, in the order of the boxes. Crowd
            objects have an entry too; writers keep the source's segmentation for them if any.
        confidences: (N,) in 0..1, how far each mask can be trusted.
    """

    record: ImageRecord
    masks: tuple[Mapping[str, Any], ...]
    confidences: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("masks", "confidences"):
            given = len(getattr(self, name))
            if given != len(self.record):
                raise ValueError(
                    f"{name}: expected one for each of {len(self.record)} objects of "
                    f"{self.record.name}, got {given}"
                )
        for mask in self.masks:
            if tuple(mask["size"]) != tuple(self.record.image_size):
                raise ValueError(
                    f"masks: expected the size {self.record.image_size} of {self.record.name}, "
                    f"got {mask['size']}"
                )

    def decode(self, position: int) -> NDArray[np.bool_]:
        """The (H, W) bool mask of one object; of a crowd, the source's own where it is usable."""
        own = self.own_crowd_mask(position)
        if own is not None:
            return own
        return decode_segmentation(self.masks[position], self.record.image_size)

    def own_crowd_mask(self, position: int) -> NDArray[np.bool_] | None:
        """The (H, W) bool mask that the source has of a crowd; None for other objects, too."""
        source = self.record.segmentations[position]
        if not self.record.crowd[position] or source is None:
            return None
        try:
            return decode_segmentation(source, self.record.image_size)
        except UserError:
            return None


@dataclass(kw_only=True)
class WriteReport:
    """What a writer wrote, and what its format could not keep.

    Attributes:
        num_pictures: pictures written.
        ious: IoU of each object's mask as written with the mask as given, in order; 1.0 where
            nothing is lost.
        num_crowds_left_out: crowd objects that the format has no place for.
    """

    num_pictures: int = 0
    num_crowds_left_out: int = 0
    ious: list[float] = field(default_factory=list)

    @property
    def num_objects(self) -> int:
        """Objects written."""
        return len(self.ious)

    @property
    def mean_iou(self) -> float:
        """Mean over objects; 1.0 without objects."""
        return float(np.mean(self.ious)) if self.ious else 1.0

    @property
    def min_iou(self) -> float:
        """The worst object's; 1.0 without objects."""
        return min(self.ious, default=1.0)


def mask_iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """IoU of two (H, W) masks; 1.0 when both are empty."""
    union = int(np.count_nonzero(first | second))
    return int(np.count_nonzero(first & second)) / union if union else 1.0
