"""Plots of a run: losses and scores over epochs, AP by size and by class."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from boxmask.errors import UserError

Column = NDArray[np.floating[Any]]

BOX_COLOR, MASK_COLOR = "#1a8fe3", "#e8475c"
LINE_COLORS = ("#1a8fe3", "#e8475c", "#2aa876", "#f0a020", "#8457d6")
WARMUP_COLOR = "#f3e3c3"
TEXT_COLOR = "#30343c"

SPEED = "train/rate"  # optimizer steps a second
# Title of each panel of scores, and the columns it shows where the run has them.
SCORE_PANELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("average precision", ("box_ap", "mask_ap")),
    ("IoU with true masks", ("label_iou", "label_iou_median")),
    ("masks against their boxes", ("fill", "train/fill", "box_tightness", "empty")),
)


def plot_results(results_csv: Path, out_png: Path) -> Path:
    """Plots a run: each loss, the learning rate and the scores over epochs, a panel each.

    Columns known by name: `epoch`, losses (`loss...` and `train/...`), `learning_rate...`, the
    scores of `SCORE_PANELS`, and `warmup_share`, the part of each epoch (0..1) that warm-up took,
    which is shaded. Other columns and empty cells are left out.

    Args:
        results_csv: one row per epoch, with a header.
        out_png: the picture to write.

    Returns:
        `out_png`.

    Raises:
        UserError: If the file cannot be read or holds nothing to plot.
    """
    columns = _read(results_csv)
    panels = _panels(columns)
    if not panels:
        raise UserError(
            "nothing to plot: no loss and no score has a value",
            where=str(results_csv),
            fix="Wait until the first epoch has ended.",
        )
    epochs = columns.get("epoch", np.arange(1.0, len(next(iter(columns.values()))) + 1))
    across = min(4, math.ceil(math.sqrt(len(panels))))
    down = math.ceil(len(panels) / across)
    figure = Figure(figsize=(3.7 * across, 2.6 * down + 0.4), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    warmup = columns.get("warmup_share")
    for (title, lines), axis in zip(panels, axes, strict=False):
        _draw_lines(axis, title, epochs, lines)
        axis.set_xlim(*_epoch_limits(epochs))
        _shade(axis, epochs, np.zeros(0) if warmup is None else warmup)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    if warmup is not None and (warmup > 0).any():
        figure.legend(handles=[Patch(color=WARMUP_COLOR, label="warm-up")], **_LEGEND_BELOW)
    return save_figure(figure, out_png)


def plot_size_ap(metrics: Mapping[str, float], out_png: Path) -> Path:
    """Plots box AP and mask AP for each object size.

    Args:
        metrics: what `CocoEvaluator.compute` gave: `box_ap_SIZE`, `mask_ap_SIZE`, and the same
            without a size for all objects.
        out_png: the picture to write.

    Returns:
        `out_png`.

    Raises:
        UserError: If there is no such score.
    """
    keys = [key for key in metrics if key.startswith(("box_ap", "mask_ap")) and "/" not in key]
    names = [key.split("_ap", 1)[1] for key in keys]
    sizes = list(dict.fromkeys(name for name in names if name not in ("50", "75")))
    labels = ["all" if size == "" else size.removeprefix("_") for size in sizes]
    _check_any(sizes, "size", out_png)
    figure = Figure(figsize=(1.6 + 1.3 * len(sizes), 3.4), layout="constrained")
    axis = figure.subplots()
    series = _series(metrics, sizes, "{kind}_ap{name}")
    for index, (kind, values) in enumerate(series.items()):
        width = 0.8 / len(series)
        places = np.arange(len(sizes)) - 0.4 + width * (index + 0.5)
        drawn = axis.bar(places, np.nan_to_num(values), width * 0.94, **_bar_style(kind))
        axis.bar_label(drawn, _bar_texts(values), padding=2, fontsize=8, color=TEXT_COLOR)
    axis.set_xticks(range(len(sizes)), labels)
    _finish_bars(axis, "AP by object size", series, axis.set_ylim)
    return save_figure(figure, out_png)


def plot_class_ap(metrics: Mapping[str, float], out_png: Path) -> Path:
    """Plots box AP and mask AP of each class, best first.

    Args:
        metrics: what `CocoEvaluator.compute` gave: `box_ap/NAME` and `mask_ap/NAME`.
        out_png: the picture to write.

    Returns:
        `out_png`.

    Raises:
        UserError: If there is no such score.
    """
    keys = [key for key in metrics if key.startswith(("box_ap/", "mask_ap/"))]
    names = list(dict.fromkeys(key.split("/", 1)[1] for key in keys))
    _check_any(names, "class", out_png)
    series = _series(metrics, names, "{kind}_ap/{name}")
    ranked = np.argsort(np.nan_to_num(list(series.values())[-1], nan=-1.0), kind="stable")
    figure = Figure(figsize=(6.4, 1.2 + 0.34 * len(names)), layout="constrained")
    axis = figure.subplots()
    height = 0.8 / len(series)
    for index, (kind, values) in enumerate(series.items()):
        places = np.arange(len(names)) + 0.4 - height * (index + 0.5)
        ordered = values[ranked]
        drawn = axis.barh(places, np.nan_to_num(ordered), height * 0.94, **_bar_style(kind))
        axis.bar_label(drawn, _bar_texts(ordered), padding=3, fontsize=7, color=TEXT_COLOR)
    axis.set_yticks(range(len(names)), [names[index] for index in ranked], fontsize=8)
    axis.set_ylim(-0.6, len(names) - 0.4)
    _finish_bars(axis, "AP by class", series, axis.set_xlim)
    return save_figure(figure, out_png)


_LEGEND_BELOW: dict[str, Any] = {
    "loc": "outside lower center",
    "frameon": False,
    "fontsize": 8,
    "ncols": 2,
}


def _read(path: Path) -> dict[str, Column]:
    """All columns of a CSV; empty cells and words are NaN."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"results cannot be read: {error}", where=str(path)) from error
    names = [name for name in (rows[0] if rows else {}) if name]
    return {
        name.strip().removeprefix("val/"): np.array([_number(row.get(name)) for row in rows])
        for name in names
    }


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _panels(columns: dict[str, Column]) -> list[tuple[str, dict[str, Column]]]:
    """Title and lines of each panel that has at least one value."""
    panels: list[tuple[str, dict[str, Column]]] = []
    scores = {name for _, names in SCORE_PANELS for name in names}
    for name, values in columns.items():
        term = name.removeprefix("train/")
        if name == SPEED:
            panels.append(("steps a second", {name: values}))
        elif term.startswith("loss") or (term != name and term not in scores):
            term = term.removeprefix("loss").strip("_/ ").replace("_", " ")
            panels.append((f"loss: {term}" if term else "loss", {name: values}))
    rates = {name: v for name, v in columns.items() if name.startswith("learning_rate")}
    panels.append(("learning rate", rates))
    for title, names in SCORE_PANELS:
        panels.append((title, {name: columns[name] for name in names if name in columns}))
    shown = []
    for title, lines in panels:
        known = {name: values for name, values in lines.items() if np.isfinite(values).any()}
        if known:
            shown.append((title, known))
    return shown


