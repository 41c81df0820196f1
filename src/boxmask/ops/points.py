"""Grids of points on feature maps, and which of them lie in the middle of a box."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from boxmask.waitless import numbered


@dataclass(frozen=True, kw_only=True)
class PointGrid:
    """All P points of a pyramid, level after level, row after row.

    Attributes:
        points: (P, 2) x, y of the cells' centres in input pixels.
        strides: (P,) pixels from one point to the next on its level.
        levels: (P,) int64 index of the level.
        sizes: (height, width) of each level in cells.
        level_strides: pixels from one point to the next of each level.
    """

    points: Tensor
    strides: Tensor
    levels: Tensor
    sizes: tuple[tuple[int, int], ...]
    level_strides: tuple[int, ...]

    @property
    def host(self) -> "PointGrid":
        """The same on the CPU, without a wait for the device."""
        if self.points.device.type == "cpu":
            return self
        return point_grid(self.sizes, self.level_strides, torch.device("cpu"))


def map_points(size: tuple[int, int], stride: float, device: torch.device) -> Tensor:
    """Centres of a map's cells in input pixels: (h * w, 2) x, y, row after row."""
    height, width = size
    y, x = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    return (torch.stack([x, y], dim=-1).reshape(-1, 2) + 0.5) * stride


def point_grid(
    sizes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device
) -> PointGrid:
    """The points of all levels, from the (height, width) and the stride of each.

    Sizes come back, so some grids are kept: never change one in place.
    """
    make = _point_grid if torch.compiler.is_compiling() else _kept_point_grid
    return make(tuple(sizes), tuple(strides), device)


@lru_cache(maxsize=16)
def _kept_point_grid(
    sizes: tuple[tuple[int, int], ...], strides: tuple[int, ...], device: torch.device
) -> PointGrid:
    with torch.inference_mode(False):
        return _point_grid(sizes, strides, device)


def _point_grid(
    sizes: tuple[tuple[int, int], ...], strides: tuple[int, ...], device: torch.device
) -> PointGrid:
    counts = [height * width for height, width in sizes]
    lengths = [torch.full((n,), s, device=device) for n, s in zip(counts, strides, strict=True)]
    return PointGrid(
        points=torch.cat([map_points(s, t, device) for s, t in zip(sizes, strides, strict=True)]),
        strides=torch.cat(lengths),
        levels=numbered(counts, device),
        sizes=sizes,
        level_strides=strides,
    )


def in_center_region(points: Tensor, boxes: Tensor, radius: Tensor) -> Tensor:
    """Whether each point lies near the centre of each box, and inside it.

    Args:
        points: (..., N, 2) x, y in pixels; N may be 1, for the same points for each box.
        boxes: (N, 4) in pixels.
        radius: (..., N) half the side, in pixels, of the square around a box's centre.

    Returns:
        (..., N) bool: strictly inside both the square and the box.

    Source: centre sampling of the FCOS journal version (TPAMI 2021).
    """
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2  # (N, 2)
    low = torch.maximum(centers - radius[..., None], boxes[:, :2])  # (..., N, 2)
    high = torch.minimum(centers + radius[..., None], boxes[:, 2:])
    inside = (points > low) & (points < high)
    return inside.all(dim=-1)
