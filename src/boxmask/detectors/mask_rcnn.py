"""Mask R-CNN: regions of interest, and for each a class, a better box and a small mask."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from boxmask.backbones.backbone import BackboneSettings
from boxmask.backbones.stages import PartialMaps
from boxmask.detectors.detector import Detector, SampleAssignment
from boxmask.detectors.picture_masks import MASK_STRIDE, whole_image_frames
from boxmask.detectors.region_boxes import RegionHead, RegionSettings, RegionTargets
from boxmask.detectors.region_masks import (
    REGION_STRIDES,
    enlarge_regions,
    place_masks,
    pool_regions,
)
from boxmask.detectors.region_proposals import ProposalNetwork, ProposalOutputs, ProposalSettings
from boxmask.detectors.sample_choice import best_of_each_object, points_of_objects
from boxmask.structures import Detections, LossSum, MaskSamples, Targets


@dataclass(frozen=True, kw_only=True)
class MaskRCNNSettings:
    """Settings of Mask R-CNN.

    Attributes:
        num_classes: classes.
        backbone: see `BackboneSettings`.
        proposals: see `ProposalSettings`.
        regions: see `RegionSettings`.
        pyramid_channels: channels of the feature pyramid. Paper: 256.
        mask_channels: channels of the mask head. Paper: 256.
        mask_depth: convolutions of the mask head before its upsampling. Paper: 4.
        mask_cells: cells along each side of a region pooled for its mask; the mask has twice as
            many. Paper: 14.
        mask_context: side of the region that a mask covers, in sides of its box, and at least a
            mask cell more on each side: that masks end at their box must be seen to be learnt.
            Published: 1.
        mask_canonical_size: like `regions.canonical_size`, for masks; larger pools masks from finer
            maps. Published: 224.
        outside_logit: mask logit outside the region in maps of the whole picture; -6 is a score of
            0.25 %: clear background, while no loss becomes huge where an object leaves its region.
        samples_per_image: how many regions of an image train masks.
        architecture: its name in saved files.
    """

    num_classes: int
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    proposals: ProposalSettings = field(default_factory=ProposalSettings)
    regions: RegionSettings = field(default_factory=RegionSettings)
    pyramid_channels: int = 256
    mask_channels: int = 256
    mask_depth: int = 4
    mask_cells: int = 14
    mask_context: float = 1.2
    mask_canonical_size: float = 224.0
    outside_logit: float = -6.0
    samples_per_image: int = 64
    architecture: Literal["maskrcnn"] = "maskrcnn"

    @property
    def feature_channels(self) -> int:
        """See `DetectorSettings`."""
        return self.pyramid_channels

    def build(self) -> "MaskRCNN":
        """The detector, its backbone pretrained as the settings say."""
        return MaskRCNN(self)


@dataclass(frozen=True, kw_only=True)
class MaskRCNNOutputs:
    """The pyramid and what its anchors predict.

    Attributes:
        levels: P2 to P6, each (B, C, h, w).
        anchors: see `ProposalOutputs`; None where only masks are wanted.
        image_sizes: (height, width) of each image without padding.
    """

    levels: tuple[Tensor, ...]
    anchors: ProposalOutputs | None
    image_sizes: tuple[tuple[int, int], ...]


class MaskRCNN(Detector):
    """Mask R-CNN with a feature pyramid.

    Mask samples are regions near objects; their masks are put into maps of the whole picture, so
    that every weak loss can read them.

    Source: Mask R-CNN (ICCV 2017).
    """

    def __init__(self, settings: MaskRCNNSettings) -> None:
        super().__init__()
        self.settings = settings
        self.num_classes = settings.num_classes
        self.backbone = replace(settings.backbone, strides=REGION_STRIDES).build()
        channels = settings.pyramid_channels
        self.neck = FeaturePyramidNetwork(
            list(self.backbone.channels), channels, extra_blocks=LastLevelMaxPool()
        )
        self.proposals = ProposalNetwork(channels, settings.proposals)
        self.region_head = RegionHead(channels, settings.num_classes, settings.regions)
        hidden = settings.mask_channels
        self.mask_head = nn.Sequential(
            MaskRCNNHeads(channels, [hidden] * settings.mask_depth, dilation=1),
            MaskRCNNPredictor(hidden, hidden, settings.num_classes),
        )
        self.to(memory_format=torch.channels_last)  # faster convolutions, on CPUs too

    def forward(
        self, images: Tensor, valid: Tensor, frozen: PartialMaps | None = None
    ) -> MaskRCNNOutputs:
        """See `Detector.forward`."""
        outputs = self.mask_outputs(images, valid, frozen)
        return replace(outputs, anchors=self.proposals(outputs.levels, outputs.image_sizes))

    @property
    def map_parts(self) -> list[nn.Module]:
        """See `Detector.map_parts`."""
        return [*self.backbone.map_parts, self.neck]

    def frozen_outputs(self, images: Tensor, valid: Tensor) -> PartialMaps | None:
        """The backbone's first stages, see `Detector.frozen_outputs`."""
        return self.backbone.frozen_maps(images, valid)

    def mask_outputs(
        self, images: Tensor, valid: Tensor, frozen: PartialMaps | None = None
    ) -> MaskRCNNOutputs:
        """See `Detector.mask_outputs`: there are no proposals."""
        maps = self.backbone(images, valid, frozen)
        named = OrderedDict((str(level), one) for level, one in enumerate(maps))
        heights, widths = valid.any(dim=2).sum(dim=1), valid.any(dim=1).sum(dim=1)
        return MaskRCNNOutputs(
            levels=tuple(self.neck(named).values()),
            anchors=None,
            image_sizes=tuple(zip(heights.tolist(), widths.tolist(), strict=True)),
        )

    def assign(self, outputs: MaskRCNNOutputs, targets: Sequence[Targets]) -> SampleAssignment:
        """Regions that overlap a box learn its object, a random choice of them also its mask."""
        assert outputs.anchors is not None
        drawn = self.region_head.draw(outputs.anchors.proposals, targets)
        position = (drawn.categories > 0).nonzero().squeeze(-1)
        instances, counts = drawn.instance_index[position], [len(one) for one in targets]
        kept, host_index = best_of_each_object(
            instances,
            torch.rand(len(position), device=position.device),
            points_of_objects(instances, sum(counts)),
            counts,
            self.settings.samples_per_image,
        )
        return _sample_assignment(position[kept], drawn, targets, host_index)

    def assign_every_box(
        self, outputs: MaskRCNNOutputs, targets: Sequence[Targets]
    ) -> SampleAssignment:
        """The given boxes themselves are the regions, one sample each."""
        given = self.region_head.given(targets)
        position = torch.arange(len(given.regions), device=given.regions.device)
        assignment = _sample_assignment(position, given, targets)
        unknown = assignment.labels >= self.num_classes
        if bool(unknown.any()):  # masks are of a class each: take that of the likeliest
            logits, _ = self.region_head(outputs.levels, given.regions, given.image_index)
            labels = torch.where(unknown, logits[:, 1:].argmax(dim=1), assignment.labels)
            assignment = replace(assignment, labels=labels)
        return assignment

    def detection_losses(
        self,
        outputs: MaskRCNNOutputs,
        assignment: SampleAssignment,
        targets: Sequence[Targets],
    ) -> dict[str, LossSum]:
        """Objectness and boxes of anchors, classes and boxes of regions."""
        assert outputs.anchors is not None
        losses = self.proposals.losses(outputs.anchors, targets)
        return losses | self.region_head.losses(outputs.levels, assignment.detection, targets)

    def mask_samples(self, outputs: MaskRCNNOutputs, assignment: SampleAssignment) -> MaskSamples:
        """Masks of the assigned regions, as maps of the whole picture at stride 4."""
        regions = assignment.detection.regions[assignment.position]
        image_index, labels = assignment.image_index, assignment.labels
        logits, covered = self.region_masks(outputs, regions, image_index, labels)
        height, width = outputs.levels[0].shape[-2:]
        outside = self.settings.outside_logit
        with torch.autocast(logits.device.type, enabled=False):
            maps = place_masks(logits, covered, (height, width), MASK_STRIDE, outside)
        boxes, scores = self.region_head.explain(outputs.levels, regions, image_index, labels)
        return MaskSamples(
            logits=maps,
            boxes=assignment.boxes,
            tight=assignment.tight,
            labels=labels,
            image_index=image_index,
            instance_index=assignment.instance_index,
            frames=whole_image_frames(maps),
            predicted_boxes=boxes,
            scores=scores,
            features=outputs.levels[0],
            host_index=assignment.host_index,
        )

    def region_masks(
        self, outputs: MaskRCNNOutputs, boxes: Tensor, image_index: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Masks of boxes as objects of given classes.

        Args:
            outputs: see `MaskRCNNOutputs`; the pyramid is read.
            boxes: (K, 4) in input pixels.
            image_index: (K,) image of each.
            labels: (K,) class of each.

        Returns:
            (K, m, m) logits in float32, and the regions (K, 4) that they cover, in input pixels.
        """
        settings = self.settings
        sizes = boxes.new_tensor(outputs.image_sizes).flip(-1)  # (B, 2) width, height
        covered = enlarge_regions(boxes, settings.mask_context, MASK_STRIDE, sizes[image_index])
        pooled = pool_regions(
            outputs.levels,
            covered,
            image_index,
            cells=settings.mask_cells,
            canonical_size=settings.mask_canonical_size,
        )
        logits = self.mask_head(pooled)  # (K, C, m, m)
        rows = torch.arange(len(labels), device=labels.device)
        return logits[rows, labels].float(), covered

    def detections(
        self, outputs: MaskRCNNOutputs, image_sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        """At most `max_detections` objects an image, best first, each with some area."""
        assert outputs.anchors is not None
        found = self.region_head.find(outputs.levels, outputs.anchors.proposals, image_sizes)
        detections = []
        for image, (boxes, scores, labels) in enumerate(found):
            image_index = torch.full_like(labels, image)
            logits, covered = self.region_masks(outputs, boxes, image_index, labels)
            detections.append(
                Detections(
                    boxes=boxes,
                    scores=scores,
                    labels=labels,
                    mask_scores=logits.sigmoid(),
                    frames=covered,
                    image_size=image_sizes[image],
                )
            )
        return detections


def _sample_assignment(
    position: Tensor,
    regions: RegionTargets,
    targets: Sequence[Targets],
    host_index: Tensor | None = None,
) -> SampleAssignment:
    """Binds regions, by their place among all regions of the batch, to their objects' boxes."""
    instance_index = regions.instance_index[position]
    image_index = regions.image_index[position]
    return SampleAssignment.of(position, image_index, instance_index, targets, regions, host_index)
