"""Values by rank, beside whole rows in order."""

import torch

from boxmask.ops.order import value_at_rank


def test_by_hand():
    values = torch.tensor([[0.1, 0.9, 0.7, 0.8], [0.2, 0.2, 0.1, 0.3], [0.9, 0.9, 0.9, 0.0]])
    for rank, expected in enumerate(
        ([0.9, 0.3, 0.9], [0.8, 0.25, 0.9], [0.7, 0.25, 0.9], [0.25, 0.25, 0.25])
    ):
        found = value_at_rank(values, torch.full((3,), rank), 0.25)
        torch.testing.assert_close(found, torch.tensor(expected))


def test_equals_rows_in_order():
    values = torch.rand(20, 50) * (torch.rand(20, 50) < 0.4)
    rank = torch.randint(0, 50, (20,))
    ordered = values.sort(dim=1, descending=True).values
    expected = ordered.gather(1, rank[:, None])[:, 0].clamp(min=0.3)
    assert torch.equal(value_at_rank(values, rank, 0.3), expected)


def test_without_rows():
    assert value_at_rank(torch.rand(0, 5), torch.zeros(0, dtype=torch.int64), 0.5).shape == (0,)
