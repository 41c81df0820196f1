"""Exactly one mask for each given box, with a confidence, whatever the model finds.

Two halves, so that the second can run elsewhere: `uncut_masks` asks the model, `object_mask` draws
the border and cuts the mask out of its box.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from boxmask.data.box_pixels import (
    THRESHOLDS,
    ellipse_in_box,
    encode_in_box,
    fitted_threshold,
    pixels_of_box,
    scores_in_box,
)
from boxmask.detectors.color_borders import cells_near, drawn_to_colors, pixels_of_cells
from boxmask.detectors.detector import Detector
from boxmask.detectors.given_boxes import each_box_mask
from boxmask.ops.boxes import outside_boxes
from boxmask.ops.color_model import scores_by_colors
from boxmask.structures import Batch

LOWERED_SHARE = 0.5
"""Of the largest score in a box: the threshold for a mask that is empty at one half."""

LEAST_SCORE = 1e-3
"""Largest score in a box, in 0..1, below which the model is taken to know nothing."""

CONFIDENCE_DECIMALS = 5

REFINED_GAIN = 0.1
"""As `LEAST_GAIN`, for masks whose borders are drawn."""


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
class UncutMask:
    """What the model gives for one box, and the picture around the box.

    Attributes:
        image: position of the picture in its batch.
        position: position of the box among those of the picture.
        box: (4,) x1, y1, x2, y2 in picture pixels.
        image_size: (height, width) of the picture.
        scale: (x, y) input pixels for each pixel of the picture.
        confidence: in 0..1.
        frame: (4,) region of the input that the maps cover, in input pixels.
        scores: (h, w) float in 0..1.
        claimed: (h, w) bool, cells that another object owns.
        outside: (h, w) bool, cells of the picture in no box.
        colors: (H, W, 3) uint8 the input's pixels in the frame; None leaves the mask as it is.
    """

    image: int
    position: int
    box: NDArray[Any]
    image_size: tuple[int, int]
    scale: tuple[float, float]
    confidence: float
    frame: NDArray[np.float32]
    scores: NDArray[np.float32]
    claimed: NDArray[np.bool_]
    outside: NDArray[np.bool_]
    colors: NDArray[np.uint8] | None


@torch.no_grad()
def uncut_masks(
    detector: Detector,
    outputs: Any,
    batch: Batch,
    boxes: Sequence[NDArray[Any]],
    image_sizes: Sequence[tuple[int, int]],
    *,
    refine: bool = True,
) -> Iterator[UncutMask]:
    """The model's part: what it gives for all given boxes of a batch, picture after picture.

    Args:
        detector: in evaluation mode, on the batch's device.
        outputs: of the detector for the batch.
        batch: resized pictures (no flip) with the boxes as targets.
        boxes: for each picture (N, 4), the same boxes in its own pixels.
        image_sizes: (height, width) of each picture in its own pixels.
        refine: ask each cell for its colours, and draw borders of masks to borders of colours.
    """
    scales = [(x, y) for x, y in batch.scales.tolist()]
    pictures = batch.pixels() if refine else None
    outside: dict[int, NDArray[np.bool_]] = {}  # by the width of a cell
    for mask in each_box_mask(detector, outputs, batch.targets):
        image, scale = mask.image, scales[mask.image]
        box = boxes[image][mask.position]
        cell = batch.images.shape[-1] // mask.mask_scores.shape[-1]
        height, width = batch.image_sizes[image]
        rows = cells_near(box[[1, 3]] * scale[1], height, cell)
        columns = cells_near(box[[0, 2]] * scale[0], width, cell)
        if cell not in outside:
            grid = (mask.mask_scores.shape[-2], mask.mask_scores.shape[-1])
            outside[cell] = outside_boxes(batch, grid).cpu().numpy()
        frame = [columns.start, rows.start, columns.stop, rows.stop]
        colors = None
        if pictures is not None and cell > 1:  # cells of one pixel are as fine as the picture
            colors = pixels_of_cells(pictures[image], rows, columns, cell)
        yield UncutMask(
            image=image,
            position=mask.position,
            box=box,
            image_size=image_sizes[image],
            scale=scale,
            confidence=mask.confidence,
            frame=np.array(frame, dtype=np.float32) * cell,
            scores=mask.mask_scores[rows, columns].float().numpy(),
            claimed=mask.claimed[rows, columns].numpy(),
            outside=outside[cell][image, rows, columns],
            colors=colors,
        )


def object_mask(mask: UncutMask) -> ObjectMask:
    """The model's mask cut to its box; if that is empty, its best guess; else an ellipse."""
    mask = _seen_in_color(mask)
    confidence, note = mask.confidence, ""
    place = pixels_of_box(mask.box, mask.image_size)
    scores = scores_in_box(mask.scores, mask.frame, mask.scale, place)
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
    elif not note and (refined := refined_scores(mask, threshold)) is not None:
        refined = scores_in_box(refined, mask.frame, mask.scale, place)
        drawn = refined > fitted_threshold(refined, REFINED_GAIN)
        inside = drawn if drawn.any() else inside
    return ObjectMask(
        counts=encode_in_box(inside, place, mask.image_size)["counts"],
        confidence=round(confidence, CONFIDENCE_DECIMALS),
        note=note,
    )


def _seen_in_color(mask: UncutMask) -> UncutMask:
    """The mask whose scores know the colours of the object; see `scores_by_colors`."""
    if mask.colors is None:
        return mask
    height, width = mask.scores.shape
    cell = mask.colors.shape[1] // width
    means = cv2.resize(mask.colors, (width, height), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(means.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2LAB)
    box = (mask.box * np.tile(mask.scale, 2) - np.tile(mask.frame[:2], 2)) / cell
    own = np.zeros((height, width), dtype=bool)
    own[pixels_of_box(box, (height, width))] = True
    own &= ~mask.claimed
    scores = scores_by_colors(
        torch.from_numpy(mask.scores)[None],
        torch.from_numpy(lab.transpose(2, 0, 1))[None],
        torch.zeros(1, dtype=torch.int64),
        torch.from_numpy(box.astype(np.float32))[None],
        torch.from_numpy(own)[None],
        torch.from_numpy(mask.outside)[None],
    )
    return replace(mask, scores=scores[0].numpy())


def refined_scores(mask: UncutMask, threshold: float) -> NDArray[np.float32] | None:
    """The mask in its box, its border drawn to borders of colours; see `drawn_to_colors`."""
    if mask.colors is None:
        return None
    box = mask.box * np.tile(mask.scale, 2) - np.tile(mask.frame[:2], 2)
    return drawn_to_colors(mask.scores, mask.colors, box, threshold, claimed=mask.claimed)
