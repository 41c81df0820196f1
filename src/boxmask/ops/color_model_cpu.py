"""Which cells have the colours of an object, and which those around its box: on a CPU."""

import cv2
import numpy as np
from numpy.typing import NDArray

COLOR_SPREAD = 5.0
"""LAB units by which colours of one thing differ."""

PLACE_SPREAD = 0.5
"""Share of the mean side of the box: how far away a cell still tells which colours to expect."""

LEAST_SHARE = 1e-3
"""Share of like cells below which a colour counts as never seen: it tells nothing."""

CERTAIN = 4.0
"""Largest log-ratio of both shares."""

LEAST_SCORE = 0.02
"""Scores of the network are taken to be at least this and at most one less it."""

LEAST_CELLS = 3
"""Cells of each kind without which there is nothing to compare."""

MOST_CELLS = 256
"""Cells of each kind that are looked at; of more, every second, third, ... one."""

Map = NDArray[np.float32]
Cells = NDArray[np.bool_]


def scores_by_colors(scores: Map, colors: NDArray[np.uint8], inside: Cells, outside: Cells) -> Map:
    """Asks each cell in a box whether it looks like the object or like what is around the box.

    How large a share of the mask's cells near by has its colours is compared with the share of the
    cells outside all boxes; the logarithm of their ratio is added to the logit of the score. So
    the grass between an animal's legs, which the network's coarse mask covers, is known by the
    grass beside it, and an ear that the mask lacks by the rest of the head. A cell does not speak
    for itself.

    Args:
        scores: (h, w) in 0..1, of cells.
        colors: (h, w, 3) uint8 RGB of the cells.
        inside: (h, w) bool, cells of the box that no other object owns.
        outside: (h, w) bool, cells in no box.

    Returns:
        (h, w) in 0..1; as given where not `inside`, or where one kind of cells is missing.

    Source: ours. Comparing colours of an object with those around it is the unary term of GrabCut
    (SIGGRAPH 2004), here with kernels instead of mixtures.
    """
    weights = (scores * (inside & (scores > 0.5)), outside.astype(np.float32))
    if any(float(one.sum()) < LEAST_CELLS for one in weights):
        return scores
    lab = cv2.cvtColor(colors.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2LAB)
    shades = lab.reshape(-1, 3) / np.float32(COLOR_SPREAD)
    reach = PLACE_SPREAD * float(inside.sum()) ** 0.5
    asked = np.flatnonzero(inside)
    of_object, of_others = (_likeness(shades, asked, one, reach) for one in weights)
    ratio = np.log((of_object + LEAST_SHARE) / (of_others + LEAST_SHARE))
    given = scores.ravel()[asked].clip(LEAST_SCORE, 1 - LEAST_SCORE)
    logits = np.log(given / (1 - given)) + ratio.clip(-CERTAIN, CERTAIN)
    found = scores.ravel().copy()
    found[asked] = 1 / (1 + np.exp(-logits))
    return found.reshape(scores.shape)


def _likeness(colors: Map, asked: NDArray[np.intp], weights: Map, reach: float) -> Map:
    """Share of the weighted cells near each of those asked that have its colours, in 0..1.

    Args:
        colors: (h * w, 3) in units of `COLOR_SPREAD`.
        asked: (n,) places of cells among the h * w.
        weights: (h, w) in 0..1.
        reach: standard deviation of places, in cells.

    Returns:
        (n,).
    """
    known = np.flatnonzero(weights > 0)
    known = known[:: -(-len(known) // MOST_CELLS)]
    near = weights.ravel()[known] * np.ones((len(asked), 1), dtype=np.float32)
    for axis, places in enumerate(np.unravel_index(asked, weights.shape)):
        line = np.arange(weights.shape[axis])[:, None]
        other = np.unravel_index(known, weights.shape)[axis]
        near *= np.exp(-0.5 * ((line - other) / reach) ** 2).astype(np.float32)[places]
    near[asked[:, None] == known] = 0  # a cell does not speak for itself
    at, around = colors[asked], colors[known]
    squares = (at**2).sum(axis=1)[:, None] + (around**2).sum(axis=1) - 2 * at @ around.T
    alike = np.exp(-0.5 * squares.clip(min=0)) * near
    return np.asarray(alike.sum(axis=1) / (near.sum(axis=1) + LEAST_SHARE), dtype=np.float32)
