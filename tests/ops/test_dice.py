import pytest
import torch

from boxmask.ops.dice import dice_distance
from references.projection import dice


def test_equals_the_definition():
    scores, targets = torch.rand(3, 4, 5, dtype=torch.float64), torch.rand(3, 4, 5) < 0.4
    ours = dice_distance(scores, targets)
    for row in range(3):
        expected = dice(scores[row].flatten().tolist(), targets[row].double().flatten().tolist())
        assert ours[row].item() == pytest.approx(expected, abs=1e-12)


def test_ends_of_the_range():
    full, empty = torch.ones(1, 6), torch.zeros(1, 6)
    assert dice_distance(full, full).item() == pytest.approx(0, abs=1e-5)
    assert dice_distance(full, empty).item() == 1
    assert dice_distance(empty, empty).item() == 1
    assert dice_distance(torch.zeros(0, 6), torch.zeros(0, 6)).shape == (0,)


def test_gradcheck():
    scores = torch.rand(2, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: dice_distance(x, torch.ones(2, 5)), (scores,))
