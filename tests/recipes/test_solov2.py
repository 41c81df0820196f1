"""SOLOv2's recipes: every one builds, and sizes are those of the paper where they should be."""

import pytest
import torch

from boxmask.detectors.solov2 import SOLOv2, SOLOv2Settings
from boxmask.recipes.models import build_recipe


@pytest.mark.parametrize("method", ["boxinst", "full", "sim"])
def test_lite_recipe_builds_and_finds(method):
    recipe = build_recipe("solov2-lite0", method, 3, pretrained=False)
    detector = recipe.detector.build().eval()
    assert isinstance(detector, SOLOv2)
    with torch.no_grad():
        outputs = detector(torch.rand(1, 3, 64, 96), torch.ones(1, 64, 96, dtype=torch.bool))
    assert outputs.class_logits.shape[-1] == 3
    assert outputs.features.shape == (1, recipe.detector.feature_channels, 16, 24)  # stride 4
    objective = recipe.build_objective(total_steps=1000)
    assert set(objective.losses) == set(recipe.terms)


def test_masks_count_three_times_as_published():
    terms = build_recipe("solov2-lite0", "boxinst", 3, pretrained=False).terms
    assert terms["loss_projection"].weight == 3
    assert terms["loss_pairwise"].weight == 1
    assert build_recipe("solov2-lite0", "full", 3, pretrained=False).terms["loss_mask"].weight == 3


def test_published_sizes_for_resnet():
    recipe = build_recipe("solov2-r101", "full", 80, pretrained=False)
    expected = SOLOv2Settings(num_classes=80, backbone=recipe.detector.backbone)
    assert recipe.detector == expected
    assert (expected.tower_channels, expected.mask_channels, expected.near_cell) == (
        512,
        256,
        False,
    )
    assert (recipe.optimizer.name, recipe.optimizer.clip_norm) == ("sgd", 35)
    assert recipe.optimizer.milestones == (0.75, 0.917)  # epochs 27 and 33 of 36
    assert (recipe.batch, recipe.augmentation.image_size) == (16, 800)
