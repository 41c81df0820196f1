"""The question after colours for GPUs, in Triton's interpreter where there is no GPU."""

import pytest
import torch

from boxmask.ops import color_model
from boxmask.ops.color_model import fused_comparison, plain_comparison, scores_by_colors

pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def scene(seed, count=3, size=(29, 37)):
    """Objects (N, h, w), cells outside (B, h, w), colours, pictures, boxes that reach out."""
    random = torch.Generator().manual_seed(seed)
    middles = torch.rand(count, 2, generator=random) * torch.tensor([size[1], size[0]])
    sides = torch.rand(count, 2, generator=random) * 20 + 0.3
    lab = torch.randn(2, 3, *size, generator=random) * 6
    mask = torch.rand(count, *size, generator=random)
    outside = torch.rand(2, *size, generator=random) < 0.6
    index = torch.randint(2, (count,), generator=random)
    boxes = torch.cat([middles - sides / 2, middles + sides / 2], dim=1)
    return mask, outside, lab, index, boxes


def on_device(given):
    return tuple(one.to(DEVICE) for one in given)


@pytest.mark.parametrize("seed", range(2))
def test_equals_the_plain_form(seed):
    """That of a CPU, which subtracts places and colours; a GPU's multiplies them out."""
    given = scene(seed)
    found, expected = fused_comparison(*on_device(given)), plain_comparison(*given)
    for fused, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(fused.cpu(), plain, rtol=2e-4, atol=1e-6)


def test_scores_are_the_same_in_both_forms(monkeypatch):
    scores, outside, lab, index, boxes = scene(7)
    own = torch.rand(scores.shape, generator=torch.Generator().manual_seed(8)) < 0.9
    given = scores, lab, index, boxes, own, outside
    plain = scores_by_colors(*given)
    assert (plain != scores).any()
    monkeypatch.setattr(color_model, "fused_kernels_run", lambda kernels, device: True)
    fused = scores_by_colors(*on_device(given)).cpu()
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-5)
