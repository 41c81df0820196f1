"""The question after colours for GPUs, in Triton's interpreter where there is no GPU."""

import pytest
import torch

from boxmask.ops import color_model
from boxmask.ops.color_model import fused_comparison, plain_comparison, scores_by_colors

pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def scene(seed, count=4, size=(29, 37)):
    """Objects (N, h, w), cells outside (B, h, w), colours, pictures, boxes that reach out."""
    random = torch.Generator().manual_seed(seed)
    middles = torch.rand(count, 2, generator=random) * torch.tensor([size[1], size[0]])
    sides = torch.rand(count, 2, generator=random) * 20 + 0.3
    lab = torch.randn(2, 3, *size, generator=random) * 6
    mask = torch.rand(count, *size, generator=random)
    outside = torch.rand(2, *size, generator=random) < 0.6
    index = torch.randint(2, (count,), generator=random)
    boxes = torch.cat([middles - sides / 2, middles + sides / 2], dim=1)
    return tuple(one.to(DEVICE) for one in (mask, outside, lab, index, boxes))


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_plain_form(seed):
    given = scene(seed)
    for fused, plain in zip(fused_comparison(*given), plain_comparison(*given), strict=True):
        torch.testing.assert_close(fused, plain, rtol=2e-4, atol=1e-6)


def test_scores_are_the_same_in_both_forms(monkeypatch):
    scores, outside, lab, index, boxes = scene(7)
    own = torch.rand(scores.shape, generator=torch.Generator().manual_seed(8)).to(DEVICE) < 0.9
    found = []
    for fused in (True, False):
        monkeypatch.setattr(color_model, "fused_kernels_run", lambda device, fused=fused: fused)
        found.append(scores_by_colors(scores, lab, index, boxes, own, outside))
    assert (found[1] != scores).any()
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
