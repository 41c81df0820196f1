"""Which positive points train a mask: a few good ones of each object, never too many."""

from collections.abc import Sequence

import torch
from torch import Tensor

from boxmask.detectors.fcos import SIZE_RANGES
from boxmask.ops.points import PointGrid
from boxmask.ops.waitless import constants, numbered


def best_of_each_object(
    instance_index: Tensor,
    scores: Tensor,
    counts: Sequence[int],
    per_image: int,
    *,
    cap_objects: bool = True,
) -> Tensor:
    """The points with the best scores of each object, shared out evenly within an image.

    Each object keeps max(per_image // objects of its image, 1) points; objects without points do
    not count. Where an image has more objects than `per_image`, as many of them are drawn at
    random, so that a crowd of hundreds costs no more than a few objects.

    Args:
        instance_index: (M,) object of each point, over the whole batch, image after image.
        scores: (M,) the higher the better.
        counts: number of objects of each image.
        per_image: points to keep of an image.
        cap_objects: draw objects at random where there are more than `per_image`; else keep all.

    Returns:
        (K,) int64 indices into the points, in order of object, the best first. The host waits for
        K, and for nothing else.

    Source: published BoxInst code, 64 points an image; the cap on objects is ours.
    """
    device = scores.device
    image_of = numbered(counts, device)  # (N,)
    pointed = torch.zeros(len(image_of), dtype=torch.bool, device=device)
    pointed.index_fill_(0, instance_index, True)
    objects = torch.zeros(len(counts), dtype=torch.int64, device=device)
    objects.index_add_(0, image_of, pointed.long())
    share = (per_image // objects.clamp(min=1)).clamp(min=1)[image_of]  # (N,)
    if cap_objects:
        lot = torch.rand(len(image_of), device=device) + ~pointed  # those without points are last
        share = torch.where(_rank_within(image_of, lot) < per_image, share, 0)
    rank = _rank_within(instance_index, -scores)
    kept = (rank < share[instance_index]).nonzero().squeeze(-1)
    return kept[torch.argsort(instance_index[kept] * per_image + rank[kept])]


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
