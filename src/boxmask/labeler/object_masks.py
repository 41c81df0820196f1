"""Exactly one mask for each given box, with a confidence, whatever the model finds."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from boxmask.data.box_pixels import (
    THRESHOLDS,
    Place,
    ellipse_in_box,
    encode_in_box,
    fitted_threshold,
    pixels_of_box,
    scores_in_box,
)
from boxmask.data.records import ImageRecord
from boxmask.detectors.detector import Detector
from boxmask.detectors.given_boxes import BoxMask, each_box_mask
from boxmask.structures import Batch

LOWERED_SHARE = 0.5
"""Of the largest score in a box: the threshold for a mask that is empty at one half."""

LEAST_SCORE = 1e-3
"""Largest score in a box, in 0..1, below which the model is taken to know nothing."""

CONFIDENCE_DECIMALS = 5

CUT_TOGETHER = 32
"""Masks that go to another process at once: bounds what waits there."""


@dataclass(frozen=True, kw_only=True)
class ObjectMask:
    """The mask of one given box.

    Attributes:
        counts: compressed COCO RLE counts at the picture's size; all pixels inside the box.
        confidence: in 0..1.
        note: how the mask was made when the model's own was empty; else empty.
    """

    counts: str
    confidence: float
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class UncutMasks:
    """What the model gives for N boxes of one picture that follow each other.

    Attributes:
        index: the picture's position in its records.
        is_last: whether the picture has no boxes after these.
        boxes: (N, 4) x1, y1, x2, y2 in picture pixels.
        mask_scores: (N, h, w) in 0..1.
        frames: (N, 4) region of the input that each map covers, in input pixels.
        confidences: N numbers in 0..1.
        scale: (x, y) input pixels for each pixel of the picture.
        image_size: (height, width) of the picture.
    """

    index: int
    is_last: bool
    boxes: NDArray[np.float32]
    mask_scores: NDArray[np.float32]
    frames: NDArray[np.float32]
    confidences: tuple[float, ...]
    scale: tuple[float, float]
    image_size: tuple[int, int]


def masks_of_batch(
    detector: Detector, batch: Batch, records: Sequence[ImageRecord]
) -> list[list[ObjectMask]]:
    """Masks for all given boxes of a batch, crowds left out.

    Args:
        detector: in evaluation mode, on the batch's device.
        batch: resized pictures (no flip); `indices` point into `records`.
        records: the pictures.

    Returns:
        For each picture of the batch its masks, in the order of its boxes.
    """
    made = ((uncut, cut_masks(uncut)) for uncut in uncut_masks(detector, batch, records))
    return [masks for _, masks in whole_pictures(made)]


@torch.no_grad()
def uncut_masks(
    detector: Detector, batch: Batch, records: Sequence[ImageRecord]
) -> Iterator[UncutMasks]:
    """The model's part of `masks_of_batch`: at least one `UncutMasks` for each picture."""
    outputs = detector(batch.images, batch.valid)
    given = each_box_mask(detector, outputs, batch.targets)
    for index, scale in zip(batch.indices, batch.scales.tolist(), strict=True):
        record = records[index]
        boxes = record.boxes[~record.crowd]
        for start in range(0, max(len(boxes), 1), CUT_TOGETHER):
            chosen = boxes[start : start + CUT_TOGETHER]
            masks = [*itertools.islice(given, len(chosen))]
            yield UncutMasks(
                index=index,
                is_last=start + CUT_TOGETHER >= len(boxes),
                boxes=chosen,
                mask_scores=np.array([mask.mask_scores.float().numpy() for mask in masks]),
                frames=np.array([mask.frame.numpy() for mask in masks]),
                confidences=tuple(mask.confidence for mask in masks),
                scale=(scale[0], scale[1]),
                image_size=record.image_size,
            )


def whole_pictures(
    made: Iterable[tuple[UncutMasks, list[ObjectMask]]],
) -> Iterator[tuple[int, list[ObjectMask]]]:
    """Joins the masks of each picture, in order: (index of the picture, its masks)."""
    masks: list[ObjectMask] = []
    for uncut, some in made:
        masks += some
        if uncut.is_last:
            yield uncut.index, masks
            masks = []


def cut_masks(uncut: UncutMasks) -> list[ObjectMask]:
    """The rest of `masks_of_batch`, which needs no model: a mask for each box."""
    masks = []
    for row, box in enumerate(uncut.boxes):
        given = BoxMask(
            image=0,
            position=row,
            mask_scores=torch.from_numpy(uncut.mask_scores[row]),
            frame=torch.from_numpy(uncut.frames[row]),
            confidence=uncut.confidences[row],
        )
        place = pixels_of_box(box, uncut.image_size)
        masks.append(object_mask(given, uncut.scale, uncut.image_size, place))
    return masks


def object_mask(
    mask: BoxMask, scale: tuple[float, float], image_size: tuple[int, int], place: Place
) -> ObjectMask:
    """The model's mask cut to its box; if that is empty, its best guess; else an ellipse.

    Args:
        mask: what the model gives for the box.
        scale: (x, y) input pixels for each pixel of the picture.
        image_size: (height, width) of the picture.
        place: the pixels of the box.
    """
    confidence, note = mask.confidence, ""
    scores = scores_in_box(mask.mask_scores, mask.frame, scale, place)
    best = float(scores.max())
    threshold = fitted_threshold(scores)
    if best <= THRESHOLDS[0]:
        threshold = best * LOWERED_SHARE if best > LEAST_SCORE else 1.0
        confidence = min(confidence, best)
        note = f"empty at 0.5; threshold lowered to {threshold:.3g}"
    inside = scores > threshold
    if not inside.any():
        inside, confidence = ellipse_in_box(place), 0.0
        note = "the model finds nothing here; ellipse of the box"
    return ObjectMask(
        counts=encode_in_box(inside, place, image_size)["counts"],
        confidence=round(confidence, CONFIDENCE_DECIMALS),
        note=note,
    )
