"""Affinities, losses, assignment and upsampling beside stored values of the published code.

One function a file. Where the published code does something else than ours, the difference is
taken from `published_forms`. K mask samples, N objects, h w map cells.
"""

import torch
from torch import Tensor

from boxmask.benchmark import published_forms
from boxmask.benchmark.reference_comparison import (
    Comparison,
    StoredValues,
    Tolerance,
    compared,
)
from boxmask.box_supervision.projection_loss import projection_distances
from boxmask.ops.affinity import (
    NEIGHBORS,
    color_similarity,
    feature_similarity,
    lab_at_stride,
    neighbor_valid,
)
from boxmask.ops.dice import dice_distance
from boxmask.ops.masks import aligned_upsample
from boxmask.ops.pairwise import pairwise_sum
from boxmask.prototypes.sinkhorn import sinkhorn

DILATION = 2
# Colours are 500 times the difference of two numbers near 1 in float32.
LAB = Tolerance(absolute=2e-4)


def color_affinity(values: StoredValues) -> list[Comparison]:
    """Likeness of colours, from the stored LAB colours and from the picture.

    Where both ends of a pair count, ours is the stored one. The published code asks the neighbour
    alone, so one-sided pairs are compared with that rule.
    """
    lab, valid = values["lab"][None], values["valid_mask"][None] > 0
    both = neighbor_valid(valid, DILATION)
    ours = color_similarity(lab, valid, DILATION)
    everywhere = color_similarity(lab, torch.ones_like(valid), DILATION)
    neighbor = published_forms.valid_neighbors(valid, DILATION)
    from_picture = lab_at_stride(values["image_rgb_u8"][None].float() / 255, 1)
    affinity = color_similarity(from_picture, valid, DILATION)
    return [
        values.compare("affinity", ours[0], where=both[0], name="affinity, both ends valid"),
        values.compare("affinity", (everywhere * neighbor)[0], name="affinity, neighbour valid"),
        values.compare("lab", from_picture[0], LAB, name="lab of the picture"),
        values.compare("affinity", affinity[0], where=both[0], name="affinity of the picture"),
    ]


def feature_affinity(values: StoredValues) -> list[Comparison]:
    """Likeness of features; outside the map a neighbour is the zero vector."""
    return [values.compare("affinity", feature_similarity(values["features"], DILATION))]


def projection_loss(values: StoredValues) -> list[Comparison]:
    """Projection term, averaged over samples, and its gradient."""
    logits = maps_of(values["mask_logits"]).requires_grad_()
    boxes = maps_of(values["box_masks"]) > 0
    loss = projection_distances(logits, boxes.any(dim=1), boxes.any(dim=2)).sum(dim=1).mean()
    return [
        values.compare("loss", loss),
        values.compare("grad_logits", torch.autograd.grad(loss, logits)[0]),
    ]


def pairwise_loss(values: StoredValues) -> list[Comparison]:
    """Pairwise term, averaged over edges, its gradient, and its edges.

    Ours gives no single edges. Summed over the map for each sample and direction, its edges are
    compared with the stored ones; single ones are compared in the published form.
    """
    logits = maps_of(values["mask_logits"]).requires_grad_()
    inside = maps_of(values["box_masks"]) > 0
    in_map = neighbor_valid(torch.ones_like(inside[:1]), DILATION)
    similar = (values["affinity"][None] >= float(values["affinity_threshold"])) & in_map
    one_picture = torch.zeros(len(logits), dtype=torch.int64)
    total, count = pairwise_sum(logits, similar, inside, one_picture, dilation=DILATION)
    loss = total / count.clamp(min=1)
    stored_edges = (values["per_edge"] * in_map).sum(dim=(2, 3))
    return [
        values.compare("loss", loss),
        values.compare("grad_logits", torch.autograd.grad(loss, logits)[0]),
        compared("per_edge, summed over the map", _summed_edges(logits, in_map), stored_edges),
        values.compare("per_edge", published_forms.edge_losses(logits, DILATION)),
    ]


def dice_loss(values: StoredValues) -> list[Comparison]:
    """Dice distance of each instance, and with weighted cells averaged over instances."""
    scores, targets, root = values["probs"], values["targets"], values["weights"].sqrt()
    return [
        values.compare("dice_per_instance", dice_distance(scores, targets)),
        values.compare("dice_weighted_mean", dice_distance(scores * root, targets * root).mean()),
    ]


def focal_loss_official(values: StoredValues) -> list[Comparison]:
    """The published focal form, which nothing in the package uses."""
    loss = published_forms.double_sigmoid_focal_loss(
        values["inputs"], values["targets"], values["weights"]
    )
    return [values.compare("loss", loss)]


def sinkhorn_assignment(values: StoredValues) -> list[Comparison]:
    """Assignment after a given number of iterations, before any sampling."""
    found = sinkhorn(
        values["scores"][None],
        epsilon=float(values["epsilon"]),
        tolerance=0.0,
        max_iterations=int(values["iterations"]),
    )[0]
    # Almost equal shares may change places: the stored choice must be as good as ours.
    chosen = found.gather(1, values["argmax"][:, None])[:, 0]
    return [
        values.compare("assignment", found),
        compared("argmax, its share", chosen, found.amax(dim=1)),
    ]


def aligned_bilinear(values: StoredValues) -> list[Comparison]:
    """Upsampling by each stored factor."""
    return [
        values.compare(key, aligned_upsample(values["x"], int(match[1])))
        for key, match in values.matching(r"factor(\d+)").items()
    ]


def _summed_edges(logits: Tensor, in_map: Tensor) -> Tensor:
    """Sum of the edges of each sample, (K, h, w), in each direction: (K, 8)."""
    everywhere = torch.ones_like(logits[:1], dtype=torch.bool)
    first = torch.zeros(1, dtype=torch.int64)
    sums = logits.new_zeros((len(logits), len(NEIGHBORS)))
    for direction in range(len(NEIGHBORS)):
        similar = torch.zeros_like(in_map)
        similar[:, direction] = in_map[:, direction]
        for sample in range(len(logits)):
            sums[sample, direction] = pairwise_sum(
                logits[sample : sample + 1].detach(), similar, everywhere, first, dilation=DILATION
            )[0]
    return sums


def maps_of(values: Tensor) -> Tensor:
    """(K, 1, h, w) or (K, h, w) to (K, h, w)."""
    return values.flatten(0, -3)
