"""Pyramid that goes down and up several times, with learned weights."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_GROUPS = 16


class BiFPN(nn.Module):
    """P3 to P7, each round top-down and then bottom-up.

    Args:
        in_channels: channels of the backbone's maps at strides 8, 16 and 32.
        channels: channels of every level, a multiple of 16. Published: 160.
        repeats: rounds. Published: 6.

    Source: EfficientDet (CVPR 2020), fast normalised fusion, with full 3x3 convolutions as in the
    published detectors; group norm, since batches may be small.
    """

    strides = (8, 16, 32, 64, 128)

    def __init__(self, in_channels: Sequence[int], channels: int, repeats: int = 6) -> None:
        super().__init__()
        self.channels = channels
        sources = [*in_channels, in_channels[-1]]  # P6 starts from the last map, P7 from P6
        self.lateral = nn.ModuleList(_normed(source, channels, 1) for source in sources)
        self.rounds = nn.ModuleList(_Round(channels, len(self.strides)) for _ in range(repeats))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """P3 to P7 from maps at strides 8, 16, 32: five maps (B, channels, h, w)."""
        sources = [*maps, maps[-1]]
        levels = [lateral(m) for lateral, m in zip(self.lateral, sources, strict=True)]
        levels[-1] = _halved(levels[-1])
        levels.append(_halved(levels[-1]))
        for one_round in self.rounds:
            levels = one_round(levels)
        return levels


class _Round(nn.Module):
    """Once down and once up."""

    def __init__(self, channels: int, num_levels: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(_Fusion(channels, 2) for _ in range(num_levels - 1))
        # A level in the middle also sees what it was before this round.
        self.up = nn.ModuleList(
            _Fusion(channels, 3 if level < num_levels - 1 else 2) for level in range(1, num_levels)
        )

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """As many maps of the same sizes."""
        middle = [*levels]
        for level in range(len(levels) - 2, -1, -1):
            above = F.interpolate(middle[level + 1], size=levels[level].shape[-2:], mode="nearest")
            middle[level] = self.down[level]([levels[level], above])
        out = [middle[0]]
        for level in range(1, len(levels)):
            seen = [levels[level], middle[level], _halved(out[-1])]
            if level == len(levels) - 1:
                del seen[1]  # the top level was not changed on the way down
            out.append(self.up[level - 1](seen))
        return out


class _Fusion(nn.Module):
    """A weighted mean of maps, and a convolution."""

    def __init__(self, channels: int, num_maps: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(num_maps))
        self.convolution = _normed(channels, channels, 3)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """(B, channels, h, w) from maps of that size."""
        weights = self.weights.relu()
        weights = weights / (weights.sum() + 1e-4)
        mixed = torch.stack([w * m for w, m in zip(weights, maps, strict=True)]).sum(dim=0)
        return self.convolution(F.silu(mixed))


def _normed(in_channels: int, channels: int, size: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, channels, size, padding=size // 2, bias=False)
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    return nn.Sequential(convolution, nn.GroupNorm(NUM_GROUPS, channels))


def _halved(maps: Tensor) -> Tensor:
    return F.max_pool2d(maps, kernel_size=3, stride=2, padding=1)
