"""Feature pyramid with P3 to P7."""

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn


class FeaturePyramid(nn.Module):
    """Top-down pyramid over three maps, with two more levels on top.

    Args:
        in_channels: channels of the backbone's maps at strides 8, 16 and 32.
        channels: channels of every level.

    Source: FPN (CVPR 2017); P6 and P7 by stride-2 convolutions from P5 as in FCOS (ICCV 2019).
    """

    strides = (8, 16, 32, 64, 128)

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.output = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels
        )
        self.p6 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(cast(Tensor, module.bias))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """P3 to P7 from maps at strides 8, 16, 32: five maps (B, channels, h, w)."""
        merged = [lateral(m) for lateral, m in zip(self.lateral, maps, strict=True)]
        for level in range(len(merged) - 2, -1, -1):
            finer = merged[level]
            coarser = F.interpolate(merged[level + 1], size=finer.shape[-2:], mode="nearest")
            merged[level] = finer + coarser
        levels = [output(m) for output, m in zip(self.output, merged, strict=True)]
        levels.append(self.p6(levels[-1]))
        levels.append(self.p7(F.relu(levels[-1])))
        return levels
