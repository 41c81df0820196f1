"""Distances from pseudo masks for GPUs, in Triton's interpreter where there is no GPU."""

import pytest
import torch

from boxmask.ops import certain_masks
from boxmask.ops.certain_masks import certain_mask_distances, plain_distances

pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def _fused(monkeypatch):
    monkeypatch.setattr(certain_masks, "fused_kernels_run", lambda kernels, device: True)


def test_equals_the_plain_form_in_double_precision():
    logits = torch.randn(7, 33, 41) * 6
    logits[5, 0, :40] = torch.tensor([100.0, -100.0]).repeat(20)
    foreground, certain = torch.rand(4, 33, 41) < 0.4, torch.rand(4, 33, 41) < 0.6
    certain[2], foreground[3] = False, True
    index, weights = torch.tensor([0, 1, 2, 3, 3, 0, 1]), torch.randn(7)
    leaf = logits.to(DEVICE, copy=True).requires_grad_()
    given = (one.to(DEVICE) for one in (foreground, certain, index))
    found = certain_mask_distances(leaf, *given)
    (found * weights.to(DEVICE)).sum().backward()
    exact = logits.double().requires_grad_()
    expected = plain_distances(exact, foreground[index], certain[index])
    (expected * weights).sum().backward()
    torch.testing.assert_close(found.double().cpu(), expected, rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(leaf.grad.double().cpu(), exact.grad, rtol=1e-4, atol=1e-7)
    assert found[2] == 0
    assert not leaf.grad[2].any()


def test_nothing_is_left_where_logits_are_sure_and_right():
    foreground = torch.rand(1, 40, 60) > 0.2
    logits = torch.where(foreground, 20.0, -20.0)
    certain, index = torch.ones_like(foreground), torch.zeros(1, dtype=torch.long)
    given = (one.to(DEVICE) for one in (logits, foreground, certain, index))
    assert certain_mask_distances(*given).abs().item() < 1e-7


def test_parts_of_larger_tensors_and_nothing():
    logits = torch.randn(6, 8, 5).mT[:2]
    cells = torch.rand(4, 5, 16)[::2, :, ::2] < 0.5
    expected = plain_distances(logits, cells, ~cells | cells)
    index = torch.arange(2)
    given = [one.to(DEVICE) for one in (logits, cells, ~cells | cells, index)]
    torch.testing.assert_close(certain_mask_distances(*given).cpu(), expected)
    none = certain_mask_distances(given[0][:0].requires_grad_(), *given[1:3], given[3][:0])
    assert none.shape == (0,)
    none.sum().backward()


def test_a_broken_logit_breaks_its_sample_alone():
    logits = torch.randn(2, 5, 6)
    logits[1, 2, 2] = torch.nan
    cells = torch.rand(2, 5, 6) < 0.5
    given = (one.to(DEVICE) for one in (logits, cells, cells | ~cells, torch.arange(2)))
    assert certain_mask_distances(*given).isnan().tolist() == [False, True]
