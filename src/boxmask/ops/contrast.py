"""How far an object's colours are from those around its box."""

import torch
from torch import Tensor

# Where an object and its surroundings are looked at, in shares of the sides of its box.
_MIDDLE = torch.linspace(0.3, 0.7, 7)
_AROUND = torch.linspace(-0.1, 1.1, 13)


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
    middle = _at(boxes, *_grid(_MIDDLE.to(boxes)), margin=0.0)  # (N, 49, 2) pixels
    frame = _at(boxes, *_frame(_AROUND.to(boxes)), margin=float(stride))  # (N, 52, 2)
    inner, _ = _cells(middle, stride, lab)
    (rows, columns), within = _cells(frame, stride, lab)
    picture = image_index[:, None]
    counts = within & outside[picture, rows, columns]  # (N, 52)
    own = lab[picture, :, inner[0], inner[1]]  # (N, 49, 3)
    around = lab[picture, :, rows, columns]  # (N, 52, 3)
    distances = torch.cdist(own, around).masked_fill(~counts[:, None], torch.inf)
    return distances.amin(dim=2).median(dim=1).values


def _grid(steps: Tensor) -> tuple[Tensor, Tensor]:
    """X and y of all crossings."""
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return x.flatten(), y.flatten()


def _frame(steps: Tensor) -> tuple[Tensor, Tensor]:
    """X and y along the four sides."""
    first, last = steps[:1].expand_as(steps), steps[-1:].expand_as(steps)
    return torch.cat([steps, steps, first, last]), torch.cat([first, last, steps, steps])


def _at(boxes: Tensor, x: Tensor, y: Tensor, *, margin: float) -> Tensor:
    """Points at shares (P,) of the sides, those beyond a side `margin` farther: (N, P, 2)."""
    shares = torch.stack([x, y], dim=-1)
    beyond = (shares > 1).to(shares) - (shares < 0).to(shares)
    corner, opposite = boxes[:, None, :2], boxes[:, None, 2:]
    return corner + shares * (opposite - corner) + beyond * margin


def _cells(points: Tensor, stride: int, maps: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Row and column of the cell of each point, and whether the map has it: (N, P) each."""
    size = torch.tensor(maps.shape[:-3:-1], device=points.device)  # w, h
    cells = (points / stride).floor().long()
    within = ((cells >= 0) & (cells < size)).all(dim=-1)
    cells = torch.minimum(cells.clamp(min=0), size - 1)
    return (cells[..., 1], cells[..., 0]), within
