"""Names become recipes, and published sizes are the published ones."""

import pytest
import torch

from boxmask.errors import UserError
from boxmask.recipes.catalogue import MODELS, model_facts
from boxmask.recipes.models import build_recipe

RESNET_101_TRUNK = 42_500_160  # without its classifier
SWIN_B_TRUNK = 86_743_224  # with the classifier's norm, without the classifier


def convolution(inputs, outputs, size, bias=True):
    return inputs * outputs * size * size + bias * outputs


def heads(channels):
    """CondInst's parts behind the pyramid, by the paper's sizes, for 80 classes."""
    tower = 4 * (convolution(channels, channels, 3) + 2 * channels)
    fcos = 2 * tower + sum(convolution(channels, out, 3) for out in (80, 4, 1)) + 5
    branch = 3 * (convolution(channels, 128, 3, bias=False) + 256)
    branch += 4 * (convolution(128, 128, 3, bias=False) + 256) + convolution(128, 16, 1)
    return fcos + branch + convolution(channels, 233, 3)


def pyramid(inputs):
    return sum(convolution(c, 256, 1) for c in inputs) + 5 * convolution(256, 256, 3)


def test_every_named_model_builds():
    names = [model.name for model in MODELS]
    assert len(set(names)) == len(names)
    for name in names:
        recipe = build_recipe(name, "sim", 2, pretrained=False)
        assert recipe.detector.num_classes == 2
        recipe.build_objective(100)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("condinst-r101", RESNET_101_TRUNK + pyramid((512, 1024, 2048)) + heads(256)),
        ("condinst-swinb", SWIN_B_TRUNK + pyramid((256, 512, 1024)) + heads(256)),
    ],
)
def test_sizes_within_two_percent(name, published):
    recipe = build_recipe(name, "boxinst", 80, pretrained=False)
    counted = sum(parameter.numel() for parameter in recipe.detector.build().parameters())
    assert counted == pytest.approx(published, rel=0.02)


def test_dcn_bifpn_size():
    deformable = sum(
        number * convolution(width, 27, 3) for number, width in ((2, 128), (8, 256), (1, 512))
    )
    fusions = 6 * 8 * (convolution(160, 160, 3, bias=False) + 320)
    lateral = 160 * (512 + 1024 + 2048 + 2048) + 4 * 320
    recipe = build_recipe("condinst-r101-dcn-bifpn", "boxinst", 80, pretrained=False)
    counted = sum(parameter.numel() for parameter in recipe.detector.build().parameters())
    expected = RESNET_101_TRUNK + deformable + fusions + lateral + heads(160)
    assert counted == pytest.approx(expected, rel=0.001)


def test_swin_learns_with_adamw_and_takes_any_size():
    recipe = build_recipe("condinst-swint", "boxinst", 3, pretrained=False)
    assert (recipe.optimizer.name, recipe.optimizer.learning_rate) == ("adamw", 1e-4)
    detector = recipe.detector.build().eval()
    with torch.no_grad():
        outputs = detector(torch.rand(1, 3, 96, 160), torch.ones(1, 96, 160, dtype=torch.bool))
    assert outputs.features.shape == (1, 16, 12, 20)


def test_facts():
    model = next(model for model in MODELS if model.name == "condinst-lite0")
    facts = model_facts(model, 6)
    assert facts.backbone == "tf_efficientnet_lite0"
    assert facts.image_size == 320
    assert 3e6 < facts.parameters < 8e6


@pytest.mark.parametrize("name", ["yolo", "condinst", "condinst-", "maskrcnn"])
def test_unknown_model_says_which_there_are(name):
    with pytest.raises(UserError, match="condinst-lite0"):
        build_recipe(name, "boxinst", 1)


@pytest.mark.parametrize(
    ("name", "match"), [("condinst-lite0-dcn", "ResNets"), ("solov2-lite0-bifpn", "timm")]
)
def test_words_that_do_not_fit(name, match):
    with pytest.raises(UserError, match=match):
        build_recipe(name, "boxinst", 1, pretrained=False).detector.build()
