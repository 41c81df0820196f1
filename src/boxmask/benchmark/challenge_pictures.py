"""What the scores of the challenges look like: given boxes, masks of each method, true masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boxmask.api.label import label
from boxmask.api.run_files import say_nothing
from boxmask.benchmark.challenge_list import (
    DIALS,
    METHODS,
    ChallengeRun,
    Condition,
    data_folder,
    listed_run,
)
from boxmask.benchmark.run_list import Metrics
from boxmask.benchmark.settings import ChallengeSettings
from boxmask.data.folder import read_data
from boxmask.data.masks import decode_segmentation
from boxmask.data.pictures import read_picture
from boxmask.data.records import ImageRecord
from boxmask.visualization.contact_sheet import contact_sheet, save_picture
from boxmask.visualization.draw import DrawStyle, draw_boxes, draw_masks

PER_CONDITION = 3  # pictures
_STYLE = DrawStyle(boxes=False, max_labels=0, least_side=256)
_BOXES = DrawStyle(max_labels=0, least_side=256)

Picture = NDArray[np.uint8]


def draw_challenge_pictures(
    found: Mapping[ChallengeRun, Metrics], settings: ChallengeSettings
) -> Path | None:
    """Draws `challenges.jpg`: the hard ends of both dials, first seed.

    Args:
        found: finished runs.
        settings: what was trained.

    Returns:
        The file; None where a run that would be shown is not finished or has lost its weights.
    """
    hardest = [Condition(**{dial: float(max(getattr(settings, dial)))}) for dial in DIALS]
    wanted = {
        variant.title: [
            ChallengeRun(condition=condition, variant=variant, seed=settings.seeds[0])
            for condition in hardest
        ]
        for variant in settings.chosen_variants
        if variant.name in METHODS
    }
    folders = {
        title: [listed_run(run, settings).folder for run in runs] for title, runs in wanted.items()
    }
    finished = all(run in found for runs in wanted.values() for run in runs)
    kept = all(any(one.glob("weights/*")) for some in folders.values() for one in some)
    if not (wanted and finished and kept):
        return None
    data = [data_folder(condition, settings) for condition in hardest]
    return draw_rows(folders, data, settings.out / "labels", settings.out / "challenges.jpg")


def draw_rows(
    runs: Mapping[str, Sequence[Path]], data: Sequence[Path], folder: Path, file: Path
) -> Path:
    """Draws a row of given boxes, a row for each method, and one of true masks.

    Masks are those that `boxmask label` gives to val pictures.

    Args:
        runs: for each method, by title, a run folder for each of `data`.
        data: data sets; the first pictures of their val splits are columns.
        folder: where labelled data sets are kept; what is there is used again.
        file: the picture to write.
    """
    rows: dict[str, list[Picture]] = {"boxes": [], **{title: [] for title in runs}, "truth": []}
    for place, one in enumerate(data):
        truth = read_data(one)
        records = truth.splits["val"].records[:PER_CONDITION]
        names = truth.class_names
        for record in records:
            picture = read_picture(record.path)
            rows["boxes"].append(
                draw_boxes(picture, record.boxes, record.labels, names, style=_BOXES)
            )
        rows["truth"] += [_drawn(record, names) for record in records]
        for title, folders in runs.items():
            labelled = _labelled(one, folders[place], folder)
            found = read_data(labelled).splits["val"].records[:PER_CONDITION]
            rows[title] += [_drawn(record, names) for record in found]
    pictures = [picture for row in rows.values() for picture in row]
    columns = len(rows["truth"])
    titles = [title for title, row in rows.items() for _ in row]
    return save_picture(file, contact_sheet(pictures, titles, columns=columns, cell=(180, 180)))


def _labelled(data: Path, run: Path, folder: Path) -> Path:
    """The val split as a run labels it; done anew where it is not finished or the run is newer."""
    labelled = folder / run.name
    report, weights = labelled / "report.csv", max(run.glob("weights/*"), key=_changed)
    if not report.is_file() or _changed(report) < _changed(weights):
        label(data, run, split="val", out=labelled, overwrite=True, say=say_nothing)
    return labelled


def _changed(file: Path) -> int:
    return file.stat().st_mtime_ns


def _drawn(record: ImageRecord, names: Sequence[str]) -> Picture:
    masks = [decode_segmentation(one, record.image_size) for one in record.segmentations]
    picture = read_picture(record.path)
    return draw_masks(picture, record.boxes, masks, record.labels, names, style=_STYLE)
