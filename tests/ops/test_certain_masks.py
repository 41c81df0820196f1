"""Cross-entropy plus Dice on certain cells: compiled and plain, by hand and in double precision."""

import pytest
import torch

from boxmask.ops.certain_masks import certain_mask_distances, plain_distances


def compiled(logits, foreground, certain):
    """One mask for each sample."""
    return certain_mask_distances(logits, foreground, certain, torch.arange(len(logits)))


FORMS = [compiled, plain_distances]


@pytest.mark.parametrize("form", FORMS)
def test_loss_is_zero_without_certain_cells_and_blind_to_ignored_ones(form):
    logits = torch.randn(2, 4, 5, requires_grad=True)
    foreground = torch.rand(2, 4, 5) > 0.5
    nothing = form(logits, foreground, torch.zeros_like(foreground))
    assert nothing.tolist() == [0.0, 0.0]
    nothing.sum().backward()
    assert logits.grad.abs().max() == 0
    certain = torch.zeros(2, 4, 5, dtype=torch.bool)
    certain[:, :2] = True
    first = form(logits, foreground, certain)
    changed = torch.where(certain, logits, logits + 3)
    torch.testing.assert_close(first, form(changed, foreground, certain))


@pytest.mark.parametrize("form", FORMS)
def test_loss_vanishes_where_logits_are_right(form):
    foreground = torch.tensor([[[True, False]]])
    certain = torch.ones_like(foreground)
    logits = torch.tensor([[[20.0, -20.0]]])
    assert form(logits, foreground, certain).item() < 2e-5
    wrong = form(-logits, foreground, certain).item()
    assert wrong == pytest.approx(21.0, abs=1e-3)  # entropy 20 + Dice 1: no second sigmoid


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_left_of_cross_entropy_where_logits_are_sure_and_right(form, dtype):
    """So many cells of foreground that what is left of Dice, 1e-5 / (2 cells), is small too."""
    foreground = torch.rand(1, 40, 60) > 0.2
    logits = torch.where(foreground, 20.0, -20.0).to(dtype)
    found = form(logits, foreground, torch.ones_like(foreground))
    assert found.abs().item() < 1e-8


@pytest.mark.parametrize("threads", [1, 2])
def test_compiled_equals_plain_in_double_precision(threads, set_threads):
    logits = torch.randn(7, 9, 14) * 6
    foreground, certain = torch.rand(7, 9, 14) < 0.4, torch.rand(7, 9, 14) < 0.6
    certain[2], foreground[3], foreground[4] = False, True, False
    logits[5, 0] = torch.tensor([100.0, -100.0]).repeat(7)
    weights = torch.randn(7)
    set_threads(threads)
    leaf = logits.clone().requires_grad_()
    found = compiled(leaf, foreground, certain)
    (found * weights).sum().backward()
    exact = logits.double().requires_grad_()
    expected = plain_distances(exact, foreground, certain)
    (expected * weights).sum().backward()
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(leaf.grad.double(), exact.grad, rtol=1e-5, atol=1e-7)


def test_parts_of_larger_tensors_nothing_and_nan():
    logits = torch.randn(6, 8, 5).mT[:2]
    cells = torch.rand(4, 5, 16)[::2, :, ::2] < 0.5
    expected = plain_distances(logits.double(), cells, ~cells | cells)
    found = compiled(logits, cells, ~cells | cells)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
    assert compiled(logits[:0], cells[:0], cells[:0]).shape == (0,)
    broken = logits.clone()
    broken[1, 2, 3] = torch.nan
    found = compiled(broken, cells, torch.ones_like(cells))
    assert found.isnan().tolist() == [False, True]


def test_samples_share_the_masks_of_their_objects():
    logits = torch.randn(5, 6, 7)
    foreground, certain = torch.rand(2, 3, 6, 7) < 0.6
    index = torch.tensor([2, 0, 0, 1, 2])
    found = certain_mask_distances(logits, foreground, certain, index)
    torch.testing.assert_close(found, plain_distances(logits, foreground[index], certain[index]))
