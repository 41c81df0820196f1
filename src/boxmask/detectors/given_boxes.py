"""The model's mask for each given box: what labelling and label IoU are made of."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from boxmask.detectors.detector import Detector
from boxmask.ops.boxes import TINY, paired_iou
from boxmask.ops.groups import shares_within
from boxmask.ops.owners import claimed_by_others, highest_scores
from boxmask.structures import MaskSamples, Targets
from boxmask.waitless import numbered

# How much a sample whose predicted box fits the given one outweighs the others (SIM, equation 6).
FIT_SHARPNESS = 5.0
# Boxes whose masks are computed together: bounds the memory of crowded pictures.
BOXES_TOGETHER = 256


@dataclass(frozen=True, kw_only=True)
class BoxMasks:
    """One mask for each of the N given boxes of a batch, image after image.

    Attributes:
        mask_scores: (N, h, w) in 0..1 at the cells of `frames`.
        claimed: (N, h, w) bool, cells where another object of the same class is surer.
        frames: (N, 4) region of the input that each map covers, in input pixels.
        confidence: (N,) in 0..1: mean certainty of the mask inside the box, times how well the
            box that the model itself predicts there fits the given one.
    """

    mask_scores: Tensor
    claimed: Tensor
    frames: Tensor
    confidence: Tensor


@dataclass(frozen=True, kw_only=True)
class BoxMask:
    """The mask of one given box, on the CPU.

    Attributes:
        image: position of its picture in the batch.
        position: position of the box among the given boxes of that picture.
        mask_scores: (h, w) in 0..1 at the cells of `frame`.
        claimed: (h, w) bool, cells where another object of the same class is surer.
        frame: (4,) region of the input that the map covers, in input pixels.
        confidence: in 0..1, see `BoxMasks`.
    """

    image: int
    position: int
    mask_scores: Tensor
    claimed: Tensor
    frame: Tensor
    confidence: float


@torch.no_grad()
def each_box_mask(
    detector: Detector,
    outputs: Any,
    targets: Sequence[Targets],
    *,
    together: int = BOXES_TOGETHER,
) -> Iterator[BoxMask]:
    """`masks_for_boxes` one by one, with bounded memory however many boxes there are.

    Args:
        detector: any architecture.
        outputs: its outputs for the batch.
        targets: given boxes of each image; masks in them are not read.
        together: boxes whose masks are in memory at the same time.

    Yields:
        Every given box of every image, in order. What a box gets does not depend on the other
        images.
    """
    counts = [len(target) for target in targets]
    highest = {
        image: _highest_of_crowd(detector, outputs, targets, image, together)
        for image, count in enumerate(counts)
        if count > together
    }
    for part in _parts(counts, together):
        masks = masks_for_boxes(detector, outputs, _chosen(targets, part), highest)
        places = [
            (image, position)
            for image, (start, stop) in enumerate(part)
            for position in range(start, stop)
        ]
        frames, confidences = masks.frames.cpu(), masks.confidence.tolist()
        scores, claimed = masks.mask_scores.cpu(), masks.claimed.cpu()
        for row, place in enumerate(places):
            yield BoxMask(
                image=place[0],
                position=place[1],
                mask_scores=scores[row],
                claimed=claimed[row],
                frame=frames[row],
                confidence=confidences[row],
            )


def _parts(counts: Sequence[int], together: int) -> Iterator[list[tuple[int, int]]]:
    """Cuts the boxes of a batch into parts: for each image the first box and one past the last.

    An image is cut only where it alone has more than `together`, and then into equal shares.
    """
    nothing = [(0, 0)] * len(counts)
    part, size = [*nothing], 0
    for image, count in enumerate(counts):
        if size and size + count > together:
            yield part
            part, size = [*nothing], 0
        if count > together:
            shares = -(-count // together)
            ends = [count * share // shares for share in range(shares + 1)]
            for bounds in itertools.pairwise(ends):
                yield [*nothing[:image], bounds, *nothing[image + 1 :]]
        elif count:
            part[image] = (0, count)
            size += count
    if size:
        yield part


def _chosen(targets: Sequence[Targets], part: Sequence[tuple[int, int]]) -> list[Targets]:
    """The boxes of a part."""
    return [
        target.select(torch.arange(start, stop, device=target.boxes.device))
        for target, (start, stop) in zip(targets, part, strict=True)
    ]


def _highest_of_crowd(
    detector: Detector, outputs: Any, targets: Sequence[Targets], image: int, together: int
) -> Tensor:
    """(C, h, w) largest score of each class over all boxes of an image that is cut into parts.

    C is one more than the largest label of the image.
    """
    num_classes = int(targets[image].labels.max()) + 1
    alone = [len(target) if index == image else 0 for index, target in enumerate(targets)]
    highest: Tensor | None = None
    for part in _parts(alone, together):
        chosen = _chosen(targets, part)
        joined = _joined(detector, outputs, chosen)
        scores = joined.mask_scores * joined.inside
        found = highest_scores(scores, chosen[image].labels, num_classes)
        highest = found if highest is None else torch.maximum(highest, found)
    assert highest is not None
    return highest


@torch.no_grad()
def masks_for_boxes(
    detector: Detector,
    outputs: Any,
    targets: Sequence[Targets],
    highest: Mapping[int, Tensor] | None = None,
) -> BoxMasks:
    """Asks a detector for the mask of every given box; N masks for N boxes, always.

    Where boxes of one class overlap, the object whose mask is surest owns a cell; the others'
    scores are at most what is left of 1.

    Args:
        detector: any architecture.
        outputs: its outputs for the batch.
        targets: given boxes of each image; masks in them are not read.
        highest: for images that have more boxes than `targets` holds, the largest score of each
            class over all of them, (C, h, w).

    Labels of the detector's `num_classes` or more are classes that it does not know.
    """
    joined = _joined(detector, outputs, targets)
    mask_scores, inside = joined.mask_scores, joined.inside
    image = numbered([len(target) for target in targets], inside.device)
    label = torch.cat([target.labels for target in targets])
    groups, group = torch.stack([image, label]).unique(dim=1, return_inverse=True)
    scores = mask_scores * inside
    best = highest_scores(scores, group, groups.shape[1])[group]  # (N, h, w)
    for crowded, found in (highest or {}).items():
        rows = image == crowded
        best[rows] = torch.maximum(best[rows], found[label[rows]])
    claimed = claimed_by_others(scores, best)
    mask_scores = torch.where(claimed, mask_scores.minimum(1 - best), mask_scores).clamp(min=0)
    return BoxMasks(
        mask_scores=mask_scores,
        claimed=claimed_by_others(scores, best, least_claim=0.0),
        frames=joined.frames,
        confidence=(_certainty(mask_scores, inside) * joined.fit).clamp(0, 1),
    )


@dataclass(frozen=True, kw_only=True)
class _Joined:
    """The samples of N boxes, joined.

    Attributes:
        mask_scores: (N, h, w) in 0..1, weighted mean of each box's samples.
        inside: (N, h, w) bool, cells of each box.
        frames: (N, 4) region of the input that each map covers, in input pixels.
        fit: (N,) in 0..1, weighted mean IoU of predicted and given box.
    """

    mask_scores: Tensor
    inside: Tensor
    frames: Tensor
    fit: Tensor


def _joined(detector: Detector, outputs: Any, targets: Sequence[Targets]) -> _Joined:
    num_boxes = sum(len(target) for target in targets)
    assignment = detector.assign_every_box(outputs, targets)
    samples = detector.mask_samples(outputs, assignment)
    weights = sample_weights(samples, num_boxes)
    mask_scores = samples.logits.new_zeros((num_boxes, *samples.logits.shape[1:]))
    weighted = samples.logits.sigmoid() * weights[:, None, None]
    mask_scores.index_add_(0, samples.instance_index, weighted)
    first = torch.full((num_boxes,), len(samples), device=weights.device)
    order = torch.arange(len(samples), device=weights.device)
    first.scatter_reduce_(0, samples.instance_index, order, "amin")
    fit = paired_iou(samples.predicted_boxes, samples.boxes) * weights
    fit = torch.zeros_like(weights[:1].expand(num_boxes)).index_add(0, samples.instance_index, fit)
    chosen = samples.select(first)
    return _Joined(
        mask_scores=mask_scores,
        inside=chosen.box_masks(),
        frames=chosen.frames,
        fit=fit,
    )


def sample_weights(samples: MaskSamples, num_instances: int) -> Tensor:
    """Weights (K,) of samples, which sum to 1 over those of one object.

    Proportional to score times exp(5 IoU) of predicted and given box.
    """
    fit = paired_iou(samples.predicted_boxes, samples.boxes)
    raw = samples.scores.clamp(min=TINY) * torch.exp(FIT_SHARPNESS * (fit - 1))
    return shares_within(raw, samples.instance_index, num_instances)


def _certainty(mask_scores: Tensor, inside: Tensor) -> Tensor:
    """(N,) mean distance of scores from one half inside the box, scaled to 0..1."""
    certain = (mask_scores - 0.5).abs() * 2 * inside
    return certain.sum(dim=(1, 2)) / inside.sum(dim=(1, 2)).clamp(min=1)
