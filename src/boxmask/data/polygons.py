"""Turns a mask of any shape into one polygon that stays inside its own pixels."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial import Delaunay

CORE = (0.25, 0.49)
"""Where a pixel begins and ends in `mask_polygon`, in pixels from its left or upper edge.

Readers that fill with OpenCV turn x into a whole number, by rounding or by cutting, and fill the
pixel of that number, too. From 0 up to one half both give the pixel itself."""

CORE_SHIFT = 0.5 - sum(CORE) / 2
"""Added to x and y, it brings the core around the pixel's centre: then filling by centres, as
pycocotools does, gives the mask back."""


def mask_polygon(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Draws one closed polygon along all parts of a mask and around all its holes.

    It runs inside the outermost pixels of the mask, on the borders of their cores (`CORE`).

    Parts and holes are joined by bridges of no width: the way there and the way back are the
    same, so they cancel when the polygon is filled by the even-odd rule, as pycocotools does.

    Args:
        mask: (H, W) bool.

    Returns:
        (P, 2) x, y in pixels; empty for an empty mask.
    """
    loops = [_core_outline(outline, mask) for outline in mask_outlines(mask)]
    if not loops:
        return np.zeros((0, 2))
    points = np.concatenate(loops)  # (P, 2)
    if len(loops) == 1:
        return points
    lengths = np.array([len(loop) for loop in loops])
    starts = np.cumsum(lengths) - lengths
    following = np.arange(1, len(points) + 1)
    following[starts + lengths - 1] = starts
    bridges = _bridges(points, np.repeat(np.arange(len(loops)), lengths), following)
    return points[_tour(following, bridges)]


def mask_outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Closed outlines of all parts and holes of an (H, W) mask, each (P, 2) x, y of corners.

    Pixels that touch at a corner alone have an outline each.
    """
    rows, columns, rising = _corners(mask)
    count = len(rows)
    place = np.arange(count)
    along_row = _partners(np.lexsort((place, columns, rows)))
    # Of two outlines that touch, the left one is the upper one, but for rising pairs of pixels.
    along_column = _partners(np.lexsort((np.where(rising, -place, place), rows, columns)))
    points = np.stack([columns, rows], axis=1)  # (P, 2)
    left = np.ones(count, dtype=bool)
    outlines = []
    for start in range(count):
        if not left[start]:
            continue
        order = []
        here = start
        while left[here]:
            there = along_row[here]
            order += [here, there]
            left[here] = left[there] = False
            here = along_column[there]
        outlines.append(points[order])
    return outlines


def _core_outline(outline: NDArray[np.int64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """An outline moved into the mask, each of its sides to the core of the pixels beside it.

    Args:
        outline: (P, 2) one of `mask_outlines`: its first side is level, its second upright, ...
        mask: (H, W) bool.
    """
    padded = np.pad(mask, 1)
    following = np.roll(outline, -1, axis=0)
    y = outline[0::2, 1]
    inside_below = padded[y + 1, np.minimum(outline[0::2, 0], following[0::2, 0]) + 1]
    x = outline[1::2, 0]
    inside_right = padded[np.minimum(outline[1::2, 1], following[1::2, 1]) + 1, x + 1]
    first, last = CORE
    rows = np.where(inside_below, y + first, y - 1 + last)
    columns = np.where(inside_right, x + first, x - 1 + last)
    moved = np.empty(outline.shape)
    moved[0::2, 1] = moved[1::2, 1] = rows
    moved[0::2, 0], moved[1::2, 0] = np.roll(columns, 1), columns
    return moved


def _corners(
    mask: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Grid points (row, column) where an outline turns; twice where two outlines touch.

    The last array tells where they touch because one pixel lies below and to the left of another.
    """
    padded = np.pad(np.asarray(mask, dtype=np.uint8), 1)
    above_left, above_right = padded[:-1, :-1], padded[:-1, 1:]
    below_left, below_right = padded[1:, :-1], padded[1:, 1:]
    turns = above_left ^ above_right ^ below_left ^ below_right  # (H + 1, W + 1)
    touches = (above_left == below_right) & (above_right == below_left)
    touches &= above_left != above_right
    once, twice = np.argwhere(turns), np.argwhere(touches)
    corners = np.concatenate([once, twice, twice])  # (P, 2)
    rows, columns = corners[:, 0], corners[:, 1]
    rising = (touches & (above_right == 1))[rows, columns]
    return rows, columns, rising


def _partners(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each corner's other end, where sorted corners pair off into the sides of an outline."""
    partners = np.empty_like(order)
    partners[order[0::2]] = order[1::2]
    partners[order[1::2]] = order[0::2]
    return partners


def _bridges(
    points: NDArray[np.float64], loop_of: NDArray[np.int64], following: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The shortest set of (B, 2) point pairs that joins all outlines.

    It is what a minimum spanning tree adds to the outlines; the Delaunay graph holds one.
    """
    mesh = Delaunay(points)
    sides = mesh.simplices[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    same_place = mesh.coplanar[:, [0, 2]]  # points that the mesh left out, and their doubles
    pairs = np.concatenate([sides, same_place]).astype(np.int64)
    pairs = pairs[loop_of[pairs[:, 0]] != loop_of[pairs[:, 1]]]
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    own = np.stack([np.arange(len(points)), following], axis=1)
    lengths = np.hypot(*(points[pairs[:, 0]] - points[pairs[:, 1]]).T)
    # A sparse graph drops weights of zero; an outline's own sides must be the cheapest of all.
    weights = np.concatenate([np.full(len(own), 0.5), 1.0 + lengths])
    ends = np.concatenate([own, pairs]).T
    tree = minimum_spanning_tree(coo_array((weights, ends), shape=(len(points),) * 2).tocsr())
    found = np.stack(tree.nonzero(), axis=1)
    return found[loop_of[found[:, 0]] != loop_of[found[:, 1]]]


def _tour(following: NDArray[np.int64], bridges: NDArray[np.int64]) -> list[int]:
    """Order of points that walks each outline once, and each bridge there and back."""
    ways: dict[int, list[int]] = defaultdict(list)
    for first, second in bridges.tolist():
        ways[first].append(second)
        ways[second].append(first)
    after = following.tolist()
    order: list[int] = []
    # Steps still to do, last first: a point to put down, or an outline (entry, origin) to walk.
    steps: list[int | tuple[int, int]] = [(0, -1)]
    while steps:
        step = steps.pop()
        if isinstance(step, int):
            order.append(step)
            continue
        entry, origin = step
        walk: list[int | tuple[int, int]] = []
        here = entry
        while here != entry or not walk:
            walk.append(here)
            for there in ways[here]:
                if (here, there) != (entry, origin):
                    walk += [(there, here), here]
            here = after[here]
        steps.extend(reversed(walk if origin < 0 else [*walk, entry]))
    return order
