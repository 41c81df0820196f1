import pytest
import torch

from boxmask.prototypes.cosine_levels import CosineLevels


def sums_of(foreground, background, cells=2.0):
    """One class's sums and counts for these two means."""
    return torch.tensor([[foreground, background]]) * cells, torch.full((1, 2), cells)


def test_first_means_are_taken_whole_and_later_ones_move_them():
    levels = CosineLevels(1)
    assert levels.middle.tolist() == [0]
    levels.update(*sums_of(0.9, 0.5))
    torch.testing.assert_close(levels.middle, torch.tensor([0.7]))
    levels.update(*sums_of(0.5, 0.1))  # the second update keeps 2 / 11
    expected = 2 / 11 * torch.tensor([[0.9, 0.5]]) + 9 / 11 * torch.tensor([[0.5, 0.1]])
    torch.testing.assert_close(levels.means, expected)


def test_momentum_has_a_ceiling():
    levels = CosineLevels(1, momentum=0.5)
    for _ in range(30):
        levels.update(*sums_of(1.0, 0.0))
    levels.update(*sums_of(0.0, 0.0))
    assert levels.means[0, 0] == pytest.approx(0.5)


@pytest.mark.parametrize("counts", [[0.0, 3.0], [3.0, 0.0], [0.0, 0.0]])
def test_a_class_without_cells_of_both_kinds_stays_as_it_is(counts):
    levels = CosineLevels(2)
    levels.update(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.ones(2, 2))
    before = levels.means.clone(), levels.updates.clone()
    sums = torch.tensor([[0.0, 0.0], [0.5, 0.5]])
    levels.update(sums, torch.tensor([counts, [1.0, 1.0]]))
    assert torch.equal(levels.means[0], before[0][0])
    assert levels.updates.tolist() == [1, 2]
    assert not torch.equal(levels.means[1], before[0][1])


def test_sums_by_hand():
    levels = CosineLevels(3)
    cosines = torch.tensor([[[0.5, 0.25]], [[0.1, -0.2]], [[1.0, 0.0]], [[9.0, 9.0]]])
    cells = torch.tensor([[[1, 0]], [[0, 1]], [[1, 1]], [[1, 1]]]) > 0
    labels, times = torch.tensor([0, 2, 0, 1]), torch.tensor([1, 3, 2, 0])
    sums, counts = levels.sums_of(cosines, cells, labels, times)
    torch.testing.assert_close(sums, torch.tensor([2.5, 0.0, -0.6]))
    assert counts.tolist() == [5, 0, 3]
