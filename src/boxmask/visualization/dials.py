"""Plots of scores along a dial: one line a variant, mean and standard deviation over its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from boxmask.errors import UserError
from boxmask.visualization.curves import TEXT_COLOR, plain_axis, save_figure

SHIFT = 0.008  # between the error bars of two lines, as a share of the dial's range
MARGIN = 0.06  # beside the first and last point, as a share of the dial's range
BAND_ALPHA = 0.15
LEAST_HEIGHT = 0.2  # of a panel, in scores of 0..1, so that small differences look small


@dataclass(frozen=True, kw_only=True)
class DialLine:
    """One line of a panel.

    Attributes:
        name: as the legend shows it.
        color: any colour that matplotlib knows.
        marker: matplotlib's letter for the points.
        strong: drawn thick with a band around it; else thin, dashed, with error bars.
        scores: for each dial value the scores of all runs; values without one are left out.
    """

    name: str
    color: str
    marker: str
    strong: bool
    scores: Mapping[float, Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class DialPanel:
    """One panel.

    Attributes:
        score: what the vertical axis shows; the title.
        dial: what the horizontal axis shows.
        lines: see `DialLine`.
    """

    score: str
    dial: str
    lines: Sequence[DialLine]


def plot_dials(rows: Sequence[Sequence[DialPanel]], note: str, out_png: Path) -> Path:
    """Plots rows of panels over one legend; the panels of a column share their scale.

    Args:
        rows: equally many panels in each row.
        note: stands above all panels.
        out_png: the picture to write.

    Returns:
        `out_png`.

    Raises:
        UserError: If no line has a score, or the picture cannot be written.
    """
    panels = [panel for row in rows for panel in row]
    if not any(_known(line)[0] for panel in panels for line in panel.lines):
        raise UserError("nothing to plot: no score has a value", where=str(out_png))
    size = (4.6 * len(rows[0]), 3.3 * len(rows) + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False, sharey="col")
    for panel, axis in zip(panels, axes.ravel(), strict=True):
        _draw_panel(axis, panel)
    for axis in axes[0]:
        axis.set_ylim(*_score_limits(*axis.get_ylim()))
    # Strong lines are drawn last, to lie on top; the legend names the lines in their own order.
    handles, texts = axes[0, 0].get_legend_handles_labels()
    drawn = dict(zip(texts, handles, strict=True))
    names = [line.name for line in panels[0].lines if line.name in drawn]
    figure.legend(
        [drawn[name] for name in names],
        names,
        loc="outside lower center",
        frameon=False,
        fontsize=9,
        ncols=3,
        handlelength=3.2,
    )
    figure.suptitle(note, fontsize=9, color=TEXT_COLOR)
    return save_figure(figure, out_png)


def _known(line: DialLine) -> tuple[list[float], list[NDArray[np.floating[Any]]]]:
    """The dial values with scores, in rising order, and the finite scores at each."""
    scores = {
        value: np.array([score for score in line.scores[value] if np.isfinite(score)])
        for value in sorted(line.scores)
    }
    places = [value for value, found in scores.items() if found.size]
    return places, [scores[value] for value in places]


def _draw_panel(axis: Axes, panel: DialPanel) -> None:
    """Draws all lines of a panel, the strong ones on top."""
    values = sorted({value for line in panel.lines for value in line.scores})
    spread = (values[-1] - values[0]) or 1.0
    middle = (len(panel.lines) - 1) / 2
    for order, line in sorted(enumerate(panel.lines), key=lambda one: one[1].strong):
        _draw_line(axis, line, 0.0 if line.strong else (order - middle) * SHIFT * spread)
    plain_axis(axis, panel.score)
    axis.set_xlabel(panel.dial, fontsize=9, color=TEXT_COLOR)
    axis.set_xlim(values[0] - MARGIN * spread, values[-1] + MARGIN * spread)
    axis.set_xticks(values, [f"{value:g}" for value in values])
    axis.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axis.tick_params(labelleft=True)


def _score_limits(low: float, high: float) -> tuple[float, float]:
    """The range of what is drawn, made high enough; it starts just below 0 at the lowest."""
    height = max(high - low, LEAST_HEIGHT)
    bottom = max((low + high - height) / 2, -LEAST_HEIGHT / 10)
    return bottom, bottom + height


def _draw_line(axis: Axes, line: DialLine, shift: float) -> None:
    places, scores = _known(line)
    at = np.array(places) + shift
    means = np.array([values.mean() for values in scores])
    spreads = np.array([values.std(ddof=1) if values.size > 1 else 0.0 for values in scores])
    style: dict[str, Any] = {"color": line.color, "marker": line.marker, "label": line.name}
    if line.strong:
        axis.fill_between(
            at, means - spreads, means + spreads, color=line.color, alpha=BAND_ALPHA, lw=0
        )
        axis.plot(at, means, lw=2.8, ms=7, **style)
    else:
        axis.errorbar(at, means, spreads, lw=1.1, ms=4, ls="--", capsize=2, elinewidth=0.8, **style)
