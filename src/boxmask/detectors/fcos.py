"""FCOS: every point of the pyramid predicts a class, a box and how central it is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from boxmask.detectors.focal_loss import focal_class_loss
from boxmask.ops.boxes import centerness, encode_ltrb, giou_of_ltrb
from boxmask.ops.points import PointGrid, in_center_region
from boxmask.structures import LossSum, Targets
from boxmask.waitless import constants, scalar, send

# Pixels to the farthest side of a box that a level takes: more than the first, up to the second.
SIZE_RANGES = ((-1.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, 512.0), (512.0, math.inf))


@dataclass(frozen=True, kw_only=True)
class FCOSSettings:
    """Settings of the point-wise detector.

    Attributes:
        tower_depth: 3x3 convolutions of the class and of the box tower. Paper: 4.
        center_radius: half the side of the region of positives around a box's centre, in strides.
        prior: class score of every point before training, in 0..1.
        iou_smoothing: added to intersection and union, in squared strides. Published code: 1.
        score_threshold: class score times centre-ness below which a point is no detection.
        nms_threshold: IoU above which the weaker of two boxes of a class is dropped.
        num_before_nms: best points of an image that enter the suppression, per level.
        max_detections: boxes kept of an image.
    """

    tower_depth: int = 4
    center_radius: float = 1.5
    prior: float = 0.01
    iou_smoothing: float = 0.0
    score_threshold: float = 0.05
    nms_threshold: float = 0.6
    num_before_nms: int = 1000
    max_detections: int = 100


@dataclass(frozen=True, kw_only=True)
class PointOutputs:
    """Predictions of P points an image.

    Attributes:
        class_logits: (B, P, classes), or None where only masks are wanted.
        ltrb: (B, P, 4) distances >= 0 in strides of the point.
        centerness_logits: (B, P).
        towers: per level (B, C, h, w), the box tower's maps, which the mask head reads.
        grid: the points.
    """

    class_logits: Tensor | None
    ltrb: Tensor
    centerness_logits: Tensor
    towers: list[Tensor]
    grid: PointGrid


@dataclass(frozen=True, kw_only=True)
class PointTargets:
    """What each point should predict, and which points are positive.

    Attributes:
        labels: (B, P) int64 class, or -1 for background.
        image_index: (M,) image of each positive, not decreasing.
        position: (M,) its place among the P points.
        instance_index: (M,) its object among all objects of the batch.
        ltrb: (M, 4) target distances in strides.
        centerness: (M,) in 0..1.
        tight: (M, 2) bool, whether the object ends where its box does, along x and along y.
        counts: how many of them each object has, known to the host.
    """

    labels: Tensor
    image_index: Tensor
    position: Tensor
    instance_index: Tensor
    ltrb: Tensor
    centerness: Tensor
    tight: Tensor
    counts: tuple[int, ...]


class FCOSHead(nn.Module):
    """Class and box towers shared over the levels.

    Args:
        channels: channels of the pyramid.
        num_classes: classes.
        num_levels: levels of the pyramid.
        settings: see `FCOSSettings`.

    Source: FCOS (ICCV 2019) with group norm, centre-ness on the box tower.
    """

    def __init__(
        self, channels: int, num_classes: int, num_levels: int, settings: FCOSSettings
    ) -> None:
        super().__init__()
        self.cls_tower = _tower(channels, settings.tower_depth)
        self.bbox_tower = _tower(channels, settings.tower_depth)
        self.cls_logits = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(channels, 4, 3, padding=1)
        self.ctrness = nn.Conv2d(channels, 1, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(num_levels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(cast(Tensor, module.bias))
        nn.init.constant_(cast(Tensor, self.cls_logits.bias), -math.log(1 / settings.prior - 1))

    def forward(
        self, levels: Sequence[Tensor], grid: PointGrid, *, classes: bool = True
    ) -> PointOutputs:
        """Predictions from the pyramid's maps, each (B, C, h, w); without `classes`, no classes."""
        class_logits, ltrb, center, towers = [], [], [], []
        for scale, level in zip(self.scales, levels, strict=True):
            box_tower = self.bbox_tower(level)
            if classes:
                class_logits.append(_points_last(self.cls_logits(self.cls_tower(level))))
            ltrb.append(_points_last(F.relu(scale * self.bbox_pred(box_tower))))
            center.append(_points_last(self.ctrness(box_tower)))
            towers.append(box_tower)
        return PointOutputs(
            class_logits=torch.cat(class_logits, dim=1) if classes else None,
            ltrb=torch.cat(ltrb, dim=1),
            centerness_logits=torch.cat(center, dim=1).squeeze(-1),
            towers=towers,
            grid=grid,
        )


