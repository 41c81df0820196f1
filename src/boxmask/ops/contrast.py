"""How far an object's colours are from those around its box."""

from functools import lru_cache

import torch
from torch import Tensor

from boxmask.waitless import send

# Where an object and its surroundings are looked at, in shares of the sides of its box: first,
# last, number.
_MIDDLE = (0.3, 0.7, 7)
_AROUND = (-0.1, 1.1, 13)


def color_contrast(
    lab: Tensor, outside: Tensor, boxes: Tensor, image_index: Tensor, stride: int
) -> Tensor:
    """Colour distance from the middle of each box to the likest colour around the box.

    49 points of the middle are looked at, and 52 on a frame that is a tenth larger on each side
    and at least one cell away. Each point of the middle has a distance to the likest point of the
    frame; the median of these is taken. So a striped animal on a striped ground has little
    contrast, however unlike its stripes are.

    Args:
        lab: (B, 3, h, w) colours of cells.
        outside: (B, h, w) bool, cells of the picture in no box; others of the frame do not count.
        boxes: (N, 4) x1, y1, x2, y2 in pixels.
        image_index: (N,) image of each box.
        stride: side of a cell in pixels.

    Returns:
        (N,) in units of LAB; infinite where nothing of the frame counts.
    """
    middle = _at(boxes, middle_shares(boxes.device), margin=0.0)  # (N, 49, 2) pixels
    frame = _at(boxes, frame_shares(boxes.device), margin=float(stride))  # (N, 52, 2)
    inner, _ = _cells(middle, stride, lab)
    (rows, columns), within = _cells(frame, stride, lab)
    picture = image_index[:, None]
    counts = within & outside[picture, rows, columns]  # (N, 52)
    own = lab[picture, :, inner[0], inner[1]]  # (N, 49, 3)
    around = lab[picture, :, rows, columns]  # (N, 52, 3)
    distances = torch.cdist(own, around).masked_fill(~counts[:, None], torch.inf)
    return distances.amin(dim=2).median(dim=1).values


@lru_cache(maxsize=16)
def middle_shares(device: torch.device) -> Tensor:
    """(49, 2) x and y of the points of a box's middle, in shares of its sides; never change it."""
    steps = torch.linspace(*_MIDDLE)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return _sent(x.flatten(), y.flatten(), device)


@lru_cache(maxsize=16)
def frame_shares(device: torch.device) -> Tensor:
    """(52, 2) x and y of the points around a box, in shares of its sides; never change it."""
    steps = torch.linspace(*_AROUND)
    first, last = steps[:1].expand_as(steps), steps[-1:].expand_as(steps)
    x, y = torch.cat([steps, steps, first, last]), torch.cat([first, last, steps, steps])
    return _sent(x, y, device)


def _sent(x: Tensor, y: Tensor, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return send(torch.stack([x, y], dim=-1), device)


def _at(boxes: Tensor, shares: Tensor, *, margin: float) -> Tensor:
    """Points at shares (P, 2) of the sides, those beyond a side `margin` farther: (N, P, 2)."""
    beyond = (shares > 1).to(shares) - (shares < 0).to(shares)
    corner, opposite = boxes[:, None, :2], boxes[:, None, 2:]
    return corner + shares * (opposite - corner) + beyond * margin


def _cells(points: Tensor, stride: int, maps: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Row and column of the cell of each point, and whether the map has it: (N, P) each."""
    height, width = maps.shape[-2:]
    x, y = (points / stride).floor().long().unbind(-1)
    within = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return (y.clamp(0, height - 1), x.clamp(0, width - 1)), within
