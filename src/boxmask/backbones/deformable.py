"""Turns convolutions of a ResNet into modulated deformable ones."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

# Stages at strides 8, 16 and 32, by timm's names.
_STAGES = ("layer2", "layer3", "layer4")


class ModulatedDeformConv(nn.Module):
    """A convolution that looks where it wants to, and as much as it wants to.

    Starts as the plain convolution whose weights it takes, at half its strength, as published: all
    offsets are 0 and all strengths one half.

    Args:
        plain: a convolution without groups.

    Source: Deformable ConvNets v2 (CVPR 2019).
    """

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__()
        self.weight = plain.weight
        self.bias = plain.bias
        self.stride, self.padding, self.dilation = plain.stride, plain.padding, plain.dilation
        taps = plain.kernel_size[0] * plain.kernel_size[1]
        self.offset = nn.Conv2d(
            plain.in_channels,
            3 * taps,  # down, right, strength
            plain.kernel_size,  # pyrefly: ignore
            plain.stride,  # pyrefly: ignore
            plain.padding,  # pyrefly: ignore
            plain.dilation,  # pyrefly: ignore
        )
        self._ends = (0, 2 * taps, 3 * taps)
        nn.init.zeros_(self.offset.weight)
        nn.init.constant_(self.offset.bias, 0.0)  # pyrefly: ignore

    def forward(self, maps: Tensor) -> Tensor:
        """(B, out, h, w) from (B, in, H, W), in float32: offsets are too fine for less."""
        with torch.autocast(maps.device.type, enabled=False):
            maps = maps.float()
            found = self.offset(maps)
            offset, strength = (found[:, start:end] for start, end in pairwise(self._ends))
            return deform_conv2d(
                maps,
                offset,
                self.weight,
                self.bias,
                stride=self.stride,  # pyrefly: ignore
                padding=self.padding,  # pyrefly: ignore
                dilation=self.dilation,  # pyrefly: ignore
                mask=strength.sigmoid(),
            )


def make_deformable(body: nn.Module, interval: int) -> int:
    """Makes the 3x3 convolution of every `interval`-th block deformable, from stride 8 on.

    Args:
        body: a timm ResNet with `features_only`, changed in place.
        interval: blocks from one to the next; the first block of a stage is one.

    Returns:
        How many there are now.

    Raises:
        ValueError: If the body is no ResNet.
    """
    count = 0
    for stage in _STAGES:
        blocks = getattr(body, stage, None)
        if not isinstance(blocks, nn.Sequential):
            raise ValueError("deformable convolutions are known for ResNets only")
        for block in list(blocks)[::interval]:
            plain = getattr(block, "conv2", None)
            if not isinstance(plain, nn.Conv2d) or plain.kernel_size != (3, 3) or plain.groups > 1:
                raise ValueError("deformable convolutions are known for plain ResNets only")
            block.conv2 = ModulatedDeformConv(plain)
            count += 1
    return count
