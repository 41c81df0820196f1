"""Exactly one mask for each given box, with a confidence, whatever the model finds."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

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


@torch.no_grad()
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
    outputs = detector(batch.images, batch.valid)
    chosen = [records[index] for index in batch.indices]
    boxes = [record.boxes[~record.crowd] for record in chosen]
    scales = [(x, y) for x, y in batch.scales.tolist()]
    masks: list[list[ObjectMask]] = [[] for _ in chosen]
    for mask in each_box_mask(detector, outputs, batch.targets):
        image_size = chosen[mask.image].image_size
        place = pixels_of_box(boxes[mask.image][mask.position], image_size)
        masks[mask.image].append(object_mask(mask, scales[mask.image], image_size, place))
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
