"""Recipes: every one builds, and warm-up fits the run's length."""

import pytest
import torch

from boxmask.box_supervision.objective import Term
from boxmask.detectors.condinst import CondInst
from boxmask.recipes.methods import with_trusted_masks
from boxmask.recipes.models import build_recipe


@pytest.mark.parametrize("method", ["boxinst", "full", "sim"])
def test_lite_recipe_builds_and_finds(method):
    recipe = build_recipe("condinst-lite0", method, 3, pretrained=False)
    detector = recipe.detector.build().eval()
    assert isinstance(detector, CondInst)
    with torch.no_grad():
        outputs = detector(torch.rand(1, 3, 64, 96), torch.ones(1, 64, 96, dtype=torch.bool))
    assert outputs.points.class_logits.shape[-1] == 3
    assert outputs.features.shape == (1, 16, 16, 24)  # stride 4
    objective = recipe.build_objective(total_steps=1000)
    assert set(objective.losses) == set(recipe.terms)


def test_published_sizes_for_resnet():
    recipe = build_recipe("condinst-r50", "boxinst", 80, pretrained=False)
    assert recipe.detector.pyramid_channels == 256
    assert recipe.detector.fcos.tower_depth == 4
    assert recipe.optimizer.name == "sgd"
    assert (recipe.batch, recipe.augmentation.image_size) == (16, 800)


@pytest.mark.parametrize(
    ("steps", "share"), [(10, 0.3), (200, 0.3), (800, 0.1), (2000, 0.04), (270_000, 0.04)]
)
def test_warmup_share_follows_the_length_of_the_run(steps, share):
    recipe = build_recipe("condinst-lite0", "boxinst", 1, pretrained=False)
    assert recipe.warmup_share(steps) == pytest.approx(share)


def test_prior_is_gone_when_the_pairwise_term_is_whole():
    recipe = build_recipe("condinst-lite0", "boxinst", 1, pretrained=False)
    terms = recipe.build_objective(total_steps=800).terms
    assert terms["loss_shape_prior"].factor(0.0) == 1.0
    assert terms["loss_pairwise"].factor(0.0) == 0.0
    assert terms["loss_pairwise"].factor(0.05) == pytest.approx(0.5)
    assert terms["loss_shape_prior"].factor(0.1) == pytest.approx(0.0)
    assert terms["loss_pairwise"].factor(0.1) == pytest.approx(1.0)


def test_trusted_masks_add_a_loss_and_keep_the_others():
    recipe = build_recipe("condinst-lite0", "boxinst", 1, pretrained=False)
    mixed = with_trusted_masks(recipe)
    assert set(mixed.losses) == {*recipe.losses, "loss_mask"}
    assert mixed.terms["loss_mask"] == Term()
    assert (recipe.masks, mixed.masks) == ("ignore", "trusted")
