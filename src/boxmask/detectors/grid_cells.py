"""SOLOv2's grids of cells, and which cells may explain which boxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from boxmask.structures import Targets
from boxmask.waitless import numbered, send


@dataclass(frozen=True, kw_only=True)
class GridSettings:
    """Square grids over the whole padded image, finest first; a level has one grid.

    Attributes:
        sides: cells along each side of a level's grid.
        size_ranges: (least, most) square root of a box's area that a level takes, in input pixels.
            Boxes beyond all ranges count as those at the ends.
        center_share: width and height of the region of positives around a box's middle, as a
            share of the box's, in 0..1.
    """

    sides: tuple[int, ...] = (40, 36, 24, 16, 12)
    size_ranges: tuple[tuple[float, float], ...] = (
        (1.0, 96.0), (48.0, 192.0), (96.0, 384.0), (192.0, 768.0), (384.0, 2048.0),
    )  # fmt: skip
    center_share: float = 0.2

    def __post_init__(self) -> None:
        if len(self.sides) != len(self.size_ranges):
            raise ValueError(
                f"size_ranges: expected one for each of {len(self.sides)} grids, "
                f"got {len(self.size_ranges)}"
            )
        if any(finer[1] < coarser[0] for finer, coarser in pairwise(self.size_ranges)):
            raise ValueError("size_ranges: expected ranges without a gap: some boxes have no level")


@dataclass(frozen=True, kw_only=True)
class CellTargets:
    """What each of the P cells should predict, and which cells are positive.

    Attributes:
        labels: (B, P) int64 class, or -1 for background.
        image_index: (M,) image of each positive, not decreasing.
        position: (M,) its place among the P cells.
        instance_index: (M,) its object among all objects of the batch.
        counts: how many of them each object has, known to the host.
    """

    labels: Tensor
    image_index: Tensor
    position: Tensor
    instance_index: Tensor
    counts: tuple[int, ...]


def cell_middles(
    settings: GridSettings, image_size: tuple[int, int], device: torch.device
) -> Tensor:
    """Middles of all cells in input pixels: (P, 2) x, y, level after level, row after row.

    Args:
        settings: the grids.
        image_size: (height, width) with padding.
        device: where to put them.
    """
    height, width = image_size
    found = []
    for side in settings.sides:
        steps = (torch.arange(side, device=device) + 0.5) / side
        y, x = torch.meshgrid(steps * height, steps * width, indexing="ij")
        found.append(torch.stack([x, y], dim=-1).flatten(0, 1))
    return torch.cat(found)


def cell_levels(settings: GridSettings, device: torch.device) -> Tensor:
    """(P,) int64 level of each cell."""
    return numbered([side * side for side in settings.sides], device)


def cell_pairs(settings: GridSettings, boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Which cells may explain which boxes, before ties are settled.

    A cell may where the region around the box's middle reaches it, on each level whose range the
    box's size is in, but no farther than one cell from that of the middle. Every box has one.

    Args:
        settings: grids and ranges.
        boxes: (N, 4) in input pixels.
        image_size: (height, width) with padding.

    Returns:
        (P, N) bool.

    Source: SOLOv2 (NeurIPS 2020), with the middle of the box for the centre of mass.
    """
    height, width = image_size
    extent = boxes.new_tensor([width, height])
    middles, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    reach = sides * settings.center_share / 2
    ends = (settings.size_ranges[0][0], settings.size_ranges[-1][1])
    sizes = sides.prod(dim=-1).sqrt().clamp(*ends)  # (N,)
    pairs = []
    for side, (least, most) in zip(settings.sides, settings.size_ranges, strict=True):
        last = side - 1
        middle, low, high = (
            (places * side / extent).floor().clamp(0, last)
            for places in (middles, middles - reach, middles + reach)
        )  # each (N, 2), in cells
        low, high = torch.maximum(low, middle - 1), torch.minimum(high, middle + 1)
        steps = torch.arange(side, device=boxes.device)[:, None, None]
        inside = (steps >= low) & (steps <= high)  # (side, N, 2)
        fits = (sizes >= least) & (sizes <= most)
        region = inside[:, None, :, 1] & inside[None, :, :, 0] & fits  # (side, side, N)
        pairs.append(region.flatten(0, 1))
    return torch.cat(pairs)


def settled_pairs(pairs: Tensor, boxes: Tensor) -> Tensor:
    """Leaves each cell to the smallest box that it may explain, the first among equals.

    Args:
        pairs: (P, N) bool.
        boxes: (N, 4).

    Returns:
        (P, N) bool, at most one True a cell.

    Source: ours; published code leaves a cell to the last box.
    """
    if len(boxes) == 0:
        return pairs
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=-1)  # (N,)
    smallest = torch.where(pairs, areas, torch.inf).argmin(dim=-1, keepdim=True)  # (P, 1)
    return torch.zeros_like(pairs).scatter_(1, smallest, True) & pairs


def cell_targets(
    settings: GridSettings, targets: Sequence[Targets], image_size: tuple[int, int]
) -> CellTargets:
    """Assigns each cell to the smallest box that it may explain; the host finds it.

    Args:
        settings: grids and ranges.
        targets: one entry an image.
        image_size: (height, width) with padding.
    """
    device, targets = targets[0].boxes.device, [one.host for one in targets]
    num_cells = sum(side * side for side in settings.sides)
    labels = torch.full((len(targets), num_cells), -1)
    found = []
    for image, target in enumerate(targets):
        pairs = cell_pairs(settings, target.boxes, image_size)
        position, owner = settled_pairs(pairs, target.boxes).nonzero(as_tuple=True)
        labels[image, position] = target.labels[owner]
        found.append((position, owner))
    image_index, position, instance_index = _joined(found, targets)
    num_objects = sum(len(one) for one in targets)
    return CellTargets(
        labels=send(labels, device),
        image_index=send(image_index, device),
        position=send(position, device),
        instance_index=send(instance_index, device),
        counts=tuple(torch.bincount(instance_index, minlength=num_objects).tolist()),
    )


def cells_of_every_box(
    settings: GridSettings, targets: Sequence[Targets], image_size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """The cells that training would give each box; all that may explain it where it gets none.

    Arguments as for `cell_targets`.

    Returns:
        image_index, position and instance_index, each (M,); every object is among them.
    """
    found = []
    for target in targets:
        pairs = cell_pairs(settings, target.boxes, image_size)
        settled = settled_pairs(pairs, target.boxes)
        chosen = settled | (pairs & ~settled.any(dim=0))
        found.append(chosen.nonzero(as_tuple=True))
    return _joined(found, targets)


def _joined(
    found: Sequence[tuple[Tensor, ...]], targets: Sequence[Targets]
) -> tuple[Tensor, Tensor, Tensor]:
    """image_index, position, instance_index from each image's positions and own objects."""
    offset, instances = 0, []
    for (_, owner), target in zip(found, targets, strict=True):
        instances.append(owner + offset)
        offset += len(target)
    images = [torch.full_like(position, image) for image, (position, _) in enumerate(found)]
    return torch.cat(images), torch.cat([pair[0] for pair in found]), torch.cat(instances)
