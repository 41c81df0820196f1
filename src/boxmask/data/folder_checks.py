"""Doubts about a data set that show only when all its splits are seen together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from boxmask.data.reading import ProblemLog
from boxmask.data.records import DataFolder, DataSplit, Problem

TINY_SIDE = 8.0
"""Pixels of the file: a box with a shorter side below this is called tiny."""

TINY_SHARE = 0.2
"""Share of tiny boxes in a split, in 0..1, from which a warning is given."""

SHOWN_NAMES = 5
"""Names that a warning lists before it only counts."""


def folder_warnings(folder: DataFolder) -> tuple[Problem, ...]:
    """Warnings about missing splits and names, shared pictures, unused classes and tiny boxes."""
    log = ProblemLog()
    if "train" in folder.splits and "val" not in folder.splits:
        log.warning(folder.root.name, "there is no split for validation")
    if not folder.class_names:
        log.warning(folder.root.name, "names no class")
    _check_overlap(folder, log)
    _check_classes(folder, log)
    for split in folder.splits.values():
        _check_tiny(split, log)
    return tuple(log.problems)


def _check_overlap(folder: DataFolder, log: ProblemLog) -> None:
    splits = list(folder.splits.values())
    paths = [{record.path.absolute(): record.name for record in s.records} for s in splits]
    for first in range(len(splits)):
        for second in range(first + 1, len(splits)):
            names = [name for path, name in paths[second].items() if path in paths[first]]
            if names:
                a, b = splits[first].name, splits[second].name
                log.warning(
                    f"{a}, {b}", f"share {counted(len(names), 'picture')}: {first_names(names)}"
                )


def _check_classes(folder: DataFolder, log: ProblemLog) -> None:
    for split in folder.splits.values():
        labels = [record.labels[~record.crowd] for record in split.records]
        counts = np.bincount(
            np.concatenate([np.zeros(0, dtype=np.int64), *labels]),
            minlength=len(folder.class_names),
        )
        if not counts.any():
            log.warning(split.name, "has no boxes")
            continue
        unused = [n for n, count in zip(folder.class_names, counts, strict=True) if not count]
        if unused and split.name == "train":
            plural = "class has" if len(unused) == 1 else "classes have"
            log.warning(split.name, f"{len(unused)} {plural} no boxes: {first_names(unused)}")


def _check_tiny(split: DataSplit, log: ProblemLog) -> None:
    empty = np.zeros((0, 4), dtype=np.float32)
    boxes = np.concatenate([empty, *(record.boxes for record in split.records)])  # (N, 4)
    if not len(boxes):
        return
    share = float(((boxes[:, 2:] - boxes[:, :2]).min(axis=1) < TINY_SIDE).mean())
    if share >= TINY_SHARE:
        text = f"{share:.0%} of boxes are below {TINY_SIDE:g} px in the picture files"
        log.warning(split.name, text)


def first_names(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def counted(number: int, what: str) -> str:
    """A number and its noun, in the plural where it is not one."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
