"""Affinities, losses and upsampling against values of the published code."""

import torch

from boxmask.box_supervision.projection_loss import projection_distances
from boxmask.ops.affinity import (
    NEIGHBORS,
    color_similarity,
    feature_similarity,
    lab_at_stride,
    neighbor_valid,
    shifted,
)
from boxmask.ops.dice import dice_distance
from boxmask.ops.masks import aligned_upsample
from boxmask.ops.pairwise import pairwise_sum
from references import published

DILATION = 2


def test_lab(oracle):
    values = oracle("color_affinity")
    lab = lab_at_stride(values["image_rgb_u8"][None].float() / 255, 1)[0]
    # skimage and kornia round the constants of sRGB and D65 differently.
    torch.testing.assert_close(lab, values["lab"], rtol=1e-3, atol=2e-2)


def test_color_affinity(oracle, close):
    values = oracle("color_affinity")
    lab, valid = values["lab"][None], values["valid_mask"][None] > 0
    both = neighbor_valid(valid, DILATION)
    ours = color_similarity(lab, valid, DILATION)
    close(ours[both], values["affinity"][None][both])
    # The published code asks the neighbour alone; otherwise the values are the same.
    everywhere = color_similarity(lab, torch.ones_like(valid), DILATION)
    close(everywhere * published.valid_neighbors(valid, DILATION), values["affinity"][None])
    one_sided = (values["affinity"][None] > 0) & ~both
    assert one_sided.any()
    assert not ours[one_sided].any()


def test_color_affinity_from_the_picture(oracle):
    values = oracle("color_affinity")
    valid = values["valid_mask"][None] > 0
    lab = lab_at_stride(values["image_rgb_u8"][None].float() / 255, 1)
    both = neighbor_valid(valid, DILATION)
    ours = color_similarity(lab, valid, DILATION)
    torch.testing.assert_close(ours[both], values["affinity"][None][both], rtol=5e-3, atol=1e-4)


def test_feature_affinity(oracle, close):
    values = oracle("feature_affinity")
    features = values["features"]
    inside = neighbor_valid(torch.ones_like(features[:, 0], dtype=torch.bool), DILATION)
    ours = feature_similarity(features, DILATION)
    close(ours[inside], values["affinity"][inside])
    close(ours, values["affinity"])  # outside the map a neighbour is the zero vector


def test_projection_loss(oracle, close):
    values = oracle("projection_loss")
    logits = values["mask_logits"][:, 0].requires_grad_()
    boxes = values["box_masks"][:, 0] > 0
    loss = projection_distances(logits, boxes.any(dim=1), boxes.any(dim=2)).sum(dim=1).mean()
    close(loss, values["loss"])
    close(torch.autograd.grad(loss, logits)[0], values["grad_logits"][:, 0])


def test_pairwise_loss(oracle, close):
    values = oracle("pairwise_loss")
    logits = values["mask_logits"][:, 0].requires_grad_()
    inside = values["box_masks"][:, 0] > 0
    similar = values["affinity"][None] >= float(values["affinity_threshold"])
    total, count = pairwise_sum(
        logits, similar, inside, torch.zeros(len(logits), dtype=torch.int64), dilation=DILATION
    )
    in_map = neighbor_valid(torch.ones_like(inside[:1]), DILATION)
    assert not (similar & ~in_map).any()
    assert count == (similar & inside[:, None]).sum()
    close(total / count, values["loss"])
    close(torch.autograd.grad(total / count, logits)[0], values["grad_logits"][:, 0])


def test_each_edge_of_the_pairwise_loss(oracle, close):
    values = oracle("pairwise_loss")
    logits = values["mask_logits"][:, 0]
    in_map = neighbor_valid(torch.ones_like(logits[:1], dtype=torch.bool), DILATION)[0]
    close(published.edge_losses(logits, DILATION)[:, in_map], values["per_edge"][:, in_map])
    # The closed form of `pairwise_sum`, edge by edge.
    softplus = torch.nn.functional.softplus
    for index, (dy, dx) in enumerate(NEIGHBORS):
        there = shifted(logits, (dy * DILATION, dx * DILATION))
        edges = softplus(logits) + softplus(there) - softplus(logits + there)
        close(edges[:, in_map[index]], values["per_edge"][:, index][:, in_map[index]])


def test_dice(oracle, close):
    values = oracle("dice_loss")
    close(dice_distance(values["probs"], values["targets"]), values["dice_per_instance"])


def test_upsampling(oracle, close):
    values = oracle("aligned_bilinear")
    for factor in (2, 4):
        close(aligned_upsample(values["x"], factor), values[f"factor{factor}"])
