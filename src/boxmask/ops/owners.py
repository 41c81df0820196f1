"""Who owns a cell where boxes of one class overlap.

Where objects of one class touch, colours and classes are the same on both sides, and only the
instance masks know where one ends: a cell belongs to the object whose mask is surest there.
"""

from torch import Tensor

LEAST_CLAIM = 0.5
"""Score above which a mask claims a cell."""

LARGEST_LOSS = 0.5
"""Share of its foreground from which an object keeps all: two boxes of one object, say."""


def highest_scores(scores: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """The largest score of each cell in each group.

    Args:
        scores: (N, h, w) in 0..1, masks inside their boxes, 0 outside.
        group: (N,) int64; objects of one class in one image share it.
        num_groups: G.

    Returns:
        (G, h, w), 0 for empty groups.
    """
    highest = scores.new_zeros((num_groups, *scores.shape[1:]))
    return highest.scatter_reduce(0, group[:, None, None].expand_as(scores), scores, "amax")


def claimed_by_others(scores: Tensor, highest: Tensor, least_claim: float = LEAST_CLAIM) -> Tensor:
    """Cells that another object has the better claim to.

    Args:
        scores: (N, h, w) in 0..1, masks inside their boxes, 0 outside.
        highest: (N, h, w), for each object the `highest_scores` of its group.
        least_claim: score above which a mask claims a cell; at 0 no two objects of a group are
            left with the same cell, however unsure both are.

    Returns:
        (N, h, w) bool: another mask is above `least_claim` and higher. All False for an object that
        would lose `LARGEST_LOSS` of its foreground or more.
    """
    claimed = (highest > scores) & (highest > least_claim)
    own = scores > LEAST_CLAIM
    lost = (claimed & own).sum(dim=(1, 2)) / own.sum(dim=(1, 2)).clamp(min=1)  # (N,)
    return claimed & (lost < LARGEST_LOSS)[:, None, None]
