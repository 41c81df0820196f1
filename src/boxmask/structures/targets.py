"""What is known about one image: boxes, classes, and masks where they may be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

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
        return self._each(lambda values: values[keep])

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Targets:
        """A copy on `device`."""
        return self._each(lambda values: values.to(device, non_blocking=non_blocking))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Targets:
        """With every field changed in the same way."""
        changed = {
            name: None if values is None else change(values) for name, values in vars(self).items()
        }
        return Targets(**cast(dict[str, Any], changed))
