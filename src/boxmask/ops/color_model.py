"""Which cells have the colours of an object, and which those around its box: many boxes at once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from boxmask.ops.fused import fused_kernels_run

COLOR_SPREAD = 5.0
"""LAB units by which colours of one thing differ."""

PLACE_SPREAD = 0.5
"""Share of the mean side of the box: how far away a cell still tells which colours to expect."""

SURROUNDINGS = 0.25
"""Share of a side of the box: how far around it cells are looked at."""

LEAST_SURROUNDINGS = 3.0
"""Cells around a box that are looked at at least."""

LEAST_SHARE = 1e-3
"""Share of like cells below which a colour counts as never seen: it tells nothing."""

CERTAIN = 4.0
"""Largest log-ratio of both shares."""

LEAST_SCORE = 0.02
"""Scores are taken to be at least this and at most one less it."""

LEAST_PART = 0.01
"""Part of the cells looked at that must be of the object, and of no box, to compare them."""

ASKED = 24
"""Rows and columns of cells of a box that are asked; what lies between is interpolated."""

OF_OBJECT = 12
"""Rows and columns of cells of a box that tell the object's colours."""

OF_OTHERS = 16
"""Rows and columns of cells in and around a box that tell the colours outside all boxes."""


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """A lattice of n x n cells for each of N boxes; two places may share a cell.

    Attributes:
        rows: (N, n) whole numbers.
        columns: (N, n) whole numbers.
        index: (N, n * n) place of each among the h * w of its picture.
        present: (N, n * n) bool, in the map.
        colors: (N, n * n, 3) in units of `COLOR_SPREAD`.
    """

    rows: Tensor
    columns: Tensor
    index: Tensor
    present: Tensor
    colors: Tensor


def scores_by_colors(
    scores: Tensor,
    lab: Tensor,
    image_index: Tensor,
    boxes: Tensor,
    own: Tensor,
    outside: Tensor,
) -> Tensor:
    """Asks each cell in a box whether it looks like the object or like what is around the box.

    How large a share of the mask's cells near by has its colours is compared with the share of the
    cells outside all boxes; the logarithm of their ratio is added to the logit of the score. So
    the grass between an animal's legs, which a coarse mask covers, is known by the grass beside it,
    and an ear that the mask lacks by the rest of the head. A cell does not speak for itself.

    All boxes are looked at with the same number of cells, however large they are, so that time and
    memory grow with the number of boxes alone, and the host never waits.

    Args:
        scores: (N, h, w) in 0..1, of cells.
        lab: (B, 3, h, w) CIE-LAB colours of the cells.
        image_index: (N,) int64 picture of each object.
        boxes: (N, 4) x1, y1, x2, y2 in cells.
        own: (N, h, w) bool, cells of the box that no other object owns; others keep their score.
        outside: (B, h, w) bool, cells in no box.

    Returns:
        (N, h, w) in 0..1; as given for objects of which one kind of cells is missing.

    Source: ours. Comparing colours of an object with those around it is the unary term of GrabCut
    (SIGGRAPH 2004), here with kernels instead of mixtures.
    """
    if len(scores) == 0:
        return scores
    mask = scores.float() * (own & (scores > 0.5))
    compare = fused_comparison if fused_kernels_run("colors", lab.device) else plain_comparison
    ratios, means = compare(mask, outside, lab, image_index, boxes)
    ratios = ratios.log().clamp(-CERTAIN, CERTAIN).unflatten(1, (ASKED, ASKED))
    compared = (means > LEAST_PART).all(dim=1)  # (N,) both kinds of cells are there
    given = scores.clamp(LEAST_SCORE, 1 - LEAST_SCORE)
    # sigmoid(logit(given) + ratio), with one exponential
    raised = _on_map(ratios, boxes, scores.shape[-2:]).exp() * given
    changed = raised / (raised + (1 - given))
    return torch.where(own & compared[:, None, None], changed.to(scores.dtype), scores)


