"""Groups, and shares within them."""

import pytest
import torch

from boxmask.ops.groups import numbered_values, padded_unique, shares_within


def test_shares_sum_to_one_within_each_group():
    values, group = torch.rand(20) + 0.1, torch.randint(0, 4, (20,)) * 2
    shares = shares_within(values, group, 9)
    for index in group.unique().tolist():
        here = group == index
        torch.testing.assert_close(shares[here], values[here] / values[here].sum())


def test_no_values_give_no_shares():
    assert shares_within(torch.zeros(0), torch.zeros(0, dtype=torch.int64), 3).shape == (0,)


@pytest.mark.parametrize("values", [[], [4], [7, 7, 7], [9, 2, 5, 2, 9, 9, 0]])
def test_padded_values_are_the_different_ones(values):
    values = torch.tensor(values, dtype=torch.int64)
    different, place = padded_unique(values)
    expected, inverse = numbered_values(values)
    assert torch.equal(different[: len(expected)], expected)
    assert different[len(expected) :].eq(values.max() if len(values) else 0).all()
    assert len(different) == len(values)
    assert torch.equal(place, inverse)
