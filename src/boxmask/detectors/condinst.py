"""CondInst: FCOS, and for each object a small mask head that its point predicts."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from boxmask.backbones.backbone import BackboneSettings
from boxmask.backbones.stages import PartialMaps
from boxmask.detectors.detector import Detector, SampleAssignment
from boxmask.detectors.fcos import (
    FCOSHead,
    FCOSSettings,
    PointOutputs,
    detection_losses,
    point_targets,
    positive_pairs,
)
from boxmask.detectors.mask_branch import MaskBranch, gather_patches
from boxmask.detectors.picture_masks import MASK_STRIDE, whole_image_frames
from boxmask.detectors.point_detections import best_points, point_boxes
from boxmask.detectors.sample_choice import (
    best_of_each_object,
    points_of_objects,
    with_every_object,
)
from boxmask.necks.bifpn import BiFPN
from boxmask.necks.feature_pyramid import FeaturePyramid
from boxmask.ops.dynamic_mask import dynamic_mask_logits, num_dynamic_parameters
from boxmask.ops.masks import aligned_upsample, mean_foreground_score
from boxmask.ops.points import point_grid
from boxmask.structures import Detections, LossSum, MaskSamples, Targets

PYRAMID_STRIDES = (8, 16, 32)
FINE_STRIDES = (4, 8, 16, 32)
# Input pixels that count as one unit of relative coordinates, for P3 to P7.
REACHES = (64.0, 128.0, 256.0, 512.0, 1024.0)


@dataclass(frozen=True, kw_only=True)
class CondInstSettings:
    """Settings of CondInst.

    Attributes:
        num_classes: classes.
        backbone: see `BackboneSettings`.
        fcos: see `FCOSSettings`.
        neck: the pyramid.
        pyramid_channels: channels of the feature pyramid. Paper: 256.
        branch_channels: channels inside the mask branch. Paper: 128.
        mask_channels: mask features D. Paper: 8 with full masks, 16 with boxes.
        mask_norm: "group", or "batch" as published.
        fine_masks: mask features at stride 4 with the backbone's help; published: at stride 8.
        mask_score_power: detections' scores are multiplied by the mean score of their mask's
            foreground to this power; clear masks come first. Published: 0.
        samples_per_image: how many points of an image train masks. Published: 64.
        architecture: its name in saved files.
    """

    num_classes: int
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    fcos: FCOSSettings = field(default_factory=FCOSSettings)
    neck: Literal["fpn", "bifpn"] = "fpn"
    pyramid_channels: int = 256
    branch_channels: int = 128
    mask_channels: int = 16
    mask_norm: str = "group"
    fine_masks: bool = False
    mask_score_power: float = 0.0
    samples_per_image: int = 64
    architecture: Literal["condinst"] = "condinst"

    @property
    def feature_channels(self) -> int:
        """See `DetectorSettings`."""
        return self.mask_channels

    def build(self) -> "CondInst":
        """The detector, its backbone pretrained as the settings say."""
        return CondInst(self)


@dataclass(frozen=True, kw_only=True)
class CondInstOutputs:
    """Predictions of the points, and the mask features (B, D, h, w)."""

    points: PointOutputs
    features: Tensor


class CondInst(Detector):
    """CondInst on FCOS.

    Source: Conditional Convolutions for Instance Segmentation (ECCV 2020).
    """

    steady = True

    def __init__(self, settings: CondInstSettings) -> None:
        super().__init__()
        self.settings = settings
        self.num_classes = settings.num_classes
        strides = FINE_STRIDES if settings.fine_masks else PYRAMID_STRIDES
        self.backbone = replace(settings.backbone, strides=strides).build()
        channels = self.backbone.channels[-len(PYRAMID_STRIDES) :]
        pyramid = BiFPN if settings.neck == "bifpn" else FeaturePyramid
        self.neck = pyramid(channels, settings.pyramid_channels)
        fine_channels = self.backbone.channels[0] if settings.fine_masks else 0
        self.heads = CondInstHeads(settings, fine_channels)
        self.to(memory_format=torch.channels_last)  # faster convolutions, on CPUs too

    def forward(
        self, images: Tensor, valid: Tensor, frozen: PartialMaps | None = None
    ) -> CondInstOutputs:
        """See `Detector.forward`."""
        return self.heads(*self._maps(images, valid, frozen))

    @property
    def map_parts(self) -> list[nn.Module]:
        """See `Detector.map_parts`."""
        return [*self.backbone.map_parts, self.neck, *self.heads.map_parts]

    def frozen_outputs(self, images: Tensor, valid: Tensor) -> PartialMaps | None:
        """The backbone's first stages, see `Detector.frozen_outputs`."""
        return self.backbone.frozen_maps(images, valid)

    def mask_outputs(
        self, images: Tensor, valid: Tensor, frozen: PartialMaps | None = None
    ) -> CondInstOutputs:
        """See `Detector.mask_outputs`: the class tower is left out."""
        return self.heads(*self._maps(images, valid, frozen), classes=False)

    def _maps(
        self, images: Tensor, valid: Tensor, frozen: PartialMaps | None
    ) -> tuple[list[Tensor], Tensor | None]:
        """The pyramid, and the backbone's map at stride 4 where masks are fine."""
        maps = self.backbone(images, valid, frozen)
        levels = self.neck(maps[-len(PYRAMID_STRIDES) :])
        return levels, maps[0] if self.settings.fine_masks else None

    def assign(self, outputs: CondInstOutputs, targets: Sequence[Targets]) -> SampleAssignment:
        """Each point to the smallest box whose middle it is in; the best points train masks."""
        return self.heads.assign(outputs, targets)

    def assign_every_box(
        self, outputs: CondInstOutputs, targets: Sequence[Targets]
    ) -> SampleAssignment:
        """The best points of every box, also where boxes overlap or are tiny."""
        return self.heads.assign_every_box(outputs, targets)

    def detection_losses(
        self,
        outputs: CondInstOutputs,
        assignment: SampleAssignment,
        targets: Sequence[Targets],
    ) -> dict[str, LossSum]:
        """FCOS's three losses."""
        return detection_losses(outputs.points, assignment.detection, self.settings.fcos)

    def mask_samples(self, outputs: CondInstOutputs, assignment: SampleAssignment) -> MaskSamples:
        """Masks at stride 4 of the assigned points."""
        return self.heads.mask_samples(outputs, assignment)

    def detections(
        self, outputs: CondInstOutputs, image_sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        """At most `max_detections` objects an image, best first, each with some area."""
        found = (
            self.heads.image_detections(outputs, image, size)
            for image, size in enumerate(image_sizes)
        )
        return [one.select((one.boxes[:, 2:] > one.boxes[:, :2]).all(dim=-1)) for one in found]


class CondInstHeads(nn.Module):
    """Everything of CondInst after the pyramid."""

    mask_stride = MASK_STRIDE

    def __init__(self, settings: CondInstSettings, fine_channels: int = 0) -> None:
        super().__init__()
        self.settings = settings
        self.feature_stride = 4 if fine_channels else 8
        channels = settings.pyramid_channels
        strides = FeaturePyramid.strides
        self.strides = strides
        self.fcos_head = FCOSHead(channels, settings.num_classes, len(strides), settings.fcos)
        self.mask_branch = MaskBranch(
            channels,
            settings.branch_channels,
            settings.mask_channels,
            settings.mask_norm,
            fine_channels,
        )
        count = num_dynamic_parameters(settings.mask_channels)
        self.controller = nn.Conv2d(channels, count, 3, padding=1)
        nn.init.normal_(self.controller.weight, std=0.01)
        nn.init.zeros_(cast(Tensor, self.controller.bias))
        self.register_buffer("reaches", torch.tensor(REACHES), persistent=False)

    @property
    def map_parts(self) -> list[nn.Module]:
        """See `Detector.map_parts`."""
        return [self.fcos_head.cls_tower, self.fcos_head.bbox_tower, *self.mask_branch.map_parts]

    def forward(
        self, levels: Sequence[Tensor], fine: Tensor | None = None, *, classes: bool = True
    ) -> CondInstOutputs:
        """Outputs from the maps P3 to P7, each (B, C, h, w), and the backbone's at stride 4."""
        sizes = [(level.shape[-2], level.shape[-1]) for level in levels]
        grid = point_grid(sizes, self.strides, levels[0].device)
        return CondInstOutputs(
            points=self.fcos_head(levels, grid, classes=classes),
            features=self.mask_branch(levels, fine),
        )

    def assign(self, outputs: CondInstOutputs, targets: Sequence[Targets]) -> SampleAssignment:
        """See `Detector.assign`."""
        points = point_targets(outputs.points.grid, targets, self.settings.fcos)
        scores = self._scores(outputs.points, points.image_index, points.position)
        kept, host_index = best_of_each_object(
            points.instance_index,
            scores,
            points.counts,
            [len(one) for one in targets],
            self.settings.samples_per_image,
        )
        return SampleAssignment.of(
            points.position[kept], points.image_index[kept], points.instance_index[kept],
            targets, points, host_index,
        )  # fmt: skip

    def assign_every_box(
        self, outputs: CondInstOutputs, targets: Sequence[Targets]
    ) -> SampleAssignment:
        """See `Detector.assign_every_box`."""
        grid = outputs.points.grid
        images, positions, instances = [], [], []
        offset = 0
        for image, target in enumerate(targets):
            pairs = positive_pairs(grid, target.boxes, self.settings.fcos)
            pairs = with_every_object(pairs, grid, target.boxes)
            position, owner = pairs.nonzero(as_tuple=True)
            images.append(torch.full_like(position, image))
            positions.append(position)
            instances.append(owner + offset)
            offset += len(target)
        image_index, position, instance = map(torch.cat, (images, positions, instances))
        scores = self._scores(outputs.points, image_index, position)
        kept, host_index = best_of_each_object(
            instance,
            scores,
            points_of_objects(instance, offset),
            [len(one) for one in targets],
            self.settings.samples_per_image,
            cap_objects=False,
        )
        return SampleAssignment.of(
            position[kept],
            image_index[kept],
            instance[kept],
            targets,
            host_index=host_index,
        )

    def mask_samples(self, outputs: CondInstOutputs, assignment: SampleAssignment) -> MaskSamples:
        """See `Detector.mask_samples`."""
        image_index, position = assignment.image_index, assignment.position
        logits = self.mask_logits(outputs, image_index, position)
        return MaskSamples(
            logits=logits,
            boxes=assignment.boxes,
            tight=assignment.tight,
            labels=assignment.labels,
            image_index=image_index,
            instance_index=assignment.instance_index,
            frames=whole_image_frames(logits),
            predicted_boxes=point_boxes(outputs.points, image_index, position),
            scores=self._scores(outputs.points, image_index, position),
            features=outputs.features,
            host_index=assignment.host_index,
        )

    def mask_logits(
        self, outputs: CondInstOutputs, image_index: Tensor, position: Tensor
    ) -> Tensor:
        """(K, h, w) logits at stride 4 of K points, in float32; `image_index` not decreasing."""
        grid = outputs.points.grid
        patches = gather_patches(outputs.points.towers, image_index, position)
        parameters = F.linear(patches, self.controller.weight.flatten(1), self.controller.bias)
        with torch.autocast(patches.device.type, enabled=False):
            logits = dynamic_mask_logits(
                outputs.features.float(),
                parameters.float(),
                grid.points[position],
                self.reaches[grid.levels[position]],
                image_index,
                stride=self.feature_stride,
            )
            return aligned_upsample(logits[:, None], self.feature_stride // self.mask_stride)[:, 0]

    def image_detections(
        self, outputs: CondInstOutputs, image: int, image_size: tuple[int, int]
    ) -> Detections:
        """The objects of one image."""
        settings = self.settings.fcos
        position, boxes, scores, labels = best_points(outputs.points, image, image_size, settings)
        logits = self.mask_logits(outputs, torch.full_like(position, image), position)
        mask_scores = logits.sigmoid()
        found = Detections(
            boxes=boxes,
            scores=scores * mean_foreground_score(mask_scores) ** self.settings.mask_score_power,
            labels=labels,
            mask_scores=mask_scores,
            frames=whole_image_frames(logits),
            image_size=image_size,
        )
        return found.select(found.scores.argsort(descending=True, stable=True))

    def _scores(self, points: PointOutputs, image_index: Tensor, position: Tensor) -> Tensor:
        """(K,) best class score, where there is one, times centre-ness of points, no graph."""
        center = points.centerness_logits[image_index, position].detach().float().sigmoid()
        if points.class_logits is None:
            return center
        classes = points.class_logits[image_index, position].detach().float().amax(dim=-1)
        return classes.sigmoid() * center
