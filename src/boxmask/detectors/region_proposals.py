"""Region proposals: a short list of boxes that may hold objects, from torchvision's RPN."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import (
    RegionProposalNetwork,
    RPNHead,
    concat_box_prediction_layers,
)

from boxmask.structures import LossSum, Targets
from boxmask.waitless import numbered

# Strides of the maps with anchors, P2 to P6.
ANCHOR_STRIDES = (4, 8, 16, 32, 64)
# Error, in units of the coded boxes, from which the smooth L1 loss is straight. torchvision: 1/9.
SMOOTH_L1_BETA = 1 / 9
# Boxes of pictures are at least this wide and high, in input pixels: coding divides by their sides.
LEAST_SIDE = 1.0


@dataclass(frozen=True, kw_only=True)
class ProposalSettings:
    """Settings of the region proposal network.

    Attributes:
        anchor_sizes: side in input pixels of the square anchors, for P2 to P6.
        aspect_ratios: height / width of the anchors of each cell.
        foreground_iou: IoU with a given box, in 0..1, from which an anchor is one of an object.
        background_iou: IoU, in 0..1, below which an anchor is one of none.
        samples_per_image: anchors of an image that learn.
        foreground_share: most of these that may be of objects, in 0..1.
        num_before_nms: proposals of each level kept before non-maximum suppression. Published:
            2000, and 1000 after the training.
        num_proposals: proposals of an image kept after it.
        nms_threshold: IoU, in 0..1, above which the worse of two proposals goes.
    """

    anchor_sizes: tuple[int, int, int, int, int] = (32, 64, 128, 256, 512)
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    foreground_iou: float = 0.7
    background_iou: float = 0.3
    samples_per_image: int = 256
    foreground_share: float = 0.5
    num_before_nms: int = 2000
    num_proposals: int = 1000
    nms_threshold: float = 0.7


@dataclass(frozen=True, kw_only=True)
class ProposalOutputs:
    """Predictions of the anchors.

    Attributes:
        objectness: (B, A) logits.
        deltas: (B, A, 4) coded boxes.
        anchors: (A, 4) in input pixels, the same in every image.
        proposals: (n, 4) boxes in input pixels of each image, best first. No graph.
    """

    objectness: Tensor
    deltas: Tensor
    anchors: Tensor
    proposals: tuple[Tensor, ...]


class ProposalNetwork(nn.Module):
    """Finds regions that may hold objects of any class.

    Args:
        channels: channels of the pyramid.
        settings: see `ProposalSettings`.

    Source: Faster R-CNN (NeurIPS 2015); FPN (CVPR 2017), section 4.1.
    """

    def __init__(self, channels: int, settings: ProposalSettings) -> None:
        super().__init__()
        anchors = AnchorGenerator(
            tuple((size,) for size in settings.anchor_sizes),
            (settings.aspect_ratios,) * len(settings.anchor_sizes),
        )
        before = dict.fromkeys(("training", "testing"), settings.num_before_nms)
        after = dict.fromkeys(("training", "testing"), settings.num_proposals)
        self.network = RegionProposalNetwork(
            anchors,
            RPNHead(channels, len(settings.aspect_ratios)),
            fg_iou_thresh=settings.foreground_iou,
            bg_iou_thresh=settings.background_iou,
            batch_size_per_image=settings.samples_per_image,
            positive_fraction=settings.foreground_share,
            pre_nms_top_n=before,
            post_nms_top_n=after,
            nms_thresh=settings.nms_threshold,
        )

    def forward(
        self, levels: Sequence[Tensor], image_sizes: Sequence[tuple[int, int]]
    ) -> ProposalOutputs:
        """Proposals, clipped to the pictures.

        Args:
            levels: P2 to P6, each (B, C, h, w).
            image_sizes: (height, width) of each image without padding.
        """
        logits, deltas = self.network.head(list(levels))
        counts = [level[0].numel() for level in logits]
        num_images = len(image_sizes)
        flat_logits, flat_deltas = concat_box_prediction_layers(logits, deltas)
        objectness = flat_logits.float().view(num_images, -1)  # (B, A)
        coded = flat_deltas.float().view(num_images, -1, 4)  # (B, A, 4)
        anchors = self._anchors(levels)
        with torch.no_grad():
            boxes = self.network.box_coder.decode(coded.flatten(0, 1), [anchors] * num_images)
            boxes = boxes.view(num_images, -1, 4)
            proposals, _ = self.network.filter_proposals(
                boxes, objectness, list(image_sizes), counts
            )
        return ProposalOutputs(
            objectness=objectness, deltas=coded, anchors=anchors, proposals=tuple(proposals)
        )

    def losses(self, outputs: ProposalOutputs, targets: Sequence[Targets]) -> dict[str, LossSum]:
        """Objectness and boxes, both over all anchors that were drawn, as published.

        Along an axis on which the end of an object is not known, its box teaches nothing.
        """
        network = self.network
        anchors = [outputs.anchors] * len(targets)
        given = [{"boxes": sized_boxes(target.boxes)} for target in targets]
        labels, matched = network.assign_targets_to_anchors(anchors, given)
        coded = torch.stack(network.box_coder.encode(matched, anchors))  # (B, A, 4)
        foreground, background = (
            torch.stack(drawn).bool() for drawn in network.fg_bg_sampler(labels)
        )
        drawn = foreground | background  # (B, A)
        objectness = F.binary_cross_entropy_with_logits(
            outputs.objectness[drawn], foreground[drawn].float(), reduction="sum"
        )
        tight = tight_axes(torch.stack(matched), foreground, targets)
        boxes = coded_box_loss(outputs.deltas[foreground], coded[foreground], tight)
        count = drawn.sum().to(objectness.dtype)
        return {
            "loss_objectness": LossSum(objectness, count),
            "loss_rpn_box": LossSum(boxes, count),
        }

    def _anchors(self, levels: Sequence[Tensor]) -> Tensor:
        """(A, 4) anchors of all levels in float32, in input pixels."""
        generator = self.network.anchor_generator
        generator.set_cell_anchors(torch.float32, levels[0].device)
        sizes = [list(level.shape[-2:]) for level in levels]
        strides = [[torch.tensor(stride)] * 2 for stride in ANCHOR_STRIDES]
        return torch.cat(generator.grid_anchors(sizes, strides))


def tight_axes(matched: Tensor, foreground: Tensor, targets: Sequence[Targets]) -> Tensor:
    """Whether the objects of anchors end where their boxes do.

    torchvision tells an anchor's given box, not whose it is; of several objects with one box, all
    must be tight.

    Args:
        matched: (B, A, 4) the given box of each anchor, as `sized_boxes` gives it.
        foreground: (B, A) bool, which anchors are asked for.
        targets: one entry an image.

    Returns:
        (F, 2) bool along x and along y, of the F anchors that are asked for.
    """
    image = foreground.nonzero()[:, 0]
    boxes = sized_boxes(torch.cat([target.boxes for target in targets]))  # (N, 4)
    owner = numbered([len(target) for target in targets], boxes.device)
    loose = ~torch.cat([target.tight for target in targets])  # (N, 2)
    same = (matched[foreground][:, None] == boxes).all(dim=-1) & (image[:, None] == owner)
    return ~(same[:, :, None] & loose).any(dim=1)


def coded_box_loss(predicted: Tensor, target: Tensor, tight: Tensor) -> Tensor:
    """Sum of the smooth L1 losses of coded boxes.

    Args:
        predicted: (N, 4) centre and size, along x and y in turn.
        target: (N, 4) alike.
        tight: (N, 2) bool, along x and along y; an axis that is not tight costs nothing.
    """
    losses = F.smooth_l1_loss(predicted, target, reduction="none", beta=SMOOTH_L1_BETA)
    return (losses * tight.repeat(1, 2)).sum()


def sized_boxes(boxes: Tensor) -> Tensor:
    """(N, 4) boxes in float32 whose sides are at least `LEAST_SIDE`, about the same centres."""
    boxes = boxes.float()
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).clamp(min=LEAST_SIDE) / 2
    narrow = (boxes[:, 2:] - boxes[:, :2] < LEAST_SIDE).repeat(1, 2)
    return torch.where(narrow, torch.cat([centers - half, centers + half], dim=-1), boxes)
