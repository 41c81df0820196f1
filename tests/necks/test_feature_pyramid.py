import pytest
import torch

from boxmask.necks.feature_pyramid import FeaturePyramid


@pytest.mark.parametrize("size", [(64, 96), (32, 32), (256, 320)])
def test_five_levels(size):
    neck = FeaturePyramid((8, 12, 16), 32)
    maps = [
        torch.rand(2, channels, size[0] // stride, size[1] // stride)
        for channels, stride in zip((8, 12, 16), (8, 16, 32), strict=True)
    ]
    levels = neck(maps)
    assert neck.strides == (8, 16, 32, 64, 128)
    for level, stride in zip(levels, neck.strides, strict=True):
        assert level.shape == (2, 32, -(-size[0] // stride), -(-size[1] // stride))


def test_coarse_maps_reach_fine_levels_and_not_the_other_way():
    neck = FeaturePyramid((4, 4, 4), 8)
    maps = [torch.rand(1, 4, size, size) for size in (16, 8, 4)]
    before = neck(maps)
    changed = neck([maps[0] + 1, *maps[1:]])
    assert not torch.equal(before[0], changed[0])
    assert all(torch.equal(a, b) for a, b in zip(before[1:], changed[1:], strict=True))
    changed = neck([*maps[:2], maps[2] + 1])
    assert not any(torch.equal(a, b) for a, b in zip(before, changed, strict=True))
