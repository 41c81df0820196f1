"""Mask features that all objects of an image share."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from boxmask.ops.masks import aligned_upsample


class MaskBranch(nn.Module):
    """Joins P3, P4 and P5 at stride 8 and turns them into a few signed mask features.

    Args:
        in_channels: channels of the pyramid.
        channels: channels inside the branch.
        out_channels: mask features D.
        norm: "batch" as published, or "group", which small batches need.

    Source: CondInst (ECCV 2020), bottom branch.
    """

    def __init__(self, in_channels: int, channels: int, out_channels: int, norm: str) -> None:
        super().__init__()
        self.refine = nn.ModuleList(_block(in_channels, channels, norm) for _ in range(3))
        self.tower = nn.Sequential(
            *(_block(channels, channels, norm) for _ in range(4)),
            nn.Conv2d(channels, out_channels, 1),
        )

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """(B, D, h, w) at the first level's stride from the pyramid's maps, finest first."""
        merged = self.refine[0](levels[0])
        for refine, level in zip(list(self.refine)[1:], levels[1:3], strict=True):
            coarse = refine(level)
            factor = merged.shape[-2] // coarse.shape[-2]
            merged = merged + aligned_upsample(coarse, factor)
        return self.tower(merged)


def _block(in_channels: int, channels: int, norm: str) -> nn.Sequential:
    normalization = nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(16, channels)
    convolution = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, normalization, nn.ReLU())


def gather_patches(maps: Sequence[Tensor], image_index: Tensor, position: Tensor) -> Tensor:
    """The 3x3 neighbourhoods of chosen points of a pyramid, zero outside the map.

    A convolution is only worth its price where somebody reads it: the controller has hundreds of
    outputs and is read at a few dozen points of thousands.

    Args:
        maps: per level (B, C, h, w).
        image_index: (K,) image of each point.
        position: (K,) place of each point, counted level after level, row after row.

    Returns:
        (K, C * 9) in the order of a convolution's weights.
    """
    channels = maps[0].shape[1]
    patches = maps[0].new_zeros((len(position), channels * 9))
    offset = 0
    for level in maps:
        height, width = level.shape[-2:]
        padded = torch.nn.functional.pad(level, (1, 1, 1, 1))
        rows = padded.permute(0, 2, 3, 1).reshape(-1, channels)  # (B * (h + 2) * (w + 2), C)
        here = ((position >= offset) & (position < offset + height * width)).nonzero().squeeze(-1)
        local = position[here] - offset
        corner = (image_index[here] * (height + 2) + local // width) * (width + 2) + local % width
        steps = torch.arange(3, device=level.device)
        window = (steps[:, None] * (width + 2) + steps).flatten()  # (9,)
        found = rows[corner[:, None] + window]  # (k, 9, C)
        patches = patches.index_put((here,), found.transpose(1, 2).flatten(1))
        offset += height * width
    return patches
