"""Panels on what a pseudo mask teaches, on prototypes, and on pasted objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from boxmask.visualization.draw import PALETTE
from boxmask.visualization.fonts import load_font
from boxmask.visualization.page import FAINT, INK, Legend
from boxmask.visualization.views import (
    BOX,
    DOUBTFUL,
    MASK,
    Mask,
    Picture,
    View,
    color_sample,
    line_sample,
    painted,
    with_box,
    with_mask,
)

Boxes = NDArray[np.float32]
States = NDArray[np.uint8]

OUTSIDE, FOREGROUND, BACKGROUND, IGNORED = range(4)
"""States of a cell in a pseudo mask."""
STATE_COLORS = (None, MASK, BOX, "#ffc22e")
STATE_OPACITY = 0.66
STATE_NAMES = ("", "foreground", "background", "ignored: teaches nothing")


@dataclass(frozen=True, kw_only=True)
class PastedPicture:
    """A picture with N objects after others were pasted into it.

    Attributes:
        picture: (H, W, 3).
        boxes: (N, 4) in input pixels.
        tight: (N, 2) bool, whether a box is tight along x and along y.
        masks: (N, H, W) bool; those of pasted objects are read.
        pasted: (N,) bool.
        names: (N,) classes.
    """

    picture: Picture
    boxes: Boxes
    tight: Mask
    masks: Mask
    pasted: Mask
    names: tuple[str, ...]


def states_panel(view: View, picture: Picture, objects: Sequence[tuple[Boxes, States]]) -> Picture:
    """Pseudo masks of many objects over a picture, small objects over large ones.

    Args:
        view: what to show.
        picture: (H, W, 3).
        objects: box, and (h, w) states, of each.

    Returns:
        (h, w, 3) of the view's size.
    """
    ordered = sorted(objects, key=lambda one: -float((one[1] != OUTSIDE).sum()))
    states = np.zeros(view.size, dtype=np.uint8)
    for _, own in ordered:
        cells = view.cells(own)
        states = np.where(cells == OUTSIDE, states, cells).astype(np.uint8)
    drawn = painted(view.picture(picture), states, STATE_COLORS, STATE_OPACITY)
    for box, _ in ordered:
        drawn = with_box(drawn, view.place(box), INK, width=1)
    return drawn


def pasted_panel(view: View, one: PastedPicture) -> Picture:
    """A picture with pasted objects, originals in one colour and pasted ones in another."""
    drawn = view.picture(one.picture)
    for index in np.flatnonzero(one.pasted).tolist():
        drawn = with_mask(drawn, view.mask(one.masks[index]), opacity=0.15)
    for index, box in enumerate(one.boxes):
        pasted, (x, y) = bool(one.pasted[index]), one.tight[index].tolist()
        color = MASK if pasted else BOX
        drawn = with_box(drawn, view.place(box), color, solid=(x, y), doubtful=DOUBTFUL)
    return drawn


def pasted_legend() -> Legend:
    """Legend of `pasted_panel`."""
    return (
        (line_sample(BOX), "box of an original"),
        (line_sample(DOUBTFUL, solid=False), "side that may no longer touch its object"),
        (line_sample(MASK), "pasted object"),
    )


def state_words(shares: Sequence[float]) -> tuple[tuple[str, str], ...]:
    """Shares of foreground, background and ignored cells, coloured, as a line of a page."""
    names = ("fg", "bg", "ign.")
    colors = ("#c62f45", "#0f6db5", "#a87400")  # the states' colours, dark enough to read
    words = [f"{name} {share:.0%}" for name, share in zip(names, shares, strict=True)]
    return tuple((f"{word}  ", color) for word, color in zip(words, colors, strict=True))


def state_shares(states: States) -> tuple[float, float, float]:
    """Shares of some boxes, in 0..1, that are foreground, background and ignored."""
    counts = np.bincount(states.ravel(), minlength=4)[1:]
    foreground, background, ignored = (counts / max(counts.sum(), 1)).tolist()
    return foreground, background, ignored


def state_legend() -> Legend:
    """Legend of `states_panel`."""
    return tuple(
        (color_sample(color), name)
        for color, name in zip(STATE_COLORS, STATE_NAMES, strict=True)
        if color is not None
    )


def pasted_words(one: PastedPicture) -> str:
    """What was pasted."""
    names = [name for name, pasted in zip(one.names, one.pasted, strict=True) if pasted]
    return f"pasted: {', '.join(names)}" if names else "as it was"


def prototype_colors(count: int) -> tuple[str, ...]:
    """A colour for each prototype; they repeat where there are more than the palette has."""
    return tuple(PALETTE[index % len(PALETTE)] for index in range(count))


def count_bars(
    counts: NDArray[np.int64], colors: Sequence[str], size: tuple[int, int], most: int = 12
) -> Picture:
    """Counts as bars with their colours, in the order of prototypes; the largest if too many."""
    image = Image.new("RGB", (size[1], size[0]), "#ffffff")
    pen = ImageDraw.Draw(image)
    shown = np.sort(np.argsort(-counts, kind="stable")[:most])
    step = size[0] / max(len(shown), 1)
    font = load_font(int(min(max(0.5 * step, 9), 14)))
    label, number = pen.textlength("00 ", font=font), pen.textlength(" 00000 (100 %)", font=font)
    longest = size[1] - label - number
    for row, index in enumerate(shown.tolist()):
        middle, thick = (row + 0.5) * step, 0.34 * step
        share = counts[index] / max(counts.sum(), 1)
        end = label + longest * counts[index] / max(counts.max(), 1)
        pen.text((0, middle), str(index + 1), fill=FAINT, font=font, anchor="lm")
        pen.rectangle((label, middle - thick, max(end, label + 2), middle + thick), colors[index])
        pen.text((end + 6, middle), str(counts[index]), fill=INK, font=font, anchor="lm")
        end += pen.textlength(f"{counts[index]} ", font=font)
        pen.text((end + 6, middle), f"({share:.0%})", fill=FAINT, font=font, anchor="lm")
    return np.array(image)
