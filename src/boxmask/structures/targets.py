"""What is known about one image: boxes, classes, and masks where they may be used."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from boxmask.structures.checks import check_boxes, check_same_length


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Annotations of one image with N objects.

    Attributes:
        boxes: (N, 4) x1, y1, x2, y2 in pixels of the (augmented) image, right and bottom exclusive.
        labels: (N,) int64 class index from 0, no background class.
        tight: (N, 2) bool, whether the box touches the object on both ends along x and along y.
            False where a crop or a cover hides the true end.
        masks: (N, H, W) bool at image size, or None when no mask may be used.
        trusted: (N,) bool, whose mask may be used for training. All False without masks.
    """

    boxes: Tensor
    labels: Tensor
    tight: Tensor
    masks: Tensor | None
    trusted: Tensor

    def __post_init__(self) -> None:
        check_boxes("boxes", self.boxes)
        check_same_length(
            boxes=self.boxes, labels=self.labels, tight=self.tight, trusted=self.trusted
        )
        if self.masks is not None:
            check_same_length(boxes=self.boxes, masks=self.masks)

    @classmethod
    def from_boxes(cls, boxes: Tensor, labels: Tensor) -> Targets:
        """Targets that know boxes and classes alone; every box is tight."""
        count = len(boxes)
        return cls(
            boxes=boxes,
            labels=labels,
            tight=boxes.new_ones((count, 2), dtype=torch.bool),
            masks=None,
            trusted=boxes.new_zeros((count,), dtype=torch.bool),
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, keep: Tensor) -> Targets:
        """The objects that `keep`, a bool mask or indices, picks."""
        return Targets(
            boxes=self.boxes[keep],
            labels=self.labels[keep],
            tight=self.tight[keep],
            masks=None if self.masks is None else self.masks[keep],
            trusted=self.trusted[keep],
        )

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Targets:
        """A copy on `device`."""
        return Targets(
            boxes=self.boxes.to(device, non_blocking=non_blocking),
            labels=self.labels.to(device, non_blocking=non_blocking),
            tight=self.tight.to(device, non_blocking=non_blocking),
            masks=None if self.masks is None else self.masks.to(device, non_blocking=non_blocking),
            trusted=self.trusted.to(device, non_blocking=non_blocking),
        )
