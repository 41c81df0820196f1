"""A padded batch of images with their targets."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from boxmask.structures.targets import Targets
from boxmask.waitless import send


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B images padded at the right and at the bottom to one size.

    Attributes:
        images: (B, 3, H, W) RGB in 0..1, zero where padded. H and W are multiples of 32.
        valid: (B, H, W) bool, False where padded.
        targets: one `Targets` an image, in pixels of `images`.
        image_sizes: (height, width) of each image without its padding.
        scales: (B, 2) factors (x, y) that turned pixels of the picture file into pixels of
            `images`, for pictures that were resized only.
        indices: position of each image in its data set's list of records.
        names: file name of each image, for messages.
    """

    images: Tensor
    valid: Tensor
    targets: tuple[Targets, ...]
    image_sizes: tuple[tuple[int, int], ...]
    scales: Tensor
    indices: tuple[int, ...]
    names: tuple[str, ...] = field(default=())
    _host: Batch | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[1] != 3:
            raise ValueError(f"images: expected (B, 3, H, W), got {tuple(self.images.shape)}")
        if len(self.targets) != len(self.images):
            raise ValueError(
                f"targets: expected one for each of {len(self.images)} images, "
                f"got {len(self.targets)}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_instances(self) -> int:
        """Objects in all images of the batch."""
        return sum(len(targets) for targets in self.targets)

    def pixels(self) -> list[NDArray[np.uint8]]:
        """(height, width, 3) of each image without its padding, on the CPU."""
        whole = (self.images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return [
            image[:height, :width]
            for image, (height, width) in zip(whole, self.image_sizes, strict=True)
        ]

    def pin_memory(self) -> Batch:
        """A copy in page-locked memory, called by torch's DataLoader."""
        return self._map(
            lambda tensor: tensor.pin_memory(), tuple(one.pin_memory() for one in self.targets)
        )

    @property
    def host(self) -> Batch:
        """The same on the CPU; without a wait for the device where it came from there.

        What came from there shows pictures as they were read, without what was pasted since.
        """
        if self.images.device.type == "cpu":
            return self
        return self.to("cpu") if self._host is None else self._host

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """A copy on `device`, which remembers this one if it is on the CPU."""
        targets = tuple(t.to(device, non_blocking=non_blocking) for t in self.targets)
        copy = self._map(
            lambda tensor: send(tensor, device) if non_blocking else tensor.to(device), targets
        )
        if self.images.device.type == "cpu":
            copy.remember(self)
        return copy

    def remember(self, host: Batch) -> None:
        """Takes note of the same batch on the CPU, which `host` gives back."""
        if self.images.device.type != "cpu":
            object.__setattr__(self, "_host", host)

    def _map(self, function, targets: tuple[Targets, ...]) -> Batch:  # noqa: ANN001
        return Batch(
            images=function(self.images),
            valid=function(self.valid),
            targets=targets,
            image_sizes=self.image_sizes,
            scales=function(self.scales),
            indices=self.indices,
            names=self.names,
        )
