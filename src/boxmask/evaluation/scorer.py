"""Scores a detector on a split: boxes, masks, and the masks it gives to the true boxes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from hotcoco import mask as rle_mask
from numpy.typing import NDArray
from torch import Tensor

from boxmask import ranks
from boxmask.data.box_pixels import encode_in_box
from boxmask.data.loader import LoaderSettings, plain_loader
from boxmask.data.masks import decode_segmentation, encode_mask, has_mask
from boxmask.data.records import ImageRecord
from boxmask.detectors.color_borders import detected_mask
from boxmask.detectors.detector import Detector
from boxmask.detectors.object_masks import object_mask, uncut_masks
from boxmask.evaluation.coco_ap import CocoEvaluator, FoundObjects, Rle, TrueObjects
from boxmask.evaluation.mask_quality import LabelQuality
from boxmask.ops.boxes import paired_iou
from boxmask.ops.masks import paste_mask
from boxmask.structures import Batch, Detections

AGREES = 0.5
"""IoU of a predicted box with the one around the mask from which both mean the same object."""


@dataclass(frozen=True, kw_only=True)
class PictureResult:
    """What a detector made of one picture, small enough to send between processes.

    Attributes:
        index: position of the picture in the records.
        found: its detections, in pixels of the picture.
        label_rles: the mask for each given box, crowds left out.
        confidences: of those masks, in 0..1.
    """

    index: int
    found: FoundObjects
    label_rles: tuple[Rle, ...] = field(default=())
    confidences: tuple[float, ...] = field(default=())


@torch.no_grad()
def picture_results(
    detector: Detector, batch: Batch, records: Sequence[ImageRecord], *, refine: bool = True
) -> list[PictureResult]:
    """Runs a detector on a batch and brings everything to picture pixels.

    Args:
        detector: in evaluation mode, on the batch's device.
        batch: resized pictures (no flip); `indices` point into `records`.
        records: the pictures.
        refine: sharpen masks by colours: see `detected_mask` and `object_mask`.
    """
    outputs = detector(batch.images, batch.valid)
    detections = detector.detections(outputs, batch.image_sizes)
    chosen = [records[index] for index in batch.indices]
    boxes = [record.boxes[~record.crowd] for record in chosen]
    sizes = [record.image_size for record in chosen]
    scales = [(x, y) for x, y in batch.scales.tolist()]
    rles: list[list[Rle]] = [[] for _ in detections]
    confidences: list[list[float]] = [[] for _ in detections]
    for mask in uncut_masks(detector, outputs, batch, boxes, sizes, refine=refine):
        made = object_mask(mask)
        rles[mask.image].append({"size": [*sizes[mask.image]], "counts": made.counts})
        confidences[mask.image].append(made.confidence)
    pictures = batch.pixels() if refine else [None] * len(batch)
    return [
        PictureResult(
            index=index,
            found=found_objects(found.to("cpu"), scales[row], sizes[row], pictures[row]),
            label_rles=tuple(rles[row]),
            confidences=tuple(confidences[row]),
        )
        for row, (index, found) in enumerate(zip(batch.indices, detections, strict=True))
    ]


def found_objects(
    found: Detections,
    scale: tuple[float, float],
    image_size: tuple[int, int],
    picture: NDArray[np.uint8] | None = None,
) -> FoundObjects:
    """Detections in pixels of the picture, masks run-length encoded one by one.

    Args:
        found: on the CPU.
        scale: (x, y) input pixels for each pixel of the picture.
        image_size: (height, width) of the picture.
        picture: (H, W, 3) the input's pixels, to whose borders of colours those of masks are
            drawn; None leaves them as they are.
    """
    boxes = found.boxes / found.boxes.new_tensor([*scale, *scale])
    height, width = image_size
    boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))
    rles = [
        _packed(mask, frame, scale, image_size, picture)
        for mask, frame in zip(found.mask_scores, found.frames, strict=True)
    ]
    return FoundObjects(
        boxes=boxes_around(boxes.numpy(), rles),
        scores=found.scores.numpy(),
        labels=found.labels.numpy(),
        rles=rles,
    )


def boxes_around(boxes: NDArray[np.float32], rles: Sequence[Rle]) -> NDArray[np.float32]:
    """Boxes around masks, where these agree with the predicted boxes; else the predicted ones.

    A mask is made of many cells, a predicted box of four numbers: where both mean the same object,
    the mask's sides are the nearer ones.

    Args:
        boxes: (N, 4) predicted, x1, y1, x2, y2 in pixels.
        rles: N masks; an empty one has no box.
    """
    if len(boxes) == 0:
        return boxes
    around = rle_mask.toBbox([dict(rle) for rle in rles]).reshape(-1, 4)
    around[:, 2:] += around[:, :2]
    fit = paired_iou(torch.from_numpy(around), torch.from_numpy(boxes).double()).numpy()
    return np.where((fit >= AGREES)[:, None], around, boxes).astype(np.float32)


def _packed(
    mask_scores: Tensor,
    frame: Tensor,
    scale: tuple[float, float],
    image_size: tuple[int, int],
    picture: NDArray[np.uint8] | None,
) -> Rle:
    """One mask, see `found_objects`."""
    if picture is not None:
        scores = mask_scores.float().numpy()
        drawn = detected_mask(scores, frame.float().numpy(), picture, scale, image_size)
        if drawn is not None:
            inside, place = drawn
            return encode_in_box(inside, place, image_size)
    return encode_mask(paste_mask(mask_scores, frame, scale, image_size).numpy())


class Scorer:
    """Collects a split's results batch by batch and turns them into numbers.

    Args:
        records: the pictures of the split.
        class_names: names in the order of labels.
        use_masks: whether true masks may be read, for mask AP and label IoU.
        refine: sharpen masks by colours: see `detected_mask` and `object_mask`.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        class_names: Sequence[str],
        *,
        use_masks: bool = True,
        refine: bool = True,
    ) -> None:
        self.records = records
        self.use_masks = use_masks
        self.refine = refine
        most = max((len(record) for record in records), default=0)
        self._average_precision = CocoEvaluator(class_names, max_detections=max(100, most))
        self._quality = LabelQuality(class_names)
        self._elsewhere: list[PictureResult] = []  # with several processes: scored at the end

    def add(self, detector: Detector, batch: Batch) -> list[PictureResult]:
        """Scores a batch; gives what was found, for pictures."""
        results = picture_results(detector, batch, self.records, refine=self.refine)
        if ranks.num_ranks() > 1:
            self._elsewhere.extend(results)
        else:
            for result in results:
                self._score(result)
        return results

    def compute(self) -> dict[str, float]:
        """All numbers over all processes; see `CocoEvaluator` and `LabelQuality`."""
        if ranks.num_ranks() > 1:
            for result in ranks.gather_objects(self._elsewhere):
                self._score(result)
            self._elsewhere = []
        return self._average_precision.compute() | self._quality.compute()

    def _score(self, result: PictureResult) -> None:
        record = self.records[result.index]
        rles = self._true_rles(record)
        truth = TrueObjects(boxes=record.boxes, labels=record.labels, crowd=record.crowd, rles=rles)
        self._average_precision.add(result.index, record.image_size, truth, result.found)
        counted = np.flatnonzero(~record.crowd)
        self._quality.add(
            record.boxes[counted],
            record.labels[counted],
            result.label_rles,
            None if rles is None else [rles[position] for position in counted],
        )

    def _true_rles(self, record: ImageRecord) -> list[Rle | None] | None:
        if not self.use_masks or not any(map(has_mask, record.segmentations)):
            return None
        return [
            encode_mask(decode_segmentation(segmentation, record.image_size))
            if has_mask(segmentation)
            else None
            for segmentation in record.segmentations
        ]


