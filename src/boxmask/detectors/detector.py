"""Detector contract: everything that training, scoring and labelling may call."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from boxmask.backbones.backbone import BackboneSettings
from boxmask.backbones.stages import PartialMaps
from boxmask.structures import Detections, LossSum, MaskSamples, Targets
from boxmask.waitless import numbered


@dataclass(frozen=True, kw_only=True)
class SampleAssignment:
    """Which K of a detector's predictions explain which objects, for their masks.

    Attributes:
        position: (K,) int64 place of each prediction in its image's list (points, queries, ...).
        image_index: (K,) int64, not decreasing.
        instance_index: (K,) int64 position of the object among all objects of the batch.
        boxes: (K, 4) the object's given box in input pixels.
        tight: (K, 2) bool, whether that box is tight along x and y.
        labels: (K,) int64.
        detection: what the architecture's own detection losses need, or None.
        host_index: `instance_index` on the CPU, where the host knows it.
        counts: samples of each image, known to the host.
    """

    position: Tensor
    image_index: Tensor
    instance_index: Tensor
    boxes: Tensor
    tight: Tensor
    labels: Tensor
    detection: Any = None
    host_index: Tensor | None = None
    counts: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.position)

    @classmethod
    def of(
        cls,
        position: Tensor,
        image_index: Tensor,
        instance_index: Tensor,
        targets: Sequence[Targets],
        detection: Any = None,
        host_index: Tensor | None = None,
    ) -> "SampleAssignment":
        """Binds predictions to the boxes and classes of their objects; arguments as attributes.

        Without `host_index` the host waits for the counts.
        """
        images = image_index
        if host_index is not None:
            images = numbered([len(one) for one in targets], host_index.device)[host_index]
        return cls(
            position=position,
            image_index=image_index,
            instance_index=instance_index,
            boxes=torch.cat([t.boxes for t in targets])[instance_index],
            tight=torch.cat([t.tight for t in targets])[instance_index],
            labels=torch.cat([t.labels for t in targets])[instance_index],
            detection=detection,
            host_index=host_index,
            counts=tuple(images.bincount(minlength=len(targets)).tolist()),
        )


class DetectorSettings(Protocol):
    """What settings of every architecture have; plain frozen dataclasses that can be saved."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def architecture(self) -> str:
        """Its name, which tells saved settings apart."""
        ...

    @property
    def num_classes(self) -> int:
        """Classes."""
        ...

    @property
    def backbone(self) -> BackboneSettings:
        """See `BackboneSettings`."""
        ...

    @property
    def feature_channels(self) -> int:
        """Channels D of `MaskSamples.features`."""
        ...

    def build(self) -> "Detector":
        """The detector, its backbone pretrained as the settings say."""
        ...


class Detector(nn.Module, ABC):
    """An architecture that finds boxes, classes and masks.

    `forward` gives raw outputs; the other methods read them, so that one forward pass serves
    losses, masks for given boxes, and detections alike.
    """

    num_classes: int
    steady: ClassVar[bool] = False
    """Whether `mask_outputs` asks for the same work for all pictures of a size, and never waits."""

    @abstractmethod
    def forward(self, images: Tensor, valid: Tensor, frozen: PartialMaps | None = None) -> Any:
        """Raw outputs.

        Args:
            images: (B, 3, H, W) in 0..1.
            valid: (B, H, W) bool, marks no padding.
            frozen: `frozen_outputs` of the same images, if they are known.
        """

    def frozen_outputs(self, images: Tensor, valid: Tensor) -> PartialMaps | None:
        """What those first layers that never learn make of images, without a graph.

        A moving average of the detector would find the same, so one pass serves both. None where
        there are no such layers.
        """
        return None

    def mask_outputs(self, images: Tensor, valid: Tensor, frozen: PartialMaps | None = None) -> Any:
        """What `mask_samples` reads of `forward`; a teacher needs no more, and it may be cheaper.

        Scores of such samples may leave the class out.
        """
        return self(images, valid, frozen)

    @property
    def map_parts(self) -> list[nn.Module]:
        """Parts that make maps of maps, whatever their size: what a compiler may take."""
        return []

    @abstractmethod
    def assign(self, outputs: Any, targets: Sequence[Targets]) -> SampleAssignment:
        """Training: assigns predictions to objects, from boxes, never from masks."""

    @abstractmethod
    def assign_every_box(self, outputs: Any, targets: Sequence[Targets]) -> SampleAssignment:
        """Labelling: like `assign`, but every object gets at least one prediction.

        A label of `num_classes` or more is a class that the model does not know; its objects may
        be any.
        """

    @abstractmethod
    def detection_losses(
        self, outputs: Any, assignment: SampleAssignment, targets: Sequence[Targets]
    ) -> dict[str, LossSum]:
        """Losses of boxes and classes by name, before their division."""

    @abstractmethod
    def mask_samples(self, outputs: Any, assignment: SampleAssignment) -> MaskSamples:
        """The mask of each assigned prediction, as logits with a graph."""

    @abstractmethod
    def detections(self, outputs: Any, image_sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """What the model finds, image by image; `image_sizes` without padding."""
