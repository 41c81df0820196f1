import pytest
import torch
import torch.nn.functional as F
from torch import nn

from boxmask.detectors.mask_branch import MaskBranch, gather_patches


def test_patches_and_a_product_equal_a_convolution():
    convolution = nn.Conv2d(6, 5, 3, padding=1).double()
    maps = [torch.randn(2, 6, *size, dtype=torch.float64) for size in [(5, 7), (3, 4), (1, 2)]]
    everywhere = torch.cat(
        [convolution(level).flatten(2).transpose(1, 2) for level in maps], dim=1
    )  # (2, P, 5)
    count = everywhere.shape[1]
    image_index = torch.arange(2).repeat_interleave(count)
    position = torch.arange(count).repeat(2)
    order = torch.randperm(2 * count)
    image_index, position = image_index[order], position[order]
    for level in maps:
        level.requires_grad_()
    patches = gather_patches(maps, image_index, position)
    ours = F.linear(patches, convolution.weight.flatten(1), convolution.bias)
    torch.testing.assert_close(ours, everywhere[image_index, position])
    weight = torch.randn_like(ours)
    mine = torch.autograd.grad((ours * weight).sum(), maps)
    everywhere = torch.cat([convolution(level).flatten(2).transpose(1, 2) for level in maps], dim=1)
    theirs = torch.autograd.grad((everywhere[image_index, position] * weight).sum(), maps)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_no_patches():
    maps = [torch.randn(1, 4, 3, 3, requires_grad=True)]
    none = torch.zeros(0, dtype=torch.int64)
    patches = gather_patches(maps, none, none)
    assert patches.shape == (0, 36)
    patches.sum().backward()


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_branch_works_at_the_finest_map(norm):
    branch = MaskBranch(8, 16, 4, norm)
    levels = [torch.randn(2, 8, size, 2 * size) for size in (16, 8, 4, 2, 1)]
    features = branch(levels, None)
    assert features.shape == (2, 4, 16, 32)
    assert (features < 0).any()  # signed
    kinds = {type(m) for m in branch.modules() if isinstance(m, nn.BatchNorm2d | nn.GroupNorm)}
    assert kinds == {nn.BatchNorm2d if norm == "batch" else nn.GroupNorm}


def test_two_coarsest_levels_are_not_read():
    branch = MaskBranch(8, 16, 4, "group")
    levels = [torch.randn(1, 8, size, size) for size in (16, 8, 4, 2, 1)]
    changed = [*levels[:3], levels[3] + 1, levels[4] + 1]
    assert torch.equal(branch(levels, None), branch(changed, None))


def test_gradients_are_the_same_each_time():
    """Also where points share neighbours and several cores sum up."""
    level = torch.randn(1, 32, 12, 12, requires_grad=True)
    position = torch.randint(0, 144, (2000,))
    weight = torch.randn(2000, 32 * 9)
    gradients = []
    for _ in range(10):
        patches = gather_patches([level], torch.zeros_like(position), position)
        gradients.append(torch.autograd.grad((patches * weight).sum(), level)[0])
    assert all(torch.equal(one, gradients[0]) for one in gradients)
