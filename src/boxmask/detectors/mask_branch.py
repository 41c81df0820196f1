"""Mask features that all objects of an image share."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from boxmask.ops.masks import aligned_upsample
from boxmask.waitless import numbered, send


class MaskBranch(nn.Module):
    """Joins P3, P4 and P5 at stride 8 and turns them into a few signed mask features.

    Args:
        in_channels: channels of the pyramid.
        channels: channels inside the branch.
        out_channels: mask features D.
        norm: "batch" as published, or "group", which small batches need.
        fine_channels: channels of a backbone map at stride 4 that sharpens the features, or 0 for
            none, as published.

    Source: CondInst (ECCV 2020), bottom branch; the fine part is ours.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        out_channels: int,
        norm: str,
        fine_channels: int = 0,
    ) -> None:
        super().__init__()
        self.fine = None
        if fine_channels:
            self.fine = FinePart(fine_channels, out_channels, norm)
            out_channels = self.fine.channels
        self.refine = nn.ModuleList(_block(in_channels, channels, norm) for _ in range(3))
        self.tower = nn.Sequential(
            *(_block(channels, channels, norm) for _ in range(4)),
            nn.Conv2d(channels, out_channels, 1),
        )

    @property
    def map_parts(self) -> list[nn.Module]:
        """See `Detector.map_parts`: the convolutions.

        Of the upsampling between them torch.compile expects another memory order than it gets.
        """
        return [*self.refine, self.tower, *([self.fine.join] if self.fine else [])]

    def forward(self, levels: Sequence[Tensor], fine: Tensor | None) -> Tensor:
        """Mask features (B, D, h, w).

        Args:
            levels: the pyramid's maps, finest first.
            fine: the backbone's map at stride 4, where the branch has a fine part.

        Returns:
            At stride 4 with a fine part, else at the first level's stride.
        """
        merged = self.refine[0](levels[0])
        for refine, level in zip(list(self.refine)[1:], levels[1:3], strict=True):
            coarse = refine(level)
            factor = merged.shape[-2] // coarse.shape[-2]
            merged = merged + aligned_upsample(coarse, factor)
        features = self.tower(merged)
        if self.fine is None or fine is None:
            return features
        return self.fine(features, fine)


class FinePart(nn.Module):
    """Brings mask features from stride 8 to stride 4 with the help of the backbone's edges.

    Args:
        fine_channels: channels of the backbone's map at stride 4.
        out_channels: mask features D.
        norm: see `MaskBranch`.
    """

    channels = 32

    def __init__(self, fine_channels: int, out_channels: int, norm: str) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(fine_channels, self.channels, 1)
        self.join = nn.Sequential(
            _block(self.channels, self.channels, norm),
            _block(self.channels, self.channels, norm),
            nn.Conv2d(self.channels, out_channels, 1),
        )

    def forward(self, features: Tensor, fine: Tensor) -> Tensor:
        """(B, D, 2h, 2w) from features (B, 32, h, w) and the backbone's map (B, F, 2h, 2w)."""
        return self.join(aligned_upsample(features, 2) + self.lateral(fine))


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
    channels, device = maps[0].shape[1], position.device
    sizes = [(level.shape[-2], level.shape[-1]) for level in maps]
    level_of = numbered([height * width for height, width in sizes], device)[position]  # (K,)
    # Of each level: its first point and its first row below, its rows a picture, and its width.
    table, point, row = [], 0, 0
    for height, width in sizes:
        table.append((point, row, (height + 2) * (width + 2), width))
        point += height * width
        row += len(maps[0]) * (height + 2) * (width + 2)
    of_each = send(torch.tensor(table), device)[level_of]  # (K, 4)
    first_point, first_row, rows_a_picture, width = of_each.unbind(1)
    local = position - first_point
    corner = first_row + image_index * rows_a_picture
    corner += local // width * (width + 2) + local % width
    steps = torch.arange(3, device=device)
    windows = steps[:, None] * (width + 2)[:, None, None] + steps  # (K, 3, 3)
    rows = torch.cat(
        [F.pad(one, (1, 1, 1, 1)).permute(0, 2, 3, 1).reshape(-1, channels) for one in maps]
    )
    # Not rows[...], whose gradient is summed in another order each time on several cores.
    found = F.embedding(corner[:, None] + windows.flatten(1), rows)  # (K, 9, C)
    return found.transpose(1, 2).flatten(1)
