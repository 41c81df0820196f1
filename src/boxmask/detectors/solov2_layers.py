"""SOLOv2's layers: what cells predict, and the mask features that all cells share."""

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from boxmask.ops.masks import aligned_upsample

GROUPS = 32


class CellHead(nn.Module):
    """Class tower and kernel tower, shared over the levels.

    Args:
        in_channels: channels of the pyramid.
        channels: channels of the towers.
        depth: 3x3 convolutions of each tower.
        num_classes: classes.
        kernel_channels: numbers E that a cell predicts for its mask.
        prior: class score of every cell before training, in 0..1.

    Source: SOLOv2 (NeurIPS 2020), category and kernel branch.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        depth: int,
        num_classes: int,
        kernel_channels: int,
        prior: float,
    ) -> None:
        super().__init__()
        self.class_tower = _tower(in_channels, channels, depth)
        self.kernel_tower = _tower(in_channels + 2, channels, depth)
        self.classes = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.kernels = nn.Conv2d(channels, kernel_channels, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.constant_(cast(Tensor, self.classes.bias), -math.log(1 / prior - 1))

    def forward(
        self, levels: Sequence[Tensor], sides: Sequence[int], *, classes: bool = True
    ) -> tuple[Tensor | None, Tensor]:
        """Predictions of the P cells of all levels.

        Args:
            levels: maps P2 to P6, each (B, C, h, w).
            sides: cells along each side of a level's grid.
            classes: whether classes are wanted.

        Returns:
            Class logits (B, P, classes), or None where they are not wanted, and kernels (B, P, E).
        """
        class_logits, kernels = [], []
        for level, side in zip(_resampled(levels), sides, strict=True):
            cells = _resized(with_coordinates(level), (side, side))  # (B, C + 2, side, side)
            kernels.append(_cells_last(self.kernels(self.kernel_tower(cells))))
            if classes:
                class_logits.append(_cells_last(self.classes(self.class_tower(cells[:, :-2]))))
        return torch.cat(class_logits, dim=1) if classes else None, torch.cat(kernels, dim=1)


class MaskFeatures(nn.Module):
    """Joins P2 to P5 at stride 4; the coarsest map is told where its cells are.

    Args:
        in_channels: channels of the pyramid.
        channels: channels inside.
        out_channels: mask features D.

    Source: SOLOv2 (NeurIPS 2020), unified mask feature.
    """

    num_levels = 4

    def __init__(self, in_channels: int, channels: int, out_channels: int) -> None:
        super().__init__()
        last = self.num_levels - 1
        self.branches = nn.ModuleList(
            nn.ModuleList(
                _block((in_channels + 2 * (level == last)) if step == 0 else channels, channels)
                for step in range(max(level, 1))
            )
            for level in range(self.num_levels)
        )
        self.join = nn.Sequential(
            nn.Conv2d(channels, out_channels, 1, bias=False), _norm(out_channels), nn.ReLU()
        )

    @property
    def map_parts(self) -> list[nn.Module]:
        """See `Detector.map_parts`: the convolutions, as in `MaskBranch.map_parts`."""
        branches = [cast(nn.ModuleList, branch) for branch in self.branches]
        return [*(block for branch in branches for block in branch), self.join]

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Mask features (B, D, h, w) >= 0 at stride 4 from the maps P2 to P5."""
        inputs = [*levels[: self.num_levels - 1], with_coordinates(levels[self.num_levels - 1])]
        merged = None
        for level, (branch, features) in enumerate(zip(self.branches, inputs, strict=True)):
            for block in cast(nn.ModuleList, branch):
                features = block(features)
                features = aligned_upsample(features, 2) if level else features
            merged = features if merged is None else merged + features
        return self.join(merged)


def with_coordinates(maps: Tensor) -> Tensor:
    """Adds x and y, from -1 at the first cell to 1 at the last: (B, C, h, w) to (B, C + 2, h, w).

    Source: CoordConv (NeurIPS 2018).
    """
    count, _, height, width = maps.shape
    x = torch.linspace(-1, 1, width, device=maps.device, dtype=maps.dtype)
    y = torch.linspace(-1, 1, height, device=maps.device, dtype=maps.dtype)
    x = x.expand(count, 1, height, width)
    y = y[:, None].expand(count, 1, height, width)
    return torch.cat([maps, x, y], dim=1)


def _resampled(levels: Sequence[Tensor]) -> list[Tensor]:
    """P2 to P6 at strides 8, 8, 16, 32, 32."""
    first, *middle, last = levels
    return [
        _resized(first, _size(middle[0])),
        *middle,
        _resized(last, _size(middle[-1])),
    ]


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def _size(maps: Tensor) -> tuple[int, int]:
    return maps.shape[-2], maps.shape[-1]


def _cells_last(maps: Tensor) -> Tensor:
    """(B, C, h, w) to (B, h * w, C)."""
    return maps.flatten(2).transpose(1, 2)


def _tower(in_channels: int, channels: int, depth: int) -> nn.Sequential:
    return nn.Sequential(
        *(_block(channels if step else in_channels, channels) for step in range(depth))
    )


def _block(in_channels: int, channels: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, _norm(channels), nn.ReLU())


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)
