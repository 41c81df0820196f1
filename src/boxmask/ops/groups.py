"""Groups of like values, and sums over the samples of one object."""

import torch
from torch import Tensor


def shares_within(values: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """Divides each value by the sum of its group's.

    Args:
        values: (K,) more than 0.
        group: (K,) int64 group of each value.
        num_groups: how many groups there are; some may be empty.

    Returns:
        (K,) which sum to 1 within each group.
    """
    total = values.new_zeros(num_groups).index_add(0, group, values)
    return values / total[group]


def numbered_values(values: Tensor) -> tuple[Tensor, Tensor]:
    """The different values, and the place of each value among them.

    Args:
        values: (N,) int64.

    Returns:
        (G,) in ascending order and (N,) int64. On a CPU there are as many as differ; elsewhere the
        host would have to wait for their number, so that G is N and the largest comes again and
        again.
    """
    if values.device.type == "cpu":
        return values.unique(return_inverse=True)
    return padded_unique(values)


def padded_unique(values: Tensor) -> tuple[Tensor, Tensor]:
    """`numbered_values` without a wait: (N,) and (N,)."""
    ordered, order = values.sort(stable=True)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[1:] = ordered[1:] != ordered[:-1]
    place = new.cumsum(0) - 1
    different = ordered[-1:].repeat(len(values)).scatter_(0, place, ordered)
    return different, torch.empty_like(place).scatter_(0, order, place)
