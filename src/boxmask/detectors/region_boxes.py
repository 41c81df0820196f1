"""Classes and boxes of regions: the second stage of Faster R-CNN, from torchvision's parts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads

from boxmask.detectors.region_masks import pool_regions
from boxmask.detectors.region_proposals import coded_box_loss, sized_boxes
from boxmask.structures import LossSum, Targets
from boxmask.waitless import numbered, scalar


@dataclass(frozen=True, kw_only=True)
class RegionSettings:
    """Settings of the classes and boxes of regions.

    Attributes:
        hidden_channels: channels of the two fully connected layers. Published: 1024.
        cells: cells along each side of a pooled region. Published: 7.
        canonical_size: side in input pixels from which square regions are pooled from P4.
        foreground_iou: IoU with a given box, in 0..1, from which a region is its object's.
        samples_per_image: regions of an image that learn. Published: 512.
        foreground_share: most of these that may be of objects, in 0..1.
        score_threshold: in 0..1, below which there is no detection.
        nms_threshold: IoU, in 0..1, above which the worse of two detections of a class goes.
        max_detections: of an image.
    """

    hidden_channels: int = 1024
    cells: int = 7
    canonical_size: float = 224.0
    foreground_iou: float = 0.5
    samples_per_image: int = 512
    foreground_share: float = 0.25
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    max_detections: int = 100


@dataclass(frozen=True, kw_only=True)
class RegionTargets:
    """Regions of a batch, and what they should say.

    Attributes:
        regions: (R, 4) in input pixels.
        image_index: (R,) int64, not decreasing.
        categories: (R,) int64, 0 for background, else the label + 1.
        instance_index: (R,) int64 position of the object among all objects of the batch; without
            meaning for background.
        deltas: (R, 4) the object's box, coded relative to the region.
    """

    regions: Tensor
    image_index: Tensor
    categories: Tensor
    instance_index: Tensor
    deltas: Tensor


class RegionHead(nn.Module):
    """Class scores and, for each class, a better box of every region.

    Args:
        channels: channels of the pyramid.
        num_classes: classes without background.
        settings: see `RegionSettings`.

    Source: Fast R-CNN (ICCV 2015); FPN (CVPR 2017), section 4.2.
    """

    def __init__(self, channels: int, num_classes: int, settings: RegionSettings) -> None:
        super().__init__()
        self.settings = settings
        self.heads = RoIHeads(
            None,  # regions are pooled by `pool_regions`
            TwoMLPHead(channels * settings.cells**2, settings.hidden_channels),
            FastRCNNPredictor(settings.hidden_channels, num_classes + 1),
            fg_iou_thresh=settings.foreground_iou,
            bg_iou_thresh=settings.foreground_iou,
            batch_size_per_image=settings.samples_per_image,
            positive_fraction=settings.foreground_share,
            bbox_reg_weights=None,
            score_thresh=settings.score_threshold,
            nms_thresh=settings.nms_threshold,
            detections_per_img=settings.max_detections,
        )

    def forward(
        self, levels: Sequence[Tensor], regions: Tensor, image_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Class logits (R, C + 1), background first, and coded boxes (R, C + 1, 4) of regions."""
        pooled = pool_regions(
            levels,
            regions,
            image_index,
            cells=self.settings.cells,
            canonical_size=self.settings.canonical_size,
        )
        logits, deltas = self.heads.box_predictor(self.heads.box_head(pooled))
        return logits.float(), deltas.float().unflatten(-1, (-1, 4))

    @torch.no_grad()
    def draw(self, proposals: Sequence[Tensor], targets: Sequence[Targets]) -> RegionTargets:
        """Regions to learn from: some of the proposals and of the given boxes of each image."""
        given = [
            {"boxes": sized_boxes(target.boxes), "labels": target.labels + 1} for target in targets
        ]
        regions, owners, categories, deltas = self.heads.select_training_samples(
            list(proposals), given
        )
        index, instances, offset = [], [], 0
        for image, (owner, target) in enumerate(zip(owners, targets, strict=True)):
            index.append(torch.full_like(owner, image))
            instances.append(owner + offset)
            offset += len(target)
        return RegionTargets(
            regions=torch.cat(regions),
            image_index=torch.cat(index),
            categories=torch.cat(categories),
            instance_index=torch.cat(instances),
            deltas=torch.cat(tuple(deltas)),
        )

    @torch.no_grad()
    def given(self, targets: Sequence[Targets]) -> RegionTargets:
        """The given boxes themselves as regions, in their order."""
        regions = torch.cat([sized_boxes(target.boxes) for target in targets])
        return RegionTargets(
            regions=regions,
            image_index=numbered([len(target) for target in targets], regions.device),
            categories=torch.cat([target.labels for target in targets]) + 1,
            instance_index=torch.arange(len(regions), device=regions.device),
            deltas=torch.zeros_like(regions),  # each is its own object's box
        )

    def losses(
        self, levels: Sequence[Tensor], drawn: RegionTargets, targets: Sequence[Targets]
    ) -> dict[str, LossSum]:
        """Class and box, both over all drawn regions, as published.

        Along an axis on which the end of an object is not known, its box teaches nothing.

        Args:
            levels: P2 to P5.
            drawn: see `draw`.
            targets: what they were drawn from.
        """
        logits, deltas = self(levels, drawn.regions, drawn.image_index)
        classes = F.cross_entropy(logits, drawn.categories, reduction="sum")
        objects = (drawn.categories > 0).nonzero().squeeze(-1)
        tight = torch.cat([one.tight for one in targets])[drawn.instance_index[objects]]
        coded = deltas[objects, drawn.categories[objects]]
        boxes = coded_box_loss(coded, drawn.deltas[objects], tight)
        count = scalar(len(logits), logits)
        return {"loss_class": LossSum(classes, count), "loss_box": LossSum(boxes, count)}

    @torch.no_grad()
    def explain(
        self, levels: Sequence[Tensor], regions: Tensor, image_index: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the model thinks of regions as objects of given classes.

        Args:
            levels: P2 to P5.
            regions: (K, 4) in input pixels.
            image_index: (K,) image of each.
            labels: (K,) class of each.

        Returns:
            Boxes (K, 4) in input pixels, and scores (K,) in 0..1.
        """
        logits, deltas = self(levels, regions, image_index)
        rows = torch.arange(len(labels), device=labels.device)
        boxes = self.heads.box_coder.decode_single(deltas[rows, labels + 1], regions)
        return boxes, logits.softmax(dim=-1)[rows, labels + 1]

    @torch.no_grad()
    def find(
        self,
        levels: Sequence[Tensor],
        proposals: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Boxes (N, 4), scores (N,) and labels (N,) of each image, best first, each with area."""
        image_index = numbered([len(boxes) for boxes in proposals], levels[0].device)
        logits, deltas = self(levels, torch.cat(tuple(proposals)), image_index)
        boxes, scores, categories = self.heads.postprocess_detections(
            logits, deltas.flatten(1), list(proposals), list(image_sizes)
        )
        return [
            (one, score, category - 1)
            for one, score, category in zip(boxes, scores, categories, strict=True)
        ]
