"""Pseudo masks equal the published ones at mu = 0 and temperature 1, up to the loss.

The published code has the plain mean over samples (mu = 0) and no temperature. Its loss, which
feeds probabilities to a function that expects logits, is not repeated.
"""

import pytest
import torch

from boxmask.box_supervision.self_correction import (
    PseudoMaskSettings,
    adaptive_thresholds,
    fuse,
    pseudo_masks,
    weighted_masks,
)

PUBLISHED = PseudoMaskSettings(temperature=1.0, lowest_high=0.7, highest_high=0.8)


@pytest.fixture(scope="module")
def values(oracle):
    return oracle("self_correction")


@pytest.fixture(scope="module")
def maps(values):
    index = values["gt_inds"]
    count = torch.bincount(index, minlength=4).float()
    scores = values["teacher_probs"][:, 0]
    instance, known = weighted_masks(scores, 1 / count[index], index, 4)
    assert known.all()
    inside = values["box_masks_per_gt"][:, 0] > 0
    semantic = torch.zeros_like(instance)
    semantic[index] = values["prototype_similarity"].amax(dim=1)
    fused = fuse(semantic, instance, torch.ones(4, dtype=torch.bool), PUBLISHED)
    return index, instance, inside, fused


def test_mean_masks(values, maps):
    index, instance, _, _ = maps
    torch.testing.assert_close(instance[index], values["teacher_mean"][:, 0], rtol=1e-4, atol=1e-5)


def test_fused_maps(values, maps):
    index, _, _, fused = maps
    torch.testing.assert_close(fused[index], values["fused_map"][:, 0], rtol=1e-4, atol=1e-5)


def test_thresholds(values, maps):
    index, instance, inside, fused = maps
    found = adaptive_thresholds(fused, instance, inside, PUBLISHED)
    torch.testing.assert_close(found[index], values["threshold"], rtol=1e-4, atol=1e-5)


def test_pseudo_masks_and_certain_cells(values, maps):
    index, instance, inside, fused = maps
    masks = pseudo_masks(fused, instance, inside, PUBLISHED)
    where = values["weight"][:, 0] > 0
    assert torch.equal(masks.certain[index], where)
    published = values["pseudo_mask"][:, 0] > 0
    assert torch.equal(masks.foreground[index] & where, published & where)
