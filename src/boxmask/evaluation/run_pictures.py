"""Pictures of a run: what is trained on, given boxes beside found masks; the same each epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from boxmask.data.masks import decode_segmentation, has_mask
from boxmask.data.pictures import read_picture
from boxmask.data.records import ImageRecord
from boxmask.data.transforms import Sample
from boxmask.detectors.detector import Detector
from boxmask.evaluation.scorer import PictureResult, SplitScoring
from boxmask.visualization.contact_sheet import contact_sheet, save_picture
from boxmask.visualization.draw import DrawStyle, draw_boxes, draw_masks, given_and_found

NUM_PICTURES = 8
SHOWN_SCORE = 0.3  # detections below it are not drawn

_STYLE = DrawStyle(least_side=400)
"""Small pictures are enlarged to more than their cell, so that names do not cover objects."""


@dataclass(frozen=True, kw_only=True)
class RunPictures:
    """Scores a split and draws some of it on the way.

    Attributes:
        scoring: the split and how it is scored.
        num_pictures: how many pictures are drawn, spread evenly over the split.
    """

    scoring: SplitScoring
    num_pictures: int = NUM_PICTURES

    def __call__(
        self, detector: Detector, device: torch.device, pictures: Path | None
    ) -> dict[str, float]:
        """The numbers; with a folder, draws `val_labels.jpg`, `val_pred.jpg`, `val_truth.jpg`."""
        count = len(self.scoring.records)
        chosen = set(np.linspace(0, count - 1, min(self.num_pictures, count)).round().astype(int))
        kept: dict[int, PictureResult] = {}

        def watch(result: PictureResult) -> None:
            if result.index in chosen:
                kept[result.index] = result

        metrics = self.scoring(detector, device, watch)
        if pictures is not None and kept:
            results = [kept[index] for index in sorted(kept)]
            draw_results(self.scoring, results, pictures)
        return metrics


def draw_results(scoring: SplitScoring, results: Sequence[PictureResult], folder: Path) -> None:
    """Draws the masks of given boxes, the detections, and true masks where there are some."""
    names = scoring.class_names
    given, found, truth = [], [], []
    for result in results:
        record = scoring.records[result.index]
        picture = read_picture(record.path)
        counted = ~record.crowd
        boxes, labels = record.boxes[counted], record.labels[counted]
        masks = [decode_segmentation(rle, record.image_size) for rle in result.label_rles]
        given.append(given_and_found(picture, boxes, masks, labels, names))
        found.append(_draw_found(picture, result, record, names))
        if scoring.use_masks and any(map(has_mask, record.segmentations)):
            true_masks = [_true_mask(record, i) for i in np.flatnonzero(counted).tolist()]
            truth.append(draw_masks(picture, boxes, true_masks, labels, names, style=_STYLE))
    save_picture(folder / "val_labels.jpg", contact_sheet(given, columns=2, cell=(300, 620)))
    save_picture(folder / "val_pred.jpg", contact_sheet(found, columns=4, cell=(300, 360)))
    if truth:
        save_picture(folder / "val_truth.jpg", contact_sheet(truth, columns=4, cell=(300, 360)))


def draw_training_pictures(
    samples: Sequence[Sample], class_names: Sequence[str], file: Path
) -> None:
    """Draws augmented pictures with their boxes, as the network gets them."""
    drawn = [
        draw_boxes(
            sample.image.permute(1, 2, 0).numpy(),
            sample.targets.boxes.numpy(),
            sample.targets.labels.numpy(),
            class_names,
            style=_STYLE,
        )
        for sample in samples
    ]
    save_picture(file, contact_sheet(drawn, columns=4, cell=(280, 340)))


def _draw_found(
    picture: NDArray[np.uint8],
    result: PictureResult,
    record: ImageRecord,
    names: Sequence[str],
) -> NDArray[np.uint8]:
    found = result.found
    keep = np.flatnonzero(np.asarray(found.scores) >= SHOWN_SCORE)
    rles = found.rles or ()
    masks = (decode_segmentation(rles[i], record.image_size) for i in keep.tolist())
    boxes, labels = np.asarray(found.boxes)[keep], np.asarray(found.labels)[keep]
    scores = np.asarray(found.scores)[keep]
    return draw_masks(picture, boxes, masks, labels, names, scores=scores, style=_STYLE)


def _true_mask(record: ImageRecord, position: int) -> NDArray[np.bool_]:
    segmentation = record.segmentations[position]
    if not has_mask(segmentation):
        return np.zeros(record.image_size, dtype=bool)
    return decode_segmentation(segmentation, record.image_size)
