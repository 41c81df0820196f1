"""Mask R-CNN's recipe builds, at both sizes, and its settings can be saved."""

import json
from dataclasses import asdict

import pytest
import torch
from pydantic import TypeAdapter

from boxmask.detectors.mask_rcnn import MaskRCNN, MaskRCNNSettings
from boxmask.recipes.models import build_recipe


@pytest.mark.parametrize("method", ["boxinst", "full", "sim"])
def test_lite_recipe_builds(method):
    recipe = build_recipe("maskrcnn-lite0", method, 3, pretrained=False)
    detector = recipe.detector.build().eval()
    assert isinstance(detector, MaskRCNN)
    with torch.no_grad():
        outputs = detector(torch.rand(1, 3, 64, 96), torch.ones(1, 64, 96, dtype=torch.bool))
    assert outputs.levels[0].shape == (1, recipe.detector.feature_channels, 16, 24)
    assert set(recipe.build_objective(total_steps=1000).losses) == set(recipe.terms)


def test_published_sizes_for_resnet():
    recipe = build_recipe("maskrcnn-r50", "full", 80, pretrained=False)
    assert recipe.detector == MaskRCNNSettings(num_classes=80, backbone=recipe.detector.backbone)
    assert recipe.detector.regions.samples_per_image == 512
    assert recipe.detector.feature_channels == 256
    assert (recipe.optimizer.name, recipe.optimizer.learning_rate) == ("sgd", 0.02)
    assert (recipe.batch, recipe.augmentation.image_size) == (16, 800)
    assert recipe.terms["loss_mask"].weight == 1


def test_settings_survive_saving():
    settings = build_recipe("maskrcnn-lite0", "full", 3).detector
    saved = json.loads(json.dumps(asdict(settings)))
    assert TypeAdapter(MaskRCNNSettings).validate_python(saved) == settings
