"""The seam between detectors and weak losses: mask logits bound to the boxes they must explain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from boxmask.structures.checks import check_boxes, check_same_length
from boxmask.waitless import send


@dataclass(frozen=True, kw_only=True)
class MaskSamples:
    """K mask-logit maps, each bound to the box it must explain.

    An object may have several samples (one for each location that predicts it). Architectures
    produce samples, weak losses consume them; neither knows the other.

    Attributes:
        logits: (K, h, w) before the sigmoid.
        boxes: (K, 4) given box of each sample's object, x1, y1, x2, y2 in input pixels.
        tight: (K, 2) bool, whether the box is tight along x and along y.
        labels: (K,) int64 class of the object.
        image_index: (K,) int64 position of the image in the batch.
        instance_index: (K,) int64 position of the object among all objects of the batch, image
            after image, as in `torch.cat([t.boxes for t in batch.targets])`.
        frames: (K, 4) region of the padded input image that the map covers, in input pixels. The
            whole image for CondInst; a region of interest for two-stage models.
        predicted_boxes: (K, 4) box that the detector predicts at each sample, in input pixels.
        scores: (K,) in 0..1, the detector's confidence at each sample. No graph.
        features: (B, D, h', w') mask features of each image, or None.
        host_index: `instance_index` on the CPU, where the host knows it; see `instances_on_host`.
    """

    logits: Tensor
    boxes: Tensor
    tight: Tensor
    labels: Tensor
    image_index: Tensor
    instance_index: Tensor
    frames: Tensor
    predicted_boxes: Tensor
    scores: Tensor
    features: Tensor | None = None
    host_index: Tensor | None = None

    def __post_init__(self) -> None:
        if self.logits.ndim != 3:
            raise ValueError(f"logits: expected (K, h, w), got {tuple(self.logits.shape)}")
        check_boxes("boxes", self.boxes)
        check_boxes("frames", self.frames)
        check_same_length(
            logits=self.logits,
            boxes=self.boxes,
            tight=self.tight,
            labels=self.labels,
            image_index=self.image_index,
            instance_index=self.instance_index,
            frames=self.frames,
            predicted_boxes=self.predicted_boxes,
            scores=self.scores,
        )

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def instances_on_host(self) -> Tensor:
        """(K,) `instance_index` on the CPU; the host waits where the detector left no copy."""
        return self.instance_index.cpu() if self.host_index is None else self.host_index

    def select(self, keep: Tensor) -> MaskSamples:
        """The samples that `keep` picks: indices on the CPU, or anything on the own device."""
        host_index = None
        if self.host_index is not None and keep.device.type == "cpu":
            host_index = self.host_index[keep]
        keep = send(keep, self.logits.device)
        return replace(
            self,
            host_index=host_index,
            logits=self.logits[keep],
            boxes=self.boxes[keep],
            tight=self.tight[keep],
            labels=self.labels[keep],
            image_index=self.image_index[keep],
            instance_index=self.instance_index[keep],
            frames=self.frames[keep],
            predicted_boxes=self.predicted_boxes[keep],
            scores=self.scores[keep],
        )

    def cell_centers(self) -> tuple[Tensor, Tensor]:
        """Input-pixel coordinates of the cells' centres: x as (K, w), y as (K, h)."""
        height, width = self.logits.shape[-2:]
        x1, y1, x2, y2 = self.frames.unbind(-1)
        columns = (torch.arange(width, device=self.frames.device) + 0.5) / width  # (w,)
        rows = (torch.arange(height, device=self.frames.device) + 0.5) / height  # (h,)
        x = x1[:, None] + (x2 - x1)[:, None] * columns  # (K, w)
        y = y1[:, None] + (y2 - y1)[:, None] * rows  # (K, h)
        return x, y

    def box_sides(self) -> tuple[Tensor, Tensor]:
        """Cells inside each box along x, (K, w) bool, and along y, (K, h) bool.

        A cell is inside when its centre is. A box that misses every centre (thinner than a cell)
        gets the one cell nearest to its middle, so that no object is without a target. Never
        change them.
        """
        return self._box_sides

    @cached_property
    def _box_sides(self) -> tuple[Tensor, Tensor]:
        x, y = self.cell_centers()
        return (
            centers_inside(x, self.boxes[:, 0], self.boxes[:, 2]),
            centers_inside(y, self.boxes[:, 1], self.boxes[:, 3]),
        )

    def box_masks(self) -> Tensor:
        """(K, h, w) bool, True in the cells of each box (see `box_sides`); never change it."""
        return self._box_masks

    @cached_property
    def _box_masks(self) -> Tensor:
        columns, rows = self.box_sides()
        return rows[:, :, None] & columns[:, None, :]

    @cached_property
    def fill_sums(self) -> tuple[Tensor, Tensor]:
        """() sum of foreground scores, each 0..1, inside the boxes, and () number of their cells.

        No graph.
        """
        inside = self.box_masks()
        scores = self.logits.detach().float().sigmoid() * inside
        return scores.sum(), inside.sum().float()

    @property
    def mean_fill(self) -> Tensor:
        """() mean foreground score inside the boxes, 0..1: near 1 or 0 when masks collapse."""
        fill, cells = self.fill_sums
        return fill / cells.clamp(min=1)


def centers_inside(centers: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Which cells have their centre in [low, high), at least the one nearest to the middle.

    Args:
        centers: (K, n), or (1, n) for all alike, in input pixels.
        low: (K,) in input pixels.
        high: (K,) in input pixels.

    Returns:
        (K, n) bool.
    """
    inside = (centers >= low[:, None]) & (centers < high[:, None])  # (K, n)
    middle = (low + high)[:, None] / 2
    nearest = (centers - middle).abs().argmin(dim=-1, keepdim=True)  # (K, 1)
    forced = torch.zeros_like(inside).scatter_(1, nearest, True)
    return inside | (forced & ~inside.any(dim=-1, keepdim=True))
