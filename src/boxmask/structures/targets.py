"""What is known about one image: boxes, classes, and masks where they may be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, cast

import torch
from torch import Tensor

from boxmask.structures.checks import check_boxes, check_same_length
from boxmask.waitless import send


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
        pasted: (N,) bool, which objects were pasted in; None where none was.
    """

    boxes: Tensor
    labels: Tensor
    tight: Tensor
    masks: Tensor | None
    trusted: Tensor
    pasted: Tensor | None = None
    _host: Targets | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_boxes("boxes", self.boxes)
        check_same_length(
            boxes=self.boxes, labels=self.labels, tight=self.tight, trusted=self.trusted
        )
        for name, values in (("masks", self.masks), ("pasted", self.pasted)):
            if values is not None:
                check_same_length(boxes=self.boxes, **{name: values})

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

    @property
    def host(self) -> Targets:
        """The same on the CPU; without a wait for the device where they came from there."""
        if self.boxes.device.type == "cpu":
            return self
        return self.to("cpu") if self._host is None else self._host

    def select(self, keep: Tensor) -> Targets:
        """The objects that `keep` picks: indices on the CPU, or anything on the own device."""
        device = self.boxes.device
        chosen = self._each(lambda values: values[send(keep, device)])
        if keep.device.type == "cpu" and self._host is not None:
            chosen.remember(self._host.select(keep))
        return chosen

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Targets:
        """A copy on `device`, which remembers these if they are on the CPU."""
        copy = self._each(
            lambda values: send(values, device) if non_blocking else values.to(device)
        )
        if self.boxes.device.type == "cpu":
            copy.remember(self)
        return copy

    def pin_memory(self) -> Targets:
        """A copy in page-locked memory, from which a GPU takes it without a wait."""
        return self._each(lambda values: values.pin_memory())

    def remember(self, host: Targets) -> None:
        """Takes note of the same targets on the CPU, which `host` gives back."""
        if self.boxes.device.type != "cpu":
            object.__setattr__(self, "_host", host)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Targets:
        """With every field changed in the same way."""
        names = [one.name for one in fields(self) if one.init]
        values = {name: getattr(self, name) for name in names}
        changed = {name: None if one is None else change(one) for name, one in values.items()}
        return Targets(**cast(dict[str, Any], changed))