def _tower(channels: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(32, channels),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


def _points_last(maps: Tensor) -> Tensor:
    """(B, C, h, w) to (B, h * w, C)."""
    return maps.flatten(2).transpose(1, 2)


def positive_pairs(grid: PointGrid, boxes: Tensor, settings: FCOSSettings) -> Tensor:
    """Which points may explain which boxes, before ties are settled: (P, N) bool."""
    every = torch.arange(len(grid.points), device=boxes.device)[:, None]
    return _may_explain(grid, every, boxes, settings)


def _may_explain(
    grid: PointGrid, position: Tensor, boxes: Tensor, settings: FCOSSettings
) -> Tensor:
    """Whether each box (N, 4) is in reach of points (..., N), or (..., 1): (..., N) bool."""
    points, levels = grid.points[position], grid.levels[position]
    smallest, largest = (
        constants(ends, boxes.device)[levels] for ends in zip(*SIZE_RANGES, strict=True)
    )
    farthest = encode_ltrb(points, boxes).amax(dim=-1)
    fits = (farthest > smallest) & (farthest <= largest)
    radius = grid.strides[position] * settings.center_radius
    return fits & in_center_region(points, boxes, radius)


def _pairs_near_centers(
    grid: PointGrid, boxes: Tensor, settings: FCOSSettings
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`positive_pairs` of boxes on the CPU as a list: point and box of each pair.

    Only the few cells around each box's centre are looked at, on each level.
    """
    side = torch.arange(math.ceil(2 * settings.center_radius) + 2)  # cells along x or y, and one
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    found = []
    before = 0
    for (height, width), stride in zip(grid.sizes, grid.level_strides, strict=True):
        low = torch.maximum(centers - settings.center_radius * stride, boxes[:, :2])
        first = (low / stride - 0.5).floor().long()  # (N, 2) the last cell that is too low
        x, y = first[:, 0] + side[:, None], (first[:, 1] + side[:, None])[:, None]  # (S, N)
        exists = (x >= 0) & (x < width) & (y >= 0) & (y < height)  # (S, S, N)
        position = torch.where(exists, before + y * width + x, before)
        pairs = exists & _may_explain(grid, position, boxes, settings)
        found.append((position[pairs].numpy(), pairs.nonzero()[:, -1].numpy()))
        before += height * width
    position, index = map(np.concatenate, zip(*found, strict=True))
    return position, index


def point_targets(
    grid: PointGrid, targets: Sequence[Targets], settings: FCOSSettings
) -> PointTargets:
    """Assigns each point to the smallest box that it may explain.

    Boxes tell all of it, so the host finds it while the device is at work, and knows how many
    points there are.

    Args:
        grid: the P points.
        targets: one entry an image.
        settings: radius of the centre region.

    Returns:
        On the device of the grid.

    Source: FCOS (TPAMI 2021), centre sampling with radius 1.5.
    """
    device, grid, targets = grid.points.device, grid.host, [one.host for one in targets]
    boxes = torch.cat([one.boxes for one in targets])  # (N, 4)
    num_points, num_boxes = len(grid.points), len(boxes)
    point, index = _pairs_near_centers(grid, boxes, settings)
    images = np.repeat(np.arange(len(targets)), [len(one) for one in targets])  # (N,)
    point = images[index] * num_points + point  # among those of all images
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=-1).numpy()
    order = np.lexsort((index, areas[index], point))  # the smallest box of a point comes first
    firsts = order[np.diff(point[order], prepend=-1) > 0]
    instance_index = torch.from_numpy(index[firsts])
    image_index, position = map(torch.from_numpy, np.divmod(point[firsts], num_points))
    labels = instance_index.new_full((len(targets), num_points), -1)
    labels[image_index, position] = torch.cat([t.labels for t in targets])[instance_index]
    tight = torch.cat([t.tight for t in targets])
    ltrb = encode_ltrb(grid.points[position], boxes[instance_index])
    return PointTargets(
        labels=send(labels, device),
        image_index=send(image_index, device),
        position=send(position, device),
        instance_index=send(instance_index, device),
        ltrb=send(ltrb / grid.strides[position, None], device),
        centerness=send(centerness(ltrb), device),
        tight=send(tight[instance_index], device),
        counts=tuple(torch.bincount(instance_index, minlength=num_boxes).tolist()),
    )


def detection_losses(
    outputs: PointOutputs, targets: PointTargets, settings: FCOSSettings
) -> dict[str, LossSum]:
    """Focal class loss, GIoU box loss and centre-ness loss, in float32.

    Where the end of an object is not known, its box teaches nothing along that axis: there the
    prediction counts as right. Centre-ness needs both axes.

    Source: FCOS (TPAMI 2021).
    """
    assert outputs.class_logits is not None
    focal = focal_class_loss(outputs.class_logits, targets.labels)
    at = (targets.image_index, targets.position)
    known = targets.tight.repeat(1, 2)  # (M, 4) left, top, right, bottom
    ltrb = torch.where(known, outputs.ltrb[at].float(), targets.ltrb)
    giou = giou_of_ltrb(ltrb, targets.ltrb, smoothing=settings.iou_smoothing)
    weight = targets.centerness * targets.tight.any(dim=1)
    in_middle = F.binary_cross_entropy_with_logits(
        outputs.centerness_logits[at].float(), targets.centerness, reduction="none"
    )
    whole = targets.tight.all(dim=1)
    return {
        "loss_class": LossSum(focal, scalar(len(targets.position), focal)),
        "loss_box": LossSum(((1 - giou) * weight).sum(), weight.sum()),
        "loss_centerness": LossSum((in_middle * whole).sum(), whole.sum().to(focal.dtype)),
    }
