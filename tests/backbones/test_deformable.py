import pytest
import torch
from torch import nn

from boxmask.backbones.backbone import BackboneSettings
from boxmask.backbones.deformable import ModulatedDeformConv, make_deformable
from boxmask.errors import UserError


@pytest.fixture
def plain():
    torch.manual_seed(0)
    return nn.Conv2d(6, 4, 3, stride=2, padding=1, bias=True)


def test_starts_as_half_of_the_plain_convolution(plain):
    """All offsets are 0 and all strengths 0.5 before training."""
    maps = torch.randn(2, 6, 9, 7)
    found = ModulatedDeformConv(plain)(maps) - plain.bias[:, None, None]
    expected = (plain(maps) - plain.bias[:, None, None]) / 2
    torch.testing.assert_close(found, expected)


def test_offsets_against_loops(plain):
    """Whole-pixel offsets move the taps; strengths weigh them."""
    deformable = ModulatedDeformConv(plain)
    maps = torch.randn(1, 6, 8, 8)
    offsets = torch.randint(-2, 3, (18,)).float()
    strengths = torch.randn(9)
    with torch.no_grad():
        deformable.offset.bias.copy_(torch.cat([offsets, strengths]))
        found = deformable(maps)
    expected = plain.bias[:, None, None].expand(4, 4, 4).clone().detach()
    for row in range(4):
        for column in range(4):
            for tap in range(9):
                y = row * 2 - 1 + tap // 3 + int(offsets[2 * tap])
                x = column * 2 - 1 + tap % 3 + int(offsets[2 * tap + 1])
                if 0 <= y < 8 and 0 <= x < 8:
                    weight = plain.weight[:, :, tap // 3, tap % 3].detach()
                    expected[:, row, column] += weight @ maps[0, :, y, x] * strengths[tap].sigmoid()
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-5)


def test_every_third_block_of_resnet_101():
    backbone = BackboneSettings(name="resnet101", pretrained=False, deform_interval=3).build()
    made = [name for name, m in backbone.named_modules() if isinstance(m, ModulatedDeformConv)]
    blocks = {stage: [n for n in made if f".{stage}." in n] for stage in ("layer2", "layer3")}
    assert len(blocks["layer2"]) == 2
    assert len(blocks["layer3"]) == 8
    assert len(made) == 2 + 8 + 1


def test_gradients_reach_offsets():
    settings = BackboneSettings(
        name="resnet26", pretrained=False, frozen_norm=False, deform_interval=3
    )
    backbone = settings.build()
    for name, parameter in backbone.named_parameters():
        if name.endswith("bn3.weight"):
            torch.nn.init.ones_(parameter)  # residual branches start switched off
    maps = backbone(torch.rand(1, 3, 64, 64), torch.ones(1, 64, 64, dtype=torch.bool))
    assert [tuple(m.shape[1:]) for m in maps] == [(512, 8, 8), (1024, 4, 4), (2048, 2, 2)]
    sum(m.square().mean() for m in maps).backward()
    offset = next(m for m in backbone.modules() if isinstance(m, ModulatedDeformConv)).offset
    assert offset.weight.grad.abs().sum() > 0


def test_other_bodies_are_refused():
    with pytest.raises(ValueError, match="ResNets"):
        make_deformable(nn.Sequential(), 3)
    with pytest.raises(UserError, match="ResNets"):
        BackboneSettings(pretrained=False, deform_interval=3).build()
