"""Ties and hidden objects for GPUs, in Triton's interpreter where there is no GPU."""

import pytest
import torch

from boxmask.ops import ties
from boxmask.ops.affinity import neighbor_valid
from boxmask.ops.contrast import color_contrast
from boxmask.ops.ties import Textures, hidden_cells, plain_ties, tied_neighbors

pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def scene(seed, size=(9, 17), channels=33):
    """Colours, cells that count, features of unlike scales, cells of hidden objects."""
    random = torch.Generator().manual_seed(seed)
    lab = torch.randn(2, 3, *size, generator=random) * 3
    valid = torch.ones(2, *size, dtype=torch.bool)
    valid[1, 7:] = False
    scales = torch.rand(channels, generator=random) * 9 + 0.1
    features = torch.randn(2, channels, *size, generator=random) * scales[:, None, None] + 3
    features[:, 3] = 7.0  # a channel that says nothing
    hidden = torch.zeros(2, *size, dtype=torch.bool)
    hidden[0, 2:6, 6:13] = True
    return lab, valid, features, hidden


def textures_of(features, hidden):
    return Textures(features=features, hidden=hidden, color_reach=9.0, feature_reach=2.5)


def fused(monkeypatch):
    """What is asked for on this device is done by the kernels."""
    monkeypatch.setattr(ties, "fused_kernels_run", lambda kernels, device: True)


def on_device(*given):
    return tuple(one.to(DEVICE) for one in given)


@pytest.mark.parametrize("dilation", [1, 2, 30])
def test_ties_equal_the_plain_form(monkeypatch, dilation):
    lab, valid, features, hidden = scene(dilation)
    limits = {"dilation": dilation, "least_similarity": 0.2}
    expected = plain_ties(lab, valid, textures_of(features, hidden), **limits)
    by_color = plain_ties(lab, valid, None, **limits)
    assert dilation == 30 or (expected != by_color).any()
    fused(monkeypatch)
    lab, valid, features, hidden = on_device(lab, valid, features, hidden)
    assert torch.equal(tied_neighbors(lab, valid, None, **limits).cpu(), by_color)
    for layout in (torch.contiguous_format, torch.channels_last):
        textures = textures_of(features.to(memory_format=layout), hidden)
        assert torch.equal(tied_neighbors(lab, valid, textures, **limits).cpu(), expected)


def test_features_of_half_precision_are_taken_as_they_are(monkeypatch):
    lab, valid, features, hidden = scene(5)
    features = features.bfloat16()
    limits = {"dilation": 2, "least_similarity": 0.2}
    expected = plain_ties(lab, valid, textures_of(features, hidden), **limits)
    fused(monkeypatch)
    lab, valid, features, hidden = on_device(lab, valid, features, hidden)
    textures = textures_of(features, hidden)
    assert torch.equal(tied_neighbors(lab, valid, textures, **limits).cpu(), expected)


def test_no_limit_ties_all_that_count(monkeypatch):
    lab, valid, features, hidden = scene(6)
    limits = {"dilation": 2, "least_similarity": 0.0}
    both = None, textures_of(features, hidden)
    expected = [tied_neighbors(lab, valid, one, **limits) for one in both]
    assert torch.equal(expected[0], neighbor_valid(valid, 2))
    assert not (expected[1] & ~expected[0]).any()
    fused(monkeypatch)
    lab, valid, features, hidden = on_device(lab, valid, features, hidden)
    both = None, textures_of(features, hidden)
    for given, plain in zip(both, expected, strict=True):
        assert torch.equal(tied_neighbors(lab, valid, given, **limits).cpu(), plain)


@pytest.mark.parametrize("seed", range(2))
def test_hidden_cells_equal_the_plain_form(monkeypatch, seed):
    random = torch.Generator().manual_seed(seed)
    lab = torch.randn(2, 3, 25, 37, generator=random) * 6
    outside = torch.rand(2, 25, 37, generator=random) < 0.6
    middles = torch.rand(9, 2, generator=random) * torch.tensor([148, 100])
    sides = torch.rand(9, 2, generator=random) ** 2 * 90 + 1
    boxes = torch.cat([middles - sides / 2, middles + sides / 2], dim=1).split([4, 5])
    index = torch.tensor([0] * 4 + [1] * 5)
    contrast = color_contrast(lab, outside, torch.cat(boxes), index, 4)
    limits = [float(contrast.sort().values[[k, k + 1]].mean()) for k in (0, 4, 7)]
    expected = [hidden_cells(lab, outside, boxes, 4, limit) for limit in limits]
    assert expected[0].any()
    assert not expected[2].all()
    fused(monkeypatch)
    lab, outside = on_device(lab, outside)
    for limit, plain in zip(limits, expected, strict=True):
        found = hidden_cells(lab, outside, on_device(*boxes), 4, limit)
        assert torch.equal(found.cpu(), plain)


def test_an_object_with_nothing_around_hides_only_without_a_limit(monkeypatch):
    fused(monkeypatch)
    lab = torch.zeros(1, 3, 8, 8, device=DEVICE)
    outside = torch.zeros(1, 8, 8, dtype=torch.bool, device=DEVICE)
    boxes = [torch.tensor([[4.0, 4, 20, 28]], device=DEVICE)]
    assert not hidden_cells(lab, outside, boxes, 4, 1e9).any()
    assert int(hidden_cells(lab, outside, boxes, 4, torch.inf).sum()) == 4 * 6


def test_without_boxes_nothing_hides(monkeypatch):
    fused(monkeypatch)
    lab = torch.zeros(1, 3, 8, 8, device=DEVICE)
    outside = torch.ones(1, 8, 8, dtype=torch.bool, device=DEVICE)
    assert not hidden_cells(lab, outside, [torch.zeros(0, 4, device=DEVICE)], 4, torch.inf).any()
