"""The guided filter for GPUs, in Triton's interpreter where there is no GPU."""

import pytest
import torch

from boxmask.ops import guided_filter as module
from boxmask.ops.guided_filter import color_guide, guided_filter, plain_guide

pytest.importorskip("triton")
from boxmask.ops import guided_filter_triton

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def scene(size=(13, 18)):
    """Smooth colours, padding in the second picture, masks."""
    colors = torch.rand(2, 3, *size)
    valid = torch.ones(2, *size, dtype=torch.bool)
    valid[1, 9:], valid[1, :, 15:] = False, False
    maps = torch.zeros(4, *size)
    maps[0, 3:9, 4:12] = 1
    maps[1] = (torch.rand(size) < 0.5).float()
    maps[3] = 1
    return colors, valid, maps, torch.tensor([0, 1, 1, 0])


@pytest.mark.parametrize(("radius", "smoothness"), [(1, 1e-2), (2, 1e-4), (3, 1e-1)])
def test_equals_the_plain_form(monkeypatch, radius, smoothness):
    colors, valid, maps, index = scene()
    guide = plain_guide(colors.double(), valid, radius, smoothness)
    filtered, explained = module.filter_by(maps.double(), index, guide)
    monkeypatch.setattr(module, "fused_kernels_run", lambda kernels, device: True)
    settings = {"radius": radius, "smoothness": smoothness}
    fused = color_guide(colors.to(DEVICE), valid.to(DEVICE), **settings)
    for found, expected in zip(fused.maps, guide.maps, strict=True):
        limit = 1e-5 * float(expected.abs().max())
        torch.testing.assert_close(found.double().cpu(), expected, rtol=0, atol=limit)
    found, shown = module.filter_by(maps.to(DEVICE), index.to(DEVICE), fused)
    torch.testing.assert_close(found.double().cpu(), filtered, rtol=0, atol=1e-4)
    torch.testing.assert_close(shown.double().cpu(), explained, rtol=0, atol=1e-3)
    assert not found[1][~valid[1]].any()
    assert bool((found[0].cpu() - maps[0]).any())


def test_grey_pictures_are_exact_too(monkeypatch):
    """Where the covariance is singular but for the smoothness."""
    grey = torch.rand(1, 1, 12, 12).expand(1, 3, 12, 12).contiguous()
    valid = torch.ones(1, 12, 12, dtype=torch.bool)
    expected = plain_guide(grey.double(), valid, 2, 1e-5).inverse
    monkeypatch.setattr(module, "fused_kernels_run", lambda kernels, device: True)
    found = color_guide(grey.to(DEVICE), valid.to(DEVICE), radius=2, smoothness=1e-5).inverse
    torch.testing.assert_close(found.double().cpu(), expected, rtol=1e-4, atol=1)


def test_no_maps(monkeypatch):
    monkeypatch.setattr(module, "fused_kernels_run", lambda kernels, device: True)
    colors, valid, maps, index = (one.to(DEVICE) for one in scene())
    guide = color_guide(colors, valid, radius=2, smoothness=1e-4)
    form = module.filter_by if DEVICE.type == "cpu" else guided_filter
    found, explained = form(maps[:0], index[:0], guide)
    assert found.shape == (0, 13, 18)
    assert explained.shape == (0,)


def test_crowds_are_filtered_in_parts(monkeypatch):
    monkeypatch.setattr(module, "fused_kernels_run", lambda kernels, device: True)
    colors, valid, maps, index = (one.to(DEVICE) for one in scene())
    guide = color_guide(colors, valid, radius=1, smoothness=1e-4)
    whole = module.filter_by(maps, index, guide)
    monkeypatch.setattr(guided_filter_triton, "CELLS_TOGETHER", 3 * maps[0].numel())
    for part, expected in zip(module.filter_by(maps, index, guide), whole, strict=True):
        assert torch.equal(part, expected)