def fused_comparison(
    mask: Tensor, outside: Tensor, lab: Tensor, image_index: Tensor, boxes: Tensor
) -> tuple[Tensor, Tensor]:
    """`plain_comparison` in one kernel on a CUDA device."""
    from boxmask.ops.color_model_triton import compared_colors  # Triton is not everywhere

    boxes = boxes.float()
    around, reach = _surroundings(boxes)
    return compared_colors(
        mask, outside, lab.float(), image_index, boxes, around, reach,
        counts=(ASKED, OF_OBJECT, OF_OTHERS), color_spread=COLOR_SPREAD, least_share=LEAST_SHARE,
    )  # fmt: skip


def plain_comparison(
    mask: Tensor, outside: Tensor, lab: Tensor, image_index: Tensor, boxes: Tensor
) -> tuple[Tensor, Tensor]:
    """Shares of like cells in the object and outside all boxes, for each cell that is asked.

    Args:
        mask: (N, h, w) float32, how much each cell counts for its object.
        outside: see `scores_by_colors`, as all that follows.
        lab: colours.
        image_index: picture of each object.
        boxes: in cells.

    Returns:
        (N, n * n) ratio of both shares, and (N, 2) mean weights of the cells that tell the colours
        of the object and those around.
    """
    around, reach = _surroundings(boxes)
    asked, objects, others = (
        _lattice(where, count, lab, image_index)
        for where, count in ((boxes, ASKED), (boxes, OF_OBJECT), (around, OF_OTHERS))
    )
    mask = mask.flatten(1)
    of_object = mask.gather(1, objects.index) * objects.present
    of_others = outside.flatten(1)[image_index[:, None], others.index] & others.present
    of_others = of_others.float()
    itself = _times_among(asked, objects) * mask.gather(1, asked.index)
    nobody = torch.zeros_like(itself)  # an asked cell is in a box
    like_object = _share_alike(asked, objects, of_object, reach, itself)
    like_others = _share_alike(asked, others, of_others, reach, nobody)
    means = torch.stack([of_object.mean(dim=1), of_others.mean(dim=1)], dim=1)
    return (like_object + LEAST_SHARE) / (like_others + LEAST_SHARE), means


