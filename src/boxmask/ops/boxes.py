"""Box coding, and what torchvision.ops lacks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from boxmask.ops.masks import sample_at_stride
from boxmask.structures import Batch
from boxmask.waitless import constants, numbered

TINY = 1e-7


def encode_ltrb(points: Tensor, boxes: Tensor) -> Tensor:
    """Distances from points to the four sides of boxes.

    Args:
        points: (..., 2) x, y in pixels.
        boxes: (..., 4) x1, y1, x2, y2 in pixels; broadcasts with `points`.

    Returns:
        (..., 4) left, top, right, bottom in pixels; negative where the point is outside.
    """
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)


def decode_ltrb(points: Tensor, ltrb: Tensor) -> Tensor:
    """Boxes from points and distances: the inverse of `encode_ltrb`; shapes (..., 2), (..., 4)."""
    return torch.cat([points - ltrb[..., :2], points + ltrb[..., 2:]], dim=-1)


def centerness(ltrb: Tensor) -> Tensor:
    """How near a point is to the middle of its box, 0 on a side, 1 in the middle.

    Args:
        ltrb: (..., 4) distances >= 0 to the sides.

    Returns:
        (...) sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)).

    Source: FCOS (ICCV 2019), equation 3.
    """
    sides = torch.stack([ltrb[..., 0::2], ltrb[..., 1::2]], dim=-2)  # (..., 2, 2)
    ratio = sides.amin(dim=-1) / sides.amax(dim=-1).clamp(min=TINY)  # (..., 2)
    return ratio.clamp(min=0).prod(dim=-1).sqrt()


def giou_of_ltrb(predicted: Tensor, target: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Generalised IoU of boxes that share their point, from distances to the sides.

    Args:
        predicted: (N, 4) distances >= 0.
        target: (N, 4) distances >= 0, in the same unit.
        smoothing: added to intersection and union, in squared units of the distances. The
            published FCOS code adds 1; 0 is the definition.

    Returns:
        (N,) in -1..1.

    Source: Generalized IoU (CVPR 2019).
    """
    predicted_area = (predicted[:, :2] + predicted[:, 2:]).prod(dim=-1)
    target_area = (target[:, :2] + target[:, 2:]).prod(dim=-1)
    nearer = torch.minimum(predicted, target)
    farther = torch.maximum(predicted, target)
    intersection = (nearer[:, :2] + nearer[:, 2:]).prod(dim=-1)
    hull = (farther[:, :2] + farther[:, 2:]).prod(dim=-1)
    union = predicted_area + target_area - intersection
    iou = (intersection + smoothing) / (union + smoothing).clamp(min=TINY)
    return iou - (hull - union) / hull.clamp(min=TINY)


def paired_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of each box with its partner: (N, 4) and (N, 4) in, (N,) in 0..1 out."""
    intersection = _intersections(first, second)
    first_area = (first[:, 2:] - first[:, :2]).clamp(min=0).prod(dim=-1)
    second_area = (second[:, 2:] - second[:, :2]).clamp(min=0).prod(dim=-1)
    return intersection / (first_area + second_area - intersection).clamp(min=TINY)


def covered_shares(boxes: Tensor, cover: Tensor) -> Tensor:
    """Share of the area of each box (N, 4) that the box `cover` (1, 4) covers: (N,) in 0..1."""
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=-1)
    return _intersections(boxes, cover) / areas.clamp(min=TINY)


def _intersections(first: Tensor, second: Tensor) -> Tensor:
    """(N,) areas that boxes (N, 4), or (1, 4), have in common."""
    corner = torch.maximum(first[:, :2], second[:, :2])
    opposite = torch.minimum(first[:, 2:], second[:, 2:])
    return (opposite - corner).clamp(min=0).prod(dim=-1)


def cells_in_boxes(boxes: Sequence[Tensor], stride: int, size: tuple[int, int]) -> Tensor:
    """Cells whose centre lies in a box of their image.

    Corners are counted and summed up, so that a thousand boxes cost no more than one.

    Args:
        boxes: (N_i, 4) x1, y1, x2, y2 in pixels, one tensor for each of the B images.
        stride: side of a cell in pixels.
        size: (h, w) cells.

    Returns:
        (B, h, w) bool.
    """
    height, width = size
    device, counts = boxes[0].device, [len(one) for one in boxes]
    ends = (torch.cat(list(boxes)) / stride - 0.5).ceil().long().clamp(min=0)  # first centre inside
    x = ends[:, 0::2].repeat(1, 2).clamp(max=width)  # of four corners
    y = ends[:, 1::2].repeat_interleave(2, dim=1).clamp(max=height)
    corner = (numbered(counts, device)[:, None] * (height + 1) + y) * (width + 1) + x
    signs = constants((1.0, -1.0, -1.0, 1.0), device).long().expand_as(corner)
    corners = torch.zeros(len(boxes) * (height + 1) * (width + 1), dtype=torch.int64, device=device)
    # One index into a flat map: with several, a GPU checks each of them, kernel by kernel.
    corners = corners.scatter_add_(0, corner.flatten(), signs.flatten())
    sums = corners.view(len(boxes), height + 1, width + 1).cumsum(1).cumsum(2)
    return sums[:, :height, :width] > 0


def outside_boxes(batch: Batch, size: tuple[int, ...]) -> Tensor:
    """Cells of pictures whose centre is in no box.

    Args:
        batch: images and boxes.
        size: (h, w) cells of the padded images.

    Returns:
        (B, h, w) bool; False in padding.
    """
    height, width = size
    stride = batch.images.shape[-1] // width
    covered = cells_in_boxes([one.boxes for one in batch.targets], stride, (height, width))
    return ~covered & sample_at_stride(batch.valid, stride)
