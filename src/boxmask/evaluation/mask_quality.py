"""How good the masks of given boxes are: against true masks, and against the boxes alone."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hotcoco import mask as rle_mask
from numpy.typing import NDArray

from boxmask.data.box_pixels import pixels_of_box
from boxmask.evaluation.coco_ap import COCO_AREA_RANGES, Rle
from boxmask.remarks import Remark

WHOLE_BOX_SHARE = 0.97  # a mask over more of its box than this is the box again
POOR_IOU = 0.5  # a mask below it would not count as found


def label_iou(truth_rle: Rle, found_rle: Rle) -> float:
    """Intersection over union of two run-length encoded masks of one size.

    Args:
        truth_rle: the true mask.
        found_rle: the mask to judge.

    Returns:
        0..1; 1 if both are empty.

    Raises:
        ValueError: If the masks differ in size.
    """
    if list(truth_rle["size"]) != list(found_rle["size"]):
        raise ValueError(f"masks differ in size: {truth_rle['size']} and {found_rle['size']}")
    if not rle_mask.area(dict(truth_rle)) and not rle_mask.area(dict(found_rle)):
        return 1.0
    return float(rle_mask.iou([dict(found_rle)], [dict(truth_rle)], [0])[0, 0])


def box_fill(box: Sequence[float], rle: Rle) -> float:
    """Share of a box's pixels that a mask covers.

    Args:
        box: x1, y1, x2, y2 in pixels; a pixel belongs to it if its centre does, and at least one
            pixel always does.
        rle: the run-length encoded mask.

    Returns:
        0..1.
    """
    box_rle, num_pixels = _encode_box(box, rle["size"])
    inside = rle_mask.merge([dict(rle), box_rle], intersect=True)
    return float(rle_mask.area(inside)) / num_pixels


def box_tightness(box: Sequence[float], rle: Rle) -> float:
    """Intersection over union of a box and the tight box around a mask.

    Args:
        box: x1, y1, x2, y2 in pixels.
        rle: the run-length encoded mask.

    Returns:
        0..1; 0 for an empty mask.
    """
    if not rle_mask.area(dict(rle)):
        return 0.0
    x, y, width, height = rle_mask.to_bbox(dict(rle)).tolist()
    overlap_width = max(0.0, min(box[2], x + width) - max(box[0], x))
    overlap_height = max(0.0, min(box[3], y + height) - max(box[1], y))
    overlap = overlap_width * overlap_height
    return overlap / (width * height + (box[2] - box[0]) * (box[3] - box[1]) - overlap)


class LabelQuality:
    """Judges one mask per given box, picture by picture.

    Without true masks it says how well masks fill and touch their boxes; with them also how right
    they are. Leave crowds out.

    Args:
        class_names: names in the order of the labels.
        area_ranges: smallest and largest true area of each size, in pixels, upper end exclusive.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        area_ranges: Mapping[str, tuple[float, float]] = COCO_AREA_RANGES,
    ) -> None:
        self.class_names = tuple(class_names)
        self.area_ranges = dict(area_ranges)
        self.reset()

    def reset(self) -> None:
        """Forgets all masks."""
        self._fills: list[float] = []
        self._tightness: list[float] = []
        self._empty: list[bool] = []
        self._ious: list[tuple[float, int, float]] = []  # IoU, label, true area

    def add(
        self,
        boxes: Any,
        labels: Any,
        found_rles: Sequence[Rle],
        truth_rles: Sequence[Rle | None] | None = None,
    ) -> None:
        """Judges the masks of one picture.

        Args:
            boxes: (N, 4) given boxes, x1, y1, x2, y2 in pixels.
            labels: (N,) class index from 0.
            found_rles: (N,) run-length encoded masks, one per box.
            truth_rles: (N,) true masks, None where unknown, or None for none at all.

        Raises:
            ValueError: If lengths or mask sizes differ.
        """
        rows = np.asarray(boxes, dtype=np.float64).reshape(-1, 4).tolist()
        truths = [None] * len(rows) if truth_rles is None else truth_rles
        lengths = [len(rows), len(labels), len(found_rles), len(truths)]
        if len(set(lengths)) > 1:
            raise ValueError(f"boxes, labels, found and true masks: lengths differ, {lengths}")
        for box, label, found, truth in zip(
            rows, np.asarray(labels).tolist(), found_rles, truths, strict=True
        ):
            self._fills.append(box_fill(box, found))
            self._tightness.append(box_tightness(box, found))
            self._empty.append(not rle_mask.area(dict(found)))
            if truth is not None:
                area = float(rle_mask.area(dict(truth)))
                self._ious.append((label_iou(truth, found), label, area))

    def compute(self) -> dict[str, float]:
        """The scores of all masks so far; more may be added afterwards.

        Returns:
            Always, each in 0..1: `fill` (mean share of a box that its mask covers),
            `box_tightness` (mean IoU of the mask's tight box with the given one), `empty` and
            `whole_box` (shares of masks without a pixel, and over 97% of their box). With true
            masks also `label_iou`, `label_iou_median`, `label_iou_poor` (share below 0.5),
            `label_iou_SIZE` and `label_iou/NAME`. NaN where there is nothing to average.
        """
        if not self._fills:
            warnings.warn(
                "no mask was judged: every score is undefined (NaN)", Remark, stacklevel=2
            )
        fills = np.array(self._fills)
        result = {
            "fill": _mean(fills),
            "box_tightness": _mean(np.array(self._tightness)),
            "empty": _mean(np.array(self._empty)),
            "whole_box": _mean(fills > WHOLE_BOX_SHARE),
        }
        return result | self._compared() if self._ious else result

    def _compared(self) -> dict[str, float]:
        """Scores against true masks."""
        ious, labels, areas = np.array(self._ious).T
        result = {
            "label_iou": _mean(ious),
            "label_iou_median": float(np.median(ious)),
            "label_iou_poor": _mean(ious < POOR_IOU),
        }
        for size, (low, high) in self.area_ranges.items():
            result[f"label_iou_{size}"] = _mean(ious[(areas >= low) & (areas < high)])
        for index, name in enumerate(self.class_names):
            result[f"label_iou/{name}"] = _mean(ious[labels == index])
        return result