def _surroundings(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 4) boxes (N, 4) with what is around them, and (N,) how far places count, in cells."""
    sides = boxes[:, 2:] - boxes[:, :2]
    reach = PLACE_SPREAD * sides.prod(dim=1).sqrt().clamp(min=1)
    margin = (sides * SURROUNDINGS).clamp(min=LEAST_SURROUNDINGS)
    return torch.cat([boxes[:, :2] - margin, boxes[:, 2:] + margin], dim=1), reach


def _lattice(boxes: Tensor, count: int, lab: Tensor, image_index: Tensor) -> _Cells:
    """`count` x `count` cells at even distances in each of N boxes.

    Args:
        boxes: (N, 4) in cells; may reach out of their picture.
        count: n, of rows and of columns.
        lab: (B, 3, h, w) colours.
        image_index: (N,) picture of each box.
    """
    height, width = lab.shape[-2:]
    steps = (torch.arange(count, device=boxes.device) + 0.5) / count
    corners, sides = boxes[:, :2, None], (boxes[:, 2:] - boxes[:, :2])[..., None]
    columns, rows = (corners + steps * sides).floor().unbind(dim=1)  # (N, n) each
    there_x, there_y = (columns >= 0) & (columns < width), (rows >= 0) & (rows < height)
    x, y = columns.clamp(0, width - 1).long(), rows.clamp(0, height - 1).long()
    index = (y[:, :, None] * width + x[:, None, :]).flatten(1)
    return _Cells(
        rows=rows,
        columns=columns,
        index=index,
        present=(there_y[:, :, None] & there_x[:, None, :]).flatten(1),
        colors=lab.float().flatten(2)[image_index[:, None], :, index] / COLOR_SPREAD,
    )


def _share_alike(
    asked: _Cells, known: _Cells, weights: Tensor, reach: Tensor, itself: Tensor
) -> Tensor:
    """Share of the weighted cells near each of those asked that have its colours, in 0..1.

    Args:
        asked: n x n cells of N boxes.
        known: m x m cells.
        weights: (N, m * m) in 0..1, of known cells.
        reach: (N,) standard deviation of places, in cells.
        itself: (N, n * n) weight of the asked cell among those known.

    Returns:
        (N, n * n).
    """
    side = known.rows.shape[1]
    with torch.autocast(weights.device.type, enabled=False):  # half precision mixes up colours
        first, second = (_colors_and_places(cells, reach) for cells in (asked, known))
        count = _sum_of_gaussians(first, second, weights)
        near_y, near_x = (
            _gaussians(*(places[..., None] / reach[:, None, None] for places in pair))
            for pair in ((asked.rows, known.rows), (asked.columns, known.columns))
        )  # (N, n, m) each; their product is the nearness of cells
        total = (near_y @ weights.unflatten(1, (side, side)) @ near_x.mT).flatten(1)
    return (count - itself).clamp(min=0) / ((total - itself).clamp(min=0) + LEAST_SHARE)


def _colors_and_places(cells: _Cells, reach: Tensor) -> Tensor:
    """(N, n * n, 5) in units of their spread; `reach` (N,) is that of places, in cells."""
    places = torch.broadcast_tensors(cells.rows[:, :, None], cells.columns[:, None, :])
    places = torch.stack(places, dim=-1).flatten(1, 2) / reach[:, None, None]
    return torch.cat([cells.colors, places], dim=-1)


def _sum_of_gaussians(asked: Tensor, known: Tensor, weights: Tensor) -> Tensor:
    """Weights (N, b) of those known, (N, b, 5), as far as they are like those asked: (N, a)."""
    if weights.device.type == "cpu":
        from boxmask.ops.color_model_cpu import weighted_gaussians  # numba takes a while to import

        return weighted_gaussians(asked, known, weights)
    return torch.bmm(_gaussians(asked, known), weights[..., None])[..., 0]


def _gaussians(first: Tensor, second: Tensor) -> Tensor:
    """exp(-distance^2 / 2) of (N, a, D) and (N, b, D) vectors: (N, a, b), one matrix product."""
    ones, others = (one.square().sum(dim=2, keepdim=True) / -2 for one in (first, second))
    left = torch.cat([first, ones, torch.ones_like(ones)], dim=2)
    right = torch.cat([second, torch.ones_like(others), others], dim=2)
    return torch.bmm(left, right.mT).exp_()


def _times_among(asked: _Cells, known: _Cells) -> Tensor:
    """(N, n * n) how often each asked cell is among those known, which may repeat it."""
    rows, columns = (
        (one[:, :, None] == other[:, None, :]).sum(dim=2)
        for one, other in ((asked.rows, known.rows), (asked.columns, known.columns))
    )
    return (rows[:, :, None] * columns[:, None, :]).flatten(1)


def _on_map(values: Tensor, boxes: Tensor, size: torch.Size) -> Tensor:
    """Values (N, n, n) at even distances in boxes, interpolated at the cells: (N, h, w)."""
    count, device = values.shape[1], values.device
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-3)
    across, down = (
        _linear(
            (torch.arange(length, device=device) + 0.5 - boxes[:, axis, None])
            * (count / sides[:, axis, None]),
            count,
        )
        for axis, length in enumerate((size[1], size[0]))
    )
    with torch.autocast(device.type, enabled=False):
        return down @ values.float() @ across.mT


def _linear(places: Tensor, count: int) -> Tensor:
    """Weights (N, l, n) of n values, at 0.5, 1.5 and so on, at places (N, l) between them.

    Places before the first and behind the last take its value.
    """
    middles = torch.arange(count, device=places.device) + 0.5
    inside = places.clamp(0.5, count - 0.5)[..., None]
    return (1 - (inside - middles).abs()).clamp(min=0)