def _draw_lines(axis: Axes, title: str, epochs: Column, lines: dict[str, Column]) -> None:
    """Draws one panel; a line goes on over missing values."""
    for color, (name, values) in zip(LINE_COLORS * len(lines), lines.items(), strict=False):
        known = np.isfinite(values) & np.isfinite(epochs)
        marker = "o" if known.sum() <= 30 else ""
        label = name.replace("train/fill", "fill in training").replace("_iou", " IoU")
        axis.plot(
            epochs[known],
            values[known],
            color=color,
            marker=marker,
            ms=3,
            label=label.replace("_", " "),
        )
    plain_axis(axis, title)
    axis.set_xlabel("epoch", fontsize=8, color=TEXT_COLOR)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    if len(lines) > 1:
        axis.legend(fontsize=7, frameon=False)


def _epoch_limits(epochs: Column) -> tuple[float, float]:
    """The same range of epochs for all panels, half an epoch wider at both ends."""
    known = epochs[np.isfinite(epochs)]
    return (known.min() - 0.5, known.max() + 0.5) if known.size else (0.0, 1.0)


def _shade(axis: Axes, epochs: Column, warmup: Column) -> None:
    """Shades, around each epoch's value, the part of the epoch that was warm-up."""
    for epoch, share in zip(epochs, warmup, strict=False):
        if share > 0 and math.isfinite(epoch):
            end = epoch - 0.5 + min(share, 1.0)
            axis.axvspan(epoch - 0.5, end, color=WARMUP_COLOR, lw=0, zorder=0)


def _check_any(names: list[str], what: str, out_png: Path) -> None:
    if not names:
        raise UserError(f"nothing to plot: the scores hold no AP by {what}", where=str(out_png))


def _series(metrics: Mapping[str, float], names: list[str], key: str) -> dict[str, Column]:
    """Scores for boxes and masks in the order of `names`; NaN where one is missing."""
    series = {}
    for kind in ("box", "mask"):
        keys = [key.format(kind=kind, name=name) for name in names]
        if any(name in metrics for name in keys):
            series[kind] = np.array([metrics.get(name, math.nan) for name in keys], dtype=float)
    return series


def _bar_style(kind: str) -> dict[str, Any]:
    return {"color": BOX_COLOR if kind == "box" else MASK_COLOR, "label": f"{kind} AP"}


def _bar_texts(values: Column) -> list[str]:
    """AP in percent; a dash where there was no object to measure it on."""
    return ["-" if math.isnan(value) else f"{100 * value:.1f}" for value in values]


def _finish_bars(
    axis: Axes, title: str, series: dict[str, Column], set_limits: Callable[[float, float], Any]
) -> None:
    """Titles, scale and legend; the scale never ends below 0.25, so that poor scores look poor."""
    plain_axis(axis, title)
    highest = float(np.nanmax([0.0, *np.concatenate([*series.values()])]))
    set_limits(0, max(0.25, min(1.08, 1.15 * highest)))
    figure = axis.get_figure()
    assert isinstance(figure, Figure)
    figure.legend(**_LEGEND_BELOW)


def plain_axis(axis: Axes, title: str) -> None:
    """Gives a panel its title and the quiet frame that all our plots have."""
    axis.set_title(title, fontsize=10, color=TEXT_COLOR, loc="left")
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#b8bdc7")
    axis.tick_params(labelsize=8, colors=TEXT_COLOR, color="#b8bdc7")
    axis.grid(color="#e6e9ef", lw=0.7)
    axis.set_axisbelow(True)


def save_figure(figure: Figure, path: Path) -> Path:
    """Writes a plot and gives its path back.

    Raises:
        UserError: If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130, facecolor="white")
    except (OSError, ValueError) as error:
        raise UserError(f"plot cannot be written: {error}", where=str(path)) from error
    return path
