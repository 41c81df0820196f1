"""Pictures of a data set: how classes and sizes are spread, and pictures with their boxes."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from boxmask.data.check import SMALL_SIDE
from boxmask.data.pictures import read_picture
from boxmask.data.records import DataFolder, ImageRecord
from boxmask.errors import UserError
from boxmask.visualization.contact_sheet import contact_sheet, save_picture
from boxmask.visualization.draw import DrawStyle, draw_boxes

NUM_PICTURES = 12
SHOWN_CLASSES = 40
WHOLE_PICTURE = 0.95
"""Share of the picture's area from which a box is suspicious."""
LONG = 8.0
"""Long side over short side from which a box is suspicious."""
_COLORS = ("#3b6cff", "#ff7f2a", "#2fd07a")


def draw_class_and_size_plot(folder: DataFolder, file: Path, image_size: int) -> None:
    """Draws boxes of each class and their sizes at the network's input, split by split."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for color, (name, split) in zip(_COLORS, folder.splits.items(), strict=False):
        labels = [record.labels[~record.crowd] for record in split.records]
        counts = np.bincount(
            np.concatenate([np.zeros(0, dtype=np.int64), *labels]),
            minlength=len(folder.class_names),
        )
        _plot_classes(left, folder.class_names, counts, (name, color))
        sides = [_scaled_sides(record, image_size) for record in split.records]
        values = np.concatenate([np.zeros(0), *sides])
        if len(values):
            bins = np.geomspace(1, max(2.0, float(image_size) * 2), 40).tolist()
            right.hist(values, bins=bins, color=color, alpha=0.6, label=name)
    left.set_title("boxes of each class", fontsize=10, loc="left")
    right.set_title(f"shorter side of boxes at size {image_size}, pixels", fontsize=10, loc="left")
    right.axvline(SMALL_SIDE, color="#888888", lw=1, ls="--")
    right.set_xscale("log")
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8, frameon=False)
    content = io.BytesIO()
    figure.savefig(content, dpi=110, format="png")
    save_picture(file, np.asarray(Image.open(content).convert("RGB")))


def _plot_classes(
    axis: Axes, names: Sequence[str], counts: NDArray[np.int64], series: tuple[str, str]
) -> None:
    order = np.arange(len(names))
    if len(names) > SHOWN_CLASSES:
        order = np.argsort(-counts, kind="stable")[:SHOWN_CLASSES]
    shown = [names[index][:20] for index in order.tolist()]
    axis.barh(shown, counts[order], color=series[1], alpha=0.6, label=series[0])
    axis.tick_params(axis="y", labelsize=6 if len(shown) > 15 else 8)
    if not axis.yaxis_inverted():
        axis.invert_yaxis()


def draw_picture_sheet(folder: DataFolder, file: Path) -> None:
    """Draws pictures with their boxes: the most crowded and the most suspicious first."""
    records = [record for split in folder.splits.values() for record in split.records]
    drawn, titles = [], []
    for record in chosen_pictures(records, NUM_PICTURES):
        try:
            picture = read_picture(record.path)
        except UserError:
            continue
        style = DrawStyle(least_side=480)
        boxes = draw_boxes(picture, record.boxes, record.labels, folder.class_names, style=style)
        drawn.append(boxes)
        titles.append(f"{record.name}  {len(record)} boxes")
    save_picture(file, contact_sheet(drawn, titles, columns=4))


def chosen_pictures(records: Sequence[ImageRecord], count: int) -> list[ImageRecord]:
    """Takes turns between the fullest pictures and those with most suspicious boxes."""
    crowded = sorted(records, key=lambda record: -len(record))
    suspicious = [(num_suspicious(record), record) for record in records]
    doubtful = [r for number, r in sorted(suspicious, key=lambda pair: -pair[0]) if number]
    turns: list[ImageRecord] = []
    for place in range(len(records)):
        turns += crowded[place : place + 1] + doubtful[place : place + 1]
        if len(turns) >= 2 * count:
            break
    return [*{record.path: record for record in turns}.values()][:count]


def num_suspicious(record: ImageRecord) -> int:
    """Boxes that are tiny, nearly the whole picture, or very long; crowds left out."""
    boxes = record.boxes[~record.crowd].astype(np.float64)
    sides = boxes[:, 2:] - boxes[:, :2]
    short, long = sides.min(axis=1), sides.max(axis=1)
    height, width = record.image_size
    whole = sides.prod(axis=1) > WHOLE_PICTURE * height * width
    return int(((short < 2) | whole | (long > LONG * short)).sum())


def _scaled_sides(record: ImageRecord, image_size: int) -> NDArray[np.float64]:
    boxes = record.boxes[~record.crowd].astype(np.float64)
    short = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
    return short * (image_size / min(record.image_size))
