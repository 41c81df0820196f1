"""Box and mask average precision as COCO defines it, picture by picture."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from hotcoco import Params, StreamingEval
from hotcoco import mask as rle_mask
from numpy.typing import NDArray

from boxmask.remarks import Remark

Rle = Mapping[str, Any]  # {"size": [height, width], "counts": bytes, str or a list of runs}

COCO_AREA_RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
)


@dataclass(frozen=True, kw_only=True)
class TrueObjects:
    """The N annotated objects of one picture.

    Attributes:
        boxes: (N, 4) x1, y1, x2, y2 in pixels, right and bottom exclusive.
        labels: (N,) class index from 0.
        crowd: (N,) bool, regions whose detections count neither for nor against; None for none.
        rles: (N,) run-length encoded masks, or None when the picture has no masks.
        areas: (N,) pixels, COCO's `area`, to sort objects by size; None to take the mask's area,
            and where there is no mask the box's.
    """

    boxes: Any
    labels: Any
    crowd: Any = None
    rles: Sequence[Rle | None] | None = None
    areas: Any = None


@dataclass(frozen=True, kw_only=True)
class FoundObjects:
    """The M detections of one picture.

    Attributes:
        boxes: (M, 4) x1, y1, x2, y2 in pixels.
        scores: (M,) confidence, higher is surer.
        labels: (M,) class index from 0.
        rles: (M,) run-length encoded masks, or None for a detector of boxes.
    """

    boxes: Any
    scores: Any
    labels: Any
    rles: Sequence[Rle] | None = None


class CocoEvaluator:
    """Box AP and mask AP over pictures given one at a time.

    Each picture is matched when it comes; what is kept of it is small, and masks stay run-length
    encoded. The numbers equal those of pycocotools.

    Args:
        class_names: names in the order of the labels.
        area_ranges: smallest and largest area of each size, in pixels, both inclusive.
        max_detections: how many detections of a picture and class count, the surest first. COCO:
            100. More is needed where pictures hold more objects; the AP is then not COCO's.

    Source: COCO detection evaluation (pycocotools `COCOeval`).
    """

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        area_ranges: Mapping[str, tuple[float, float]] = COCO_AREA_RANGES,
        max_detections: int = 100,
    ) -> None:
        if max_detections < 1:
            raise ValueError(f"max_detections: must be at least 1, got {max_detections}")
        self.class_names = tuple(class_names)
        self.area_ranges = dict(area_ranges)
        self.max_detections = max_detections
        self.reset()

    def reset(self) -> None:
        """Forgets all pictures."""
        self._boxes, self._masks = self._stream("bbox"), self._stream("segm")
        self._seen: set[int] = set()
        self._num_true = self._num_found = 0
        self._masked_truth = self._pictures_without_masks = 0

    def add(
        self,
        record_id: int,
        image_size: tuple[int, int],
        truth: TrueObjects,
        found: FoundObjects,
    ) -> None:
        """Scores one picture.

        A picture counts for mask AP when all its objects and all its detections have masks.

        Args:
            record_id: the picture's identity; each may come once.
            image_size: (height, width) in pixels.
            truth: the annotated objects.
            found: the detections.

        Raises:
            ValueError: If the picture came before, fields differ in length, or a label is out of
                range.
        """
        if record_id in self._seen:
            raise ValueError(f"record_id: picture {record_id} was added before")
        self._check(truth.labels, boxes=truth.boxes, crowd=truth.crowd, rles=truth.rles)
        self._check(found.labels, boxes=found.boxes, scores=found.scores, rles=found.rles)
        self._seen.add(record_id)
        image = {"id": record_id, "height": image_size[0], "width": image_size[1]}
        true_entries, found_entries = _true_entries(record_id, truth), _found(record_id, found)
        self._boxes.update([image], true_entries, found_entries)
        self._num_true += sum(not entry["iscrowd"] for entry in true_entries)
        self._num_found += len(found_entries)
        if _all_have_masks(true_entries) and _all_have_masks(found_entries):
            # Without its box, a detection's size is that of its mask.
            masks = [{k: v for k, v in entry.items() if k != "bbox"} for entry in found_entries]
            self._masks.update([image], true_entries, masks)
            self._masked_truth += len(true_entries)
        else:
            self._pictures_without_masks += 1

    def compute(self) -> dict[str, float]:
        """The scores of all pictures so far; more may be added afterwards.

        Returns:
            For `box` and, if annotated objects have masks, `mask`: `box_ap` (mean over IoU 0.50
            to 0.95 and over classes), `box_ap50`, `box_ap75`, `box_ap_SIZE` and `box_ap/NAME`, in
            0..1. A score without any annotated object to measure it on (a class or a size that
            does not occur; -1 in pycocotools) is NaN, so that the keys never change.
        """
        self._warn()
        result = self._scores("box", self._boxes)
        if self._masked_truth:
            result |= self._scores("mask", self._masks)
        return result

    def _stream(self, iou_type: str) -> StreamingEval:
        params = Params(iou_type)
        params.max_dets = [1, 10, self.max_detections]
        ranges = [(0.0, 1e10), *self.area_ranges.values()]
        params.area_rng = [list(bounds) for bounds in ranges]
        params.area_rng_lbl = ["all", *self.area_ranges]
        categories = [{"id": index + 1, "name": n} for index, n in enumerate(self.class_names)]
        return StreamingEval(categories, iou_type, params=params)

    def _check(self, labels: Any, **fields: Any) -> None:
        labels = np.asarray(labels)
        for name, values in fields.items():
            if values is not None and len(values) != len(labels):
                raise ValueError(f"{name}: {len(values)} entries for {len(labels)} labels")
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.class_names):
            got = f"{labels.min()}..{labels.max()}"
            raise ValueError(f"labels: expected 0..{len(self.class_names) - 1}, got {got}")

    def _scores(self, kind: str, stream: StreamingEval) -> dict[str, float]:
        evaluation = copy.copy(stream).finalize()  # finalize() ends a stream: end a copy
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="hotcoco")  # our ranges are on purpose
            evaluation.accumulate()
        content = evaluation.eval
        assert content is not None
        # (IoU thresholds, recalls, classes, areas, limits on the number of detections)
        precision = np.asarray(content["precision"])[..., -1]
        everything = precision[..., 0]
        scores = {
            f"{kind}_ap": _mean(everything),
            f"{kind}_ap50": _mean(everything[0]),
            f"{kind}_ap75": _mean(everything[5]),
        }
        for index, size in enumerate(self.area_ranges, start=1):
            scores[f"{kind}_ap_{size}"] = _mean(precision[..., index])
        for index, name in enumerate(self.class_names):
            scores[f"{kind}_ap/{name}"] = _mean(everything[:, :, index])
        return scores

    def _warn(self) -> None:
        """Says why scores are empty, where they are."""
        reason = ""
        if not self._seen:
            reason = "no picture was scored: every AP is undefined (NaN)"
        elif not self._num_true:
            reason = f"no annotated object in {len(self._seen)} pictures: AP is undefined (NaN)"
        elif not self._num_found:
            reason = f"nothing was found in {len(self._seen)} pictures: every AP is 0"
        elif self._masked_truth and self._pictures_without_masks:
            count = f"{self._pictures_without_masks} of {len(self._seen)} pictures"
            reason = f"mask AP leaves out {count}, where true or found masks are missing"
        if reason:
            warnings.warn(reason, Remark, stacklevel=3)


def _mean(precision: NDArray[np.floating[Any]]) -> float:
    """Mean over the cells that are defined (not -1); NaN if none is."""
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else float("nan")


def _all_have_masks(entries: list[dict[str, Any]]) -> bool:
    return all("segmentation" in entry for entry in entries)


def _corner_and_size(box: Sequence[float]) -> list[float]:
    """COCO's x, y, width, height of an x1, y1, x2, y2 box."""
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def _entries(record_id: int, objects: TrueObjects | FoundObjects) -> list[dict[str, Any]]:
    """Picture, class, box and mask of each object, as COCO has them."""
    boxes = np.asarray(objects.boxes, dtype=np.float64).reshape(-1, 4).tolist()
    rles = objects.rles if objects.rles is not None else [None] * len(boxes)
    entries = []
    for box, label, rle in zip(boxes, np.asarray(objects.labels).tolist(), rles, strict=True):
        entry = {"image_id": record_id, "category_id": label + 1, "bbox": _corner_and_size(box)}
        entries.append(entry if rle is None else {**entry, "segmentation": dict(rle)})
    return entries


def _true_entries(record_id: int, truth: TrueObjects) -> list[dict[str, Any]]:
    entries = _entries(record_id, truth)
    crowd = np.zeros(len(entries), dtype=bool) if truth.crowd is None else np.asarray(truth.crowd)
    for index, entry in enumerate(entries):
        entry["id"] = index + 1  # unique within its picture, which is all that matching needs
        entry["iscrowd"] = int(crowd[index])
        if truth.areas is not None:
            entry["area"] = float(truth.areas[index])
        elif "segmentation" in entry:
            entry["area"] = float(rle_mask.area(entry["segmentation"]))
        else:
            entry["area"] = float(entry["bbox"][2] * entry["bbox"][3])
    return entries


def _found(record_id: int, found: FoundObjects) -> list[dict[str, Any]]:
    scores = np.asarray(found.scores, dtype=np.float64).tolist()
    entries = _entries(record_id, found)
    return [{**entry, "score": score} for entry, score in zip(entries, scores, strict=True)]
