"""Which positive points train a mask: a few good ones of each object, never too many."""

import torch
from torch import Tensor

from boxmask.detectors.fcos import SIZE_RANGES
from boxmask.ops.points import PointGrid
from boxmask.ops.waitless import constants


def best_of_each_object(
    image_index: Tensor,
    instance_index: Tensor,
    scores: Tensor,
    per_image: int,
    *,
    cap_objects: bool = True,
) -> Tensor:
    """The points with the best scores of each object, shared out evenly within an image.

    Each object keeps max(per_image // objects of its image, 1) points. Where an image has more
    objects than `per_image`, as many of them are drawn at random, so that a crowd of hundreds
    costs no more than a few objects.

    Args:
        image_index: (M,) image of each point.
        instance_index: (M,) object of each point, over the whole batch.
        scores: (M,) the higher the better.
        per_image: points to keep of an image.
        cap_objects: draw objects at random where there are more than `per_image`; else keep all.

    Returns:
        (K,) int64 indices into the points, in order of image and object.

    Source: published BoxInst code, 64 points an image; the cap on objects is ours.
    """
    if len(scores) == 0:
        return instance_index.new_zeros(0)
    objects, inverse = instance_index.unique(return_inverse=True)  # sorted, so image by image
    object_image = torch.zeros_like(objects).scatter_(0, inverse, image_index)  # not decreasing
    first = torch.searchsorted(object_image, object_image)
    past = torch.searchsorted(object_image, object_image, right=True)
    share = (per_image // (past - first)).clamp(min=1)  # (objects,)
    if cap_objects:
        lot = torch.rand(len(objects), device=scores.device)
        rank = _rank_within(object_image, lot)
        share = torch.where(rank < per_image, share, 0)
    rank = _rank_within(inverse, -scores)
    kept = (rank < share[inverse]).nonzero().squeeze(-1)
    return kept[torch.argsort(inverse[kept] * 1.0 + rank[kept] / (rank.max() + 1.0))]


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
