"""Mask2Former's recipes build; sizes and training as published for large backbones."""

import pytest
import torch

from boxmask.detectors.mask2former import Mask2Former
from boxmask.recipes.models import build_recipe


@pytest.mark.parametrize("method", ["boxinst", "full", "sim"])
def test_lite_recipe_builds_and_finds(method):
    recipe = build_recipe("mask2former-lite0", method, 3, pretrained=False)
    detector = recipe.detector.build().eval()
    assert isinstance(detector, Mask2Former)
    with torch.no_grad():
        outputs = detector(torch.rand(1, 3, 64, 96), torch.ones(1, 64, 96, dtype=torch.bool))
    assert outputs.pixels.shape == (1, recipe.detector.feature_channels, 16, 24)
    assert set(recipe.build_objective(total_steps=1000).losses) == set(recipe.terms)


def test_published_sizes_for_resnet():
    recipe = build_recipe("mask2former-r50", "boxinst", 80, pretrained=False)
    queries = recipe.detector.queries
    assert (queries.channels, queries.num_queries) == (256, 100)
    assert (queries.encoder_layers, queries.decoder_layers) == (6, 9)
    assert (recipe.optimizer.name, recipe.optimizer.learning_rate) == ("adamw", 1e-4)
    assert recipe.optimizer.clip_norm == 0.01
    assert recipe.batch == 16
    weights = {name: term.weight for name, term in recipe.terms.items()}
    assert (weights["loss_projection"], weights["loss_pairwise"]) == (5, 1)
