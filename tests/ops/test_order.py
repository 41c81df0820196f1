"""Values by rank: both forms, by hand and beside Python's own sorting."""

import pytest
import torch

from boxmask.ops import order
from boxmask.ops.order import value_at_rank

FORMS = [order._of_few, order._of_whole_rows]


@pytest.mark.parametrize("form", FORMS)
def test_by_hand(form):
    values = torch.tensor([[0.1, 0.9, 0.7, 0.8], [0.2, 0.2, 0.1, 0.3], [0.9, 0.9, 0.9, 0.0]])
    for rank, expected in enumerate(
        ([0.9, 0.3, 0.9], [0.8, 0.25, 0.9], [0.7, 0.25, 0.9], [0.25, 0.25, 0.25])
    ):
        found = form(values, torch.full((3,), rank), 0.25)
        torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_equals_sorted_rows(form, kind):
    values = (torch.rand(20, 50) * (torch.rand(20, 50) < 0.4)).to(kind)
    rank = torch.randint(0, 50, (20,))
    expected = [
        max(sorted(row, reverse=True)[place], torch.tensor(0.25, dtype=kind).item())
        for row, place in zip(values.tolist(), rank.tolist(), strict=True)
    ]
    assert form(values, rank, 0.25).tolist() == expected


def test_without_rows():
    assert value_at_rank(torch.rand(0, 5), torch.zeros(0, dtype=torch.int64), 0.5).shape == (0,)