@dataclass(frozen=True, kw_only=True)
class SplitScoring:
    """Scores any detector on one split; can be sent to other processes.

    Attributes:
        records: the pictures.
        class_names: names in the order of labels.
        image_size: short side in pixels that pictures are resized to.
        batch_size: pictures at a time.
        num_workers: processes that read pictures.
        use_masks: whether true masks may be read.
        refine: sharpen masks by colours: see `detected_mask` and `object_mask`.
    """

    records: Sequence[ImageRecord]
    class_names: Sequence[str]
    image_size: int
    batch_size: int = 4
    num_workers: int = 0
    use_masks: bool = True
    refine: bool = True

    def __call__(
        self,
        detector: Detector,
        device: torch.device,
        watch: Callable[[PictureResult], None] | None = None,
    ) -> dict[str, float]:
        """The numbers of a detector in evaluation mode.

        Args:
            detector: on `device`.
            device: where to run.
            watch: is shown the result of each picture, for drawing and files.
        """
        settings = LoaderSettings(
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            rank=ranks.rank(),
            num_ranks=ranks.num_ranks(),
        )
        scorer = Scorer(
            self.records, self.class_names, use_masks=self.use_masks, refine=self.refine
        )
        for batch in plain_loader(self.records, self.image_size, settings):
            for result in scorer.add(detector, batch.to(device)):
                if watch is not None:
                    watch(result)
        return scorer.compute()
