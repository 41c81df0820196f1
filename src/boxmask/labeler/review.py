"""Contact sheets of the masks that a person should look at first."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boxmask.data.masks import decode_segmentation
from boxmask.data.pictures import read_picture
from boxmask.data.records import DataFolder, ImageRecord
from boxmask.errors import UserError
from boxmask.labeler.finished import FinishedPictures, labelled_record
from boxmask.labeler.report import Doubt
from boxmask.visualization.contact_sheet import contact_sheet, save_picture
from boxmask.visualization.draw import DrawStyle, draw_masks

PER_SHEET = 30
NUM_SHEETS = 2
MARGIN = 0.35
"""Of a box's longer side: how much of its surroundings is shown."""

_STYLE = DrawStyle(opacity=0.25, contour_width=6.0, line_width=3.0, max_labels=0, least_side=300)


def write_doubtful_sheets(
    out: Path, folder: DataFolder, finished: FinishedPictures, doubts: Sequence[Doubt]
) -> list[Path]:
    """Draws the least certain masks with their boxes, the least certain first.

    Args:
        out: folder of `doubtful_0.jpg`, `doubtful_1.jpg`, ...
        folder: the data set.
        finished: its masks.
        doubts: what to draw; a picture that can no longer be read is left out.
    """
    files = []
    for start in range(0, len(doubts), PER_SHEET):
        crops, titles = [], []
        for doubt in doubts[start : start + PER_SHEET]:
            record = folder.splits[doubt.split].records[doubt.index]
            try:
                crops.append(_crop(record, finished, doubt, folder.class_names))
            except UserError:
                continue
            titles.append(f"{record.annotation_ids[doubt.position]}  {doubt.confidence:.2f}")
        if crops:
            sheet = contact_sheet(crops, titles, columns=6, cell=(220, 260))
            files.append(save_picture(out / f"doubtful_{start // PER_SHEET}.jpg", sheet))
    return files


def _crop(
    record: ImageRecord,
    finished: FinishedPictures,
    doubt: Doubt,
    class_names: Sequence[str],
) -> NDArray[np.uint8]:
    """The surroundings of one box with mask contour and box."""
    labelled = labelled_record(record, finished.masks(doubt.split, doubt.index))
    mask = decode_segmentation(labelled.masks[doubt.position], record.image_size)
    box = record.boxes[doubt.position]
    margin = MARGIN * float(np.max(box[2:] - box[:2])) + 2
    height, width = record.image_size
    left, top = np.maximum(np.floor(box[:2] - margin), 0).astype(int)
    right, bottom = np.minimum(np.ceil(box[2:] + margin), (width, height)).astype(int)
    part = (slice(top, bottom), slice(left, right))
    picture = np.ascontiguousarray(read_picture(record.path)[part])
    shifted = box - np.array([left, top, left, top])
    label = record.labels[[doubt.position]]
    return draw_masks(picture, [shifted], [mask[part]], label, class_names, style=_STYLE)
