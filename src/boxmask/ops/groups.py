"""Sums over the samples of one object."""

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
