"""Turns a mask of any shape into one polygon along the corners of its pixels."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial import Delaunay


def mask_polygon(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Draws one closed polygon around all parts of a mask and around all its holes.

    Parts and holes are joined by bridges of no width: the way there and the way back are the
    same, so they cancel when the polygon is filled by the even-odd rule, as pycocotools does.

    Args:
        mask: (H, W) bool.

    Returns:
        (P, 2) x, y of pixel corners, from 0 to W and to H; empty for an empty mask.
    """
    loops = mask_outlines(mask)
    if not loops:
        return np.zeros((0, 2), dtype=np.int64)
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
    """Closed outlines of all parts and holes of an (H, W) mask, each (P, 2) x, y of corners."""
    rows, columns = _corners(mask)
    count = len(rows)
    along_row = _partners(np.lexsort((np.arange(count), columns, rows)))
    along_column = _partners(np.lexsort((np.arange(count), rows, columns)))
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


def _corners(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Grid points (row, column) where an outline turns; twice where two outlines touch."""
    padded = np.pad(np.asarray(mask, dtype=np.uint8), 1)
    above_left, above_right = padded[:-1, :-1], padded[:-1, 1:]
    below_left, below_right = padded[1:, :-1], padded[1:, 1:]
    turns = above_left ^ above_right ^ below_left ^ below_right  # (H + 1, W + 1)
    touches = (above_left == below_right) & (above_right == below_left)
    touches &= above_left != above_right
    once, twice = np.argwhere(turns), np.argwhere(touches)
    corners = np.concatenate([once, twice, twice])  # (P, 2)
    return corners[:, 0], corners[:, 1]


def _partners(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each corner's other end, where sorted corners pair off into the sides of an outline."""
    partners = np.empty_like(order)
    partners[order[0::2]] = order[1::2]
    partners[order[1::2]] = order[0::2]
    return partners


def _bridges(
    points: NDArray[np.int64], loop_of: NDArray[np.int64], following: NDArray[np.int64]
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
