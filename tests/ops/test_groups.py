"""Shares within groups."""

import torch

from boxmask.ops.groups import shares_within


def test_shares_sum_to_one_within_each_group():
    values, group = torch.rand(20) + 0.1, torch.randint(0, 4, (20,)) * 2
    shares = shares_within(values, group, 9)
    for index in group.unique().tolist():
        here = group == index
        torch.testing.assert_close(shares[here], values[here] / values[here].sum())


def test_no_values_give_no_shares():
    assert shares_within(torch.zeros(0), torch.zeros(0, dtype=torch.int64), 3).shape == (0,)
