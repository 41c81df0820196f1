"""What labelling made of every box: report.csv and a few numbers."""

import csv
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from boxmask.data.masks import mask_area
from boxmask.data.records import DataFolder, DataSplit
from boxmask.detectors.object_masks import ObjectMask
from boxmask.evaluation.mask_quality import box_fill, box_tightness
from boxmask.labeler.finished import FinishedPictures

COLUMNS = (
    *("split", "picture", "annotation_id", "class", "x1", "y1", "x2", "y2"),
    *("confidence", "fill", "tightness", "area", "note"),
)
LOOSE = 0.7
"""Box IoU of a mask, in 0..1, below which it is called loose."""


@dataclass(frozen=True, kw_only=True, order=True)
class Doubt:
    """One mask that may be wrong; sorts the least certain first.

    Attributes:
        confidence: in 0..1.
        split: where it is.
        index: position of its picture in the split.
        position: position of the object in the picture.
    """

    confidence: float
    split: str
    index: int
    position: int


@dataclass(kw_only=True)
class LabelReport:
    """Numbers of all masks.

    Attributes:
        num_pictures: labelled pictures.
        tightness: of each mask, IoU of its tight box with the given one, in 0..1.
        num_noted: masks that the model did not give by itself.
        doubts: the least certain masks, the least certain first.
    """

    num_pictures: int = 0
    tightness: list[float] = field(default_factory=list)
    num_noted: int = 0
    doubts: list[Doubt] = field(default_factory=list)

    @property
    def num_masks(self) -> int:
        """Masks, one a box."""
        return len(self.tightness)

    @property
    def median_tightness(self) -> float:
        """Median box IoU of the masks, in 0..1; 1 without masks."""
        return float(np.median(self.tightness)) if self.tightness else 1.0

    @property
    def num_loose(self) -> int:
        """Masks whose box IoU is below 0.7."""
        return sum(value < LOOSE for value in self.tightness)


def write_report(
    file: Path,
    folder: DataFolder,
    splits: Sequence[str],
    finished: FinishedPictures,
    *,
    num_doubts: int,
) -> LabelReport:
    """Writes a row for each box and gathers the numbers.

    Args:
        file: the CSV file.
        folder: the data set.
        splits: names of the labelled splits.
        finished: their masks.
        num_doubts: how many of the least certain masks to name.
    """
    report = LabelReport()
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        doubts = _rows(writer, folder, splits, finished, report)
        report.doubts = heapq.nsmallest(num_doubts, doubts)
    return report


def _rows(
    writer,  # noqa: ANN001 - csv has no public type for it
    folder: DataFolder,
    splits: Sequence[str],
    finished: FinishedPictures,
    report: LabelReport,
) -> Iterator[Doubt]:
    """Writes rows on the way."""
    for split in (folder.splits[name] for name in splits):
        for index, record in enumerate(split.records):
            if not finished.has(split.name, index):
                continue
            report.num_pictures += 1
            positions = np.flatnonzero(~record.crowd).tolist()
            masks = finished.masks(split.name, index)
            for position, mask in zip(positions, masks, strict=True):
                row = _row(split, index, position, mask, folder.class_names)
                writer.writerow(row)
                report.tightness.append(float(row[COLUMNS.index("tightness")]))
                report.num_noted += bool(mask.note)
                yield Doubt(
                    confidence=mask.confidence, split=split.name, index=index, position=position
                )


def _row(
    split: DataSplit, index: int, position: int, mask: ObjectMask, class_names: Sequence[str]
) -> list[str]:
    record = split.records[index]
    box = record.boxes[position].tolist()
    rle = {"size": [*record.image_size], "counts": mask.counts}
    return [
        split.name,
        record.name,
        str(record.annotation_ids[position]),
        class_names[int(record.labels[position])],
        *(f"{value:.6g}" for value in box),
        f"{mask.confidence:g}",
        f"{box_fill(box, rle):.4f}",
        f"{box_tightness(box, rle):.4f}",
        str(mask_area(rle)),
        mask.note,
    ]
