"""What a detector found in one image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from boxmask.structures.checks import check_boxes, check_same_length


@dataclass(frozen=True, kw_only=True)
class Detections:
    """N found objects of one image, best score first.

    Masks stay small, as scores on the detector's own grid, until `ops.masks.paste_mask` draws
    them at the picture's size, a few at a time: a crowd never fills the memory.

    Attributes:
        boxes: (N, 4) x1, y1, x2, y2 in pixels of the network's input image.
        scores: (N,) in 0..1.
        labels: (N,) int64 class index from 0.
        mask_scores: (N, h, w) in 0..1: foreground probability at cells of `frames`.
        frames: (N, 4) the region, in input pixels, that each row of `mask_scores` covers.
        image_size: (height, width) of the input image without its padding.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    mask_scores: Tensor
    frames: Tensor
    image_size: tuple[int, int]

    def __post_init__(self) -> None:
        check_boxes("boxes", self.boxes)
        check_boxes("frames", self.frames)
        check_same_length(
            boxes=self.boxes,
            scores=self.scores,
            labels=self.labels,
            mask_scores=self.mask_scores,
            frames=self.frames,
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, keep: Tensor) -> Detections:
        """The objects that `keep`, a bool mask or indices, picks."""
        return Detections(
            boxes=self.boxes[keep],
            scores=self.scores[keep],
            labels=self.labels[keep],
            mask_scores=self.mask_scores[keep],
            frames=self.frames[keep],
            image_size=self.image_size,
        )

    def to(self, device: torch.device | str) -> Detections:
        """A copy on `device`."""
        return Detections(
            boxes=self.boxes.to(device),
            scores=self.scores.to(device),
            labels=self.labels.to(device),
            mask_scores=self.mask_scores.to(device),
            frames=self.frames.to(device),
            image_size=self.image_size,
        )
