"""Which positive points train a mask: a few good ones of each object, never too many."""

from collections.abc import Sequence

import torch
from torch import Tensor

from boxmask.detectors.fcos import SIZE_RANGES
from boxmask.ops.points import PointGrid
from boxmask.waitless import constants, numbered, send


def best_of_each_object(
    instance_index: Tensor,
    scores: Tensor,
    points: Sequence[int],
    counts: Sequence[int],
    per_image: int,
    *,
    cap_objects: bool = True,
) -> tuple[Tensor, Tensor]:
    """The points with the best scores of each object, shared out evenly within an image.

    Each object keeps max(per_image // objects of its image, 1) points; objects without points do
    not count. Where an image has more objects than `per_image`, as many of them are drawn at
    random, so that a crowd of hundreds costs no more than a few objects.

    Args:
        instance_index: (M,) object of each point, over the whole batch, image after image.
        scores: (M,) the higher the better.
        points: number of points of each of the N objects.
        counts: number of objects of each image.
        per_image: points to keep of an image.
        cap_objects: draw objects at random where there are more than `per_image`; else keep all.

    Returns:
        (K,) int64 indices into the points, in order of object, the best first; and (K,) int64
        object of each of them, on the CPU. The host does not wait.

    Source: published BoxInst code, 64 points an image; the cap on objects is ours.
    """
    host = torch.device("cpu")
    image_of = numbered(counts, host)  # (N,)
    of_object = torch.tensor(points, dtype=torch.int64, device=host)
    pointed = of_object > 0
    objects = torch.zeros(len(counts), dtype=torch.int64)
    objects.index_add_(0, image_of, pointed.long())
    share = (per_image // objects.clamp(min=1)).clamp(min=1)[image_of]  # (N,)
    if cap_objects:
        lot = torch.rand(len(image_of)) + ~pointed  # those without points are last
        share = torch.where(_rank_within(image_of, lot) < per_image, share, 0)
    share = torch.minimum(share, of_object)
    owners = numbered(share.tolist(), host)  # (K,)
    rank = _rank_within(instance_index, -scores)
    place = instance_index * per_image + rank
    last = len(share) * per_image
    place = torch.where(rank < send(share, scores.device)[instance_index], place, last)
    return place.argsort(stable=True)[: len(owners)], owners


def points_of_objects(instance_index: Tensor, num_objects: int) -> list[int]:
    """How many points each object has; the host waits for it."""
    return torch.bincount(instance_index, minlength=num_objects).tolist()


def _rank_within(group: Tensor, key: Tensor) -> Tensor:
    """Place of each entry in its group when sorted by `key`: (M,) int64, 0 for the smallest."""
    by_key = torch.argsort(key, stable=True)
    order = by_key[torch.argsort(group[by_key], stable=True)]
    ordered = group[order]
    place = torch.arange(len(group), device=group.device) - torch.searchsorted(ordered, ordered)
    return torch.empty_like(place).scatter_(0, order, place)


def with_every_object(pairs: Tensor, grid: PointGrid, boxes: Tensor) -> Tensor:
    """Adds the nearest point of the right level for boxes that no point may explain.

    Args:
        pairs: (P, N) bool, points that may explain each box.
        grid: the P points.
        boxes: (N, 4) in input pixels.

    Returns:
        (P, N) bool with a True in every column.
    """
    ends = constants(tuple(high for _, high in SIZE_RANGES), boxes.device)
    half = (boxes[:, 2:] - boxes[:, :2]).amax(dim=-1) / 2
    level = torch.bucketize(half, ends[:-1])  # (N,)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    distance = torch.cdist(grid.points, centers)  # (P, N)
    distance = distance.masked_fill(grid.levels[:, None] != level, torch.inf)
    nearest = torch.zeros_like(pairs)
    nearest[distance.argmin(dim=0), torch.arange(len(boxes), device=boxes.device)] = True
    return pairs | (nearest & ~pairs.any(dim=0))
