"""Gives objects to queries, each query to one object at most, from boxes and classes alone."""

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from boxmask.detectors.picture_masks import MASK_STRIDE
from boxmask.detectors.query_masks import QueryOutputs, image_mask_logits
from boxmask.structures import Targets
from boxmask.structures.mask_samples import centers_inside


@dataclass(frozen=True, kw_only=True)
class MatchingSettings:
    """What makes a query fit an object.

    Attributes:
        class_cost: factor of minus the probability of the class. Published: 2.
        projection_cost: factor of the projection distance. Published with boxes: 5.
        smoothing: cells added to the distance's denominator. Published: 2 input pixels.
    """

    class_cost: float = 2.0
    projection_cost: float = 5.0
    smoothing: float = 0.5


def class_scores(class_logits: Tensor) -> Tensor:
    """Probability of each class, and last that of the likeliest, for classes not known.

    Args:
        class_logits: (..., C + 1), "no object" last.

    Returns:
        (..., C + 1) in 0..1.
    """
    scores = class_logits.float().softmax(dim=-1)[..., :-1]
    return torch.cat([scores, scores.amax(dim=-1, keepdim=True)], dim=-1)


@torch.no_grad()
def matching_costs(
    outputs: QueryOutputs,
    image: int,
    target: Targets,
    settings: MatchingSettings,
) -> Tensor:
    """How badly each query of each output fits each object of one image.

    Args:
        outputs: of all images.
        image: which image.
        target: its N objects; masks in them are not read.
        settings: see `MatchingSettings`.

    Returns:
        (L, Q, N) costs in float32.

    Source: Mask2Former (CVPR 2022), matching, with Box2Mask's projections in place of masks.
    """
    scores = class_scores(outputs.class_logits[:, image])
    scores = scores[..., target.labels.clamp(max=scores.shape[-1] - 1)]  # (L, Q, N)
    if len(target) == 0:
        return scores
    sides = box_sides(target.boxes, outputs.pixels.shape[-2:])
    query = torch.arange(scores.shape[1], device=scores.device)
    distances = []
    for output in range(len(scores)):  # one at a time: masks are large
        which = torch.full_like(query, output)
        logits = image_mask_logits(outputs, image, which, query)  # (Q, h, w)
        columns, rows = logits.amax(dim=1).sigmoid(), logits.amax(dim=2).sigmoid()
        distances.append(
            axis_distances(columns, sides[0], target.tight[:, 0], settings.smoothing)
            + axis_distances(rows, sides[1], target.tight[:, 1], settings.smoothing)
        )
    return settings.projection_cost * torch.stack(distances) - settings.class_cost * scores


def axis_distances(projections: Tensor, sides: Tensor, tight: Tensor, smoothing: float) -> Tensor:
    """Distances between projections of masks and sides of boxes along one axis.

    Args:
        projections: (Q, n) largest score of each column or row, in 0..1.
        sides: (N, n) bool, cells inside each box.
        tight: (N,) bool; where False, the end of the object is not known, and what counts is the
            share of the projection outside the box alone.
        smoothing: cells added to the denominator.

    Returns:
        (Q, N) in 0..1; 1 for an empty mask.
    """
    inside = sides.to(projections.dtype)
    overlap = (projections[:, None] * inside).sum(dim=-1)  # (Q, N); no product: it may be rounded
    squares = projections.square().sum(dim=-1, keepdim=True) + inside.sum(dim=-1)
    whole = 1 - 2 * overlap / (squares + smoothing)
    outside = 1 - overlap / (projections.sum(dim=-1, keepdim=True) + smoothing)
    return torch.where(tight, whole, outside)


def box_sides(boxes: Tensor, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Columns (N, w) and rows (N, h) of each box, bool, as in `MaskSamples.box_sides`."""
    columns, rows = (
        (torch.arange(count, device=boxes.device) + 0.5)[None] * MASK_STRIDE
        for count in (size[1], size[0])
    )
    return (
        centers_inside(columns, boxes[:, 0], boxes[:, 2]),
        centers_inside(rows, boxes[:, 1], boxes[:, 3]),
    )


def match(costs: Tensor) -> tuple[Tensor, Tensor]:
    """The cheapest set of pairs in which every query and every object is at most once.

    Args:
        costs: (Q, N).

    Returns:
        query and object, int64, each (min(Q, N),) on the CPU; objects increase.
    """
    finite = torch.nan_to_num(costs.detach().float().cpu(), nan=1e6, posinf=1e6, neginf=-1e6)
    owner, query = linear_sum_assignment(finite.T.numpy())
    return torch.from_numpy(query), torch.from_numpy(owner)


def match_every_object(costs: Tensor) -> tuple[Tensor, Tensor]:
    """Like `match`, in rounds until every object has a query; a query may serve several.

    Args:
        costs: (Q, N).

    Returns:
        query and object, int64, each (N,) on the CPU.
    """
    costs = costs.cpu()
    left = torch.arange(costs.shape[1])
    queries, owners = [left[:0]], [left[:0]]
    while len(left):
        query, chosen = match(costs[:, left])
        queries.append(query)
        owners.append(left[chosen])
        left = left[~torch.isin(left, left[chosen])]
    return torch.cat(queries), torch.cat(owners)