@dataclass(frozen=True, kw_only=True)
class CollapseLimits:
    """When masks are called collapsed. All are shares in 0..1.

    Attributes:
        empty: more empty masks than this.
        least_fill: mean fill below this: next to nothing.
        thin: mean fill below this: perhaps only lines that touch the sides of the boxes.
        fill: mean fill above this: the boxes again. Round objects fill 0.79 of their box, people
            about half, and things of right angles up to 0.95.
        whole_box: more masks over 97% of their box than this.
        everything_fill: with a `box_tightness` below `loose`, a mean fill above this: masks that
            run over the picture.
        loose: see `everything_fill`.
        good_iou: masks that agree with true masks better than this are right whatever they fill.
    """

    empty: float = 0.5
    least_fill: float = 0.05
    thin: float = 0.25
    fill: float = 0.97
    whole_box: float = 0.9
    everything_fill: float = 0.85
    loose: float = 0.35
    good_iou: float = 0.85


def collapse_warning(
    metrics: Mapping[str, float], limits: CollapseLimits | None = None
) -> str | None:
    """Says in plain words when masks have collapsed to nothing, lines, everything or their boxes.

    Args:
        metrics: what `LabelQuality.compute` gave.
        limits: when to warn; None for the defaults.

    Returns:
        The warning, or None when all looks well or nothing is known.
    """
    limits = limits or CollapseLimits()
    fill, empty, whole_box, tightness = (
        metrics.get(name, math.nan) for name in ("fill", "empty", "whole_box", "box_tightness")
    )
    right = metrics.get("label_iou", 0.0) > limits.good_iou
    # A NaN is below and above nothing, so an unknown value never warns.
    found = (
        (
            empty > limits.empty,
            f"{empty:.0%} of the masks are empty: masks have collapsed to nothing",
        ),
        (
            fill < limits.least_fill,
            f"masks cover {fill:.1%} of their boxes: they have collapsed to almost nothing",
        ),
        (
            fill < limits.thin and not right,
            f"masks cover {fill:.0%} of their boxes: they may have collapsed to lines that touch "
            "the sides of the boxes (unless the objects are thin)",
        ),
        (
            fill > limits.everything_fill and tightness < limits.loose and not right,
            f"masks run far beyond their boxes (box IoU {tightness:.2f}): they cover everything",
        ),
        (
            (fill > limits.fill or whole_box > limits.whole_box) and not right,
            f"masks cover {fill:.0%} of their boxes: they have collapsed to the boxes "
            "(unless the objects are upright rectangles)",
        ),
    )
    return next((message for collapsed, message in found if collapsed), None)


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if values.size else math.nan


def _encode_box(box: Sequence[float], size: Sequence[int]) -> tuple[dict[str, Any], int]:
    """Run-length encoded mask of a box, and its number of pixels."""
    height, width = size
    down, across = pixels_of_box(box, (height, width))
    columns, rows = across.stop - across.start, down.stop - down.start
    # Runs go down the columns, background first.
    runs = [across.start * height + down.start] + [rows, height - rows] * (columns - 1) + [rows]
    runs.append(height * width - sum(runs))
    return {"size": [height, width], "counts": runs}, rows * columns
