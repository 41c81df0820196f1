"""Counts and measures a data set, and says what to do about what stands out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boxmask.data.records import DataFolder, DataSplit

SMALL_SIDE = 16.0
"""Pixels of the network's input: a box with a shorter side below this is called small."""

SMALL_SHARE = 0.2
"""Share of small boxes, in 0..1, from which a larger input or tiles are advised."""

MANY_BOXES = 200
"""Boxes in one picture above which it is called crowded."""

PERCENTILES = (5, 25, 50, 75, 95)
"""Percentiles of the boxes' sides that are reported."""

TILE_SIDE_RATIO = 2.0
"""Enlargement from which tiles are advised instead of a larger input."""

INPUT_STEP = 32
"""Pixels that an advised input size is a multiple of."""


@dataclass(frozen=True, kw_only=True)
class SplitSummary:
    """Numbers of one split.

    Attributes:
        name: the split.
        source: its annotation file or folder.
        num_pictures: pictures that can be used.
        num_empty: pictures without any object.
        num_boxes: objects, crowds left out.
        num_crowd: crowd boxes.
        class_counts: objects of each class, crowds left out, in the order of class names.
        masks: "none", "some" or "all" objects have a mask, crowds left out.
        side_percentiles: shorter side of boxes in pixels of the file, by percentile.
        small_share: share of boxes, 0..1, whose shorter side is below 16 px once the picture's
            shorter side is scaled to the asked input size.
        num_crowded: pictures with over 200 boxes.
        most_boxes: boxes of the fullest picture, crowds left out.
    """

    name: str
    source: Path
    num_pictures: int
    num_empty: int
    num_boxes: int
    num_crowd: int
    class_counts: Mapping[str, int]
    masks: str
    side_percentiles: Mapping[int, float]
    small_share: float
    num_crowded: int
    most_boxes: int


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """Numbers of a whole data set.

    Attributes:
        root: the folder or file that the user named.
        format: "coco", "voc" or "yolo".
        class_names: names in the order of labels.
        image_size: shorter side of the network's input, in pixels, that shares are counted for.
        splits: by name.
        num_errors: problems that make an object or a picture unusable.
        num_warnings: other problems.
        advice: what to do, one sentence each.
    """

    root: Path
    format: str
    class_names: tuple[str, ...]
    image_size: int
    splits: Mapping[str, SplitSummary]
    num_errors: int
    num_warnings: int
    advice: tuple[str, ...]


def summarise(folder: DataFolder, *, image_size: int = 800) -> DataSummary:
    """Counts and measures a data set.

    Args:
        folder: the data set as read.
        image_size: pixels that the pictures' shorter side is scaled to for the network.
    """
    splits = {
        name: _summarise_split(split, folder.class_names, image_size)
        for name, split in folder.splits.items()
    }
    num_errors = len(folder.errors)
    return DataSummary(
        root=folder.root,
        format=folder.format,
        class_names=folder.class_names,
        image_size=image_size,
        splits=splits,
        num_errors=num_errors,
        num_warnings=len(folder.problems) - num_errors,
        advice=tuple(_advice(folder, splits, image_size)),
    )


def _summarise_split(split: DataSplit, class_names: Sequence[str], image_size: int) -> SplitSummary:
    counts = [int((~record.crowd).sum()) for record in split.records]
    labels = np.zeros(0, dtype=np.int64)
    labels = np.concatenate([labels, *(r.labels[~r.crowd] for r in split.records)])
    by_class = np.bincount(labels, minlength=len(class_names))
    sides, scaled = _short_sides(split, image_size)
    shown = np.percentile(sides, PERCENTILES) if len(sides) else np.zeros(len(PERCENTILES))
    return SplitSummary(
        name=split.name,
        source=split.source,
        num_pictures=len(split.records),
        num_empty=sum(len(record) == 0 for record in split.records),
        num_boxes=sum(counts),
        num_crowd=sum(len(record) for record in split.records) - sum(counts),
        class_counts={n: int(c) for n, c in zip(class_names, by_class, strict=True)},
        masks=_masks_present(split),
        side_percentiles={p: float(v) for p, v in zip(PERCENTILES, shown, strict=True)},
        small_share=float((scaled < SMALL_SIDE).mean()) if len(scaled) else 0.0,
        num_crowded=sum(count > MANY_BOXES for count in counts),
        most_boxes=max(counts, default=0),
    )


def _short_sides(
    split: DataSplit, image_size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shorter side of each box, crowds left out, in pixels of the file and of the input."""
    sides, scaled = [np.zeros(0)], [np.zeros(0)]
    for record in split.records:
        boxes = record.boxes[~record.crowd].astype(np.float64)
        short = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)  # (N,)
        sides.append(short)
        scaled.append(short * (image_size / min(record.image_size)))
    return np.concatenate(sides), np.concatenate(scaled)


def _masks_present(split: DataSplit) -> str:
    known = [
        segmentation is not None
        for record in split.records
        for segmentation, crowd in zip(record.segmentations, record.crowd, strict=True)
        if not crowd
    ]
    if not any(known):
        return "none"
    return "all" if all(known) else "some"


def _advice(folder: DataFolder, splits: Mapping[str, SplitSummary], image_size: int) -> list[str]:
    advice = []
    if "val" not in splits:
        advice.append(
            "There is no val split: scores need one. Add it, or train with "
            "--val-fraction 0.2, which puts pictures aside."
        )
    for name, summary in splits.items():
        if summary.small_share >= SMALL_SHARE:
            advice.append(_size_advice(folder.splits[name], summary.small_share, image_size))
        if summary.num_crowded:
            advice.append(
                f"{name}: {summary.num_crowded} pictures have over {MANY_BOXES} boxes, at most "
                f"{summary.most_boxes}; the mask losses sample some of them at each step."
            )
    return advice


def _size_advice(split: DataSplit, share: float, image_size: int) -> str:
    """A larger input that leaves few boxes small, or tiles where it would be too large."""
    _, scaled = _short_sides(split, image_size)
    needed = SMALL_SIDE / max(float(np.quantile(scaled, SMALL_SHARE)), 1e-6)
    start = f"{split.name}: {share:.0%} of boxes are below {SMALL_SIDE:g} px at size {image_size}"
    if needed >= TILE_SIDE_RATIO:
        return (
            f"{start}; cut the pictures into tiles, at least "
            f"{int(np.ceil(needed))} across and down, before training."
        )
    larger = int(np.ceil(needed * image_size / INPUT_STEP)) * INPUT_STEP
    return f"{start}; try --image-size {larger}."
