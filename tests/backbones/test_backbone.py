import copy

import pytest
import timm
import torch
from torch import nn

from boxmask.backbones.backbone import BackboneSettings
from boxmask.backbones.pretrained import packaged_file
from boxmask.errors import UserError


def build(**settings):
    return BackboneSettings(**{"pretrained": False} | settings).build()


def everything_valid(images):
    return torch.ones_like(images[:, 0], dtype=torch.bool)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "convnext_atto"])
def test_maps_have_the_promised_channels_and_strides(name):
    backbone = build(name=name)
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        maps = backbone.eval()(images, everything_valid(images))
    assert backbone.strides == (8, 16, 32)
    for found, channels, stride in zip(maps, backbone.channels, backbone.strides, strict=True):
        assert found.shape == (1, channels, 64 // stride, 96 // stride)


def test_a_compiler_makes_one_graph_for_all_sizes():
    torch._dynamo.reset()
    backbone = build(name="resnet18", frozen_stages=2).eval()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def maps():
        found = []
        for size in ((64, 96), (96, 64), (128, 96)):
            images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
            valid = everything_valid(images)
            found += backbone(images, valid, backbone.frozen_maps(images, valid))
        return found

    plain = maps()
    assert backbone.num_frozen
    assert backbone.map_parts == [backbone]
    backbone.compile(dynamic=True, fullgraph=True, backend=backend)
    for one, other in zip(plain, maps(), strict=True):
        torch.testing.assert_close(one, other)
    assert len(graphs) == 1
    torch._dynamo.reset()


def test_padding_by_size_is_not_compiled():
    assert build(name="tf_efficientnet_lite0", frozen_norm=True).map_parts == []
    assert build(name="tf_efficientnet_lite0", frozen_norm=False).map_parts == []


def test_a_finer_map_on_request():
    backbone = build(strides=(4, 8, 16, 32))
    images = torch.rand(1, 3, 64, 96)
    maps = backbone.eval()(images, everything_valid(images))
    assert backbone.strides == (4, 8, 16, 32)
    assert maps[0].shape == (1, backbone.channels[0], 16, 24)


def test_what_lies_in_the_padding_is_not_seen():
    backbone = build().eval()
    images = torch.rand(1, 3, 64, 64)
    valid = everything_valid(images)
    valid[:, 37:] = False
    changed = images.clone()
    changed[:, :, 37:] = 1.0
    with torch.no_grad():
        for one, other in zip(backbone(images, valid), backbone(changed, valid), strict=True):
            assert torch.equal(one, other)


def test_frozen_norms_are_frozen_before_anybody_calls_train():
    norms = [m for m in build(name="resnet18").modules() if isinstance(m, nn.BatchNorm2d)]
    assert not any(norm.training for norm in norms)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_norms(frozen):
    backbone = build(name="resnet18", frozen_norm=frozen).train()
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(norm.training != frozen for norm in norms)
    assert all(norm.weight.requires_grad != frozen for norm in norms)
    before = norms[0].running_mean.clone()
    images = torch.rand(2, 3, 32, 32)
    backbone(images, everything_valid(images))
    assert torch.equal(norms[0].running_mean, before) == frozen
    assert backbone.body.layer4[0].conv1.weight.requires_grad


@pytest.mark.parametrize(
    ("name", "stages", "frozen", "learns"),
    [
        ("resnet18", 1, ("conv1.", "bn1."), ("layer1.", "layer4.")),
        ("resnet18", 2, ("conv1.", "layer1."), ("layer2.", "layer4.")),
        ("tf_efficientnet_lite0", 1, ("conv_stem.", "blocks.0."), ("blocks.1.", "blocks.6.")),
        ("tf_efficientnet_lite0", 2, ("blocks.0.", "blocks.1."), ("blocks.2.", "blocks.6.")),
        ("convnext_atto", 2, ("stem_0.", "stages_0."), ("stages_1.", "stages_3.")),
    ],
)
def test_frozen_stages(name, stages, frozen, learns):
    body = build(name=name, frozen_stages=stages, frozen_norm=False).body
    for parameter_name, parameter in body.named_parameters():
        if parameter_name.startswith(frozen):
            assert not parameter.requires_grad, parameter_name
        if parameter_name.startswith(learns):
            assert parameter.requires_grad, parameter_name
    assert all(p.requires_grad for p in build(name=name, frozen_norm=False).body.parameters())


@pytest.mark.parametrize(
    ("name", "stages", "strides"),
    [
        ("tf_efficientnet_lite0", 2, (4, 8, 16, 32)),
        ("tf_efficientnet_lite0", 1, (8, 16, 32)),
        ("resnet18", 2, (4, 8, 16, 32)),
        ("resnet18", 1, (8, 16, 32)),
        ("convnext_atto", 2, (4, 8, 16, 32)),
        ("swin_tiny_patch4_window7_224", 2, (8, 16, 32)),
        ("mobilenetv3_small_100", 2, (8, 16, 32)),
    ],
)
def test_first_stages_run_apart(name, stages, strides):
    """A copy with other weights in its later stages takes over what the first ones found."""
    backbone = build(name=name, frozen_stages=stages, strides=strides).eval()
    other = copy.deepcopy(backbone).eval().requires_grad_(False)
    learning = {n for n, p in backbone.named_parameters() if p.requires_grad}
    assert learning
    for parameter_name, parameter in other.named_parameters():
        if parameter_name in learning:
            parameter.mul_(1.25)
    images = torch.rand(1, 3, 64, 96)
    valid = everything_valid(images)
    frozen = backbone.frozen_maps(images, valid)
    assert (frozen is None) == name.startswith("mobilenet")  # whose chain timm hides
    for model in (backbone, other):
        whole = model(images, valid)
        for one, expected in zip(model(images, valid, frozen), whole, strict=True):
            assert torch.equal(one, expected)
    if frozen is not None:
        assert not frozen.last.requires_grad
        assert stages < 2 or frozen.appearance.shape[2:] == (16, 24)
        assert backbone(images, valid, frozen)[-1].requires_grad


def test_nothing_is_shared_where_all_stages_move():
    backbone = build(name="resnet18")
    images = torch.rand(1, 3, 32, 32)
    assert backbone.frozen_maps(images, everything_valid(images)) is None


def test_what_is_shared_ends_before_a_norm_that_moves():
    assert build(name="resnet18", frozen_stages=2).num_frozen == 5  # up to layer1
    assert build(name="resnet18", frozen_stages=2, frozen_norm=False).num_frozen == 1  # conv1


def test_packaged_weights_stand_in_the_right_order():
    """They are matched by order alone: the kind and shape of each tensor must agree."""
    file = packaged_file("tf_efficientnet_lite0")
    published = torch.load(file, map_location="cpu", weights_only=True)
    ours = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    for (name, value), (other_name, other) in zip(published.items(), ours.items(), strict=True):
        assert name.rpartition(".")[2] == other_name.rpartition(".")[2]
        assert value.shape == other.shape


def test_packaged_weights_are_loaded():
    loaded = BackboneSettings().build()
    published = list(
        torch.load(
            packaged_file("tf_efficientnet_lite0"), map_location="cpu", weights_only=True
        ).values()
    )
    first, *_ = loaded.body.state_dict().values()
    assert torch.equal(first, published[0])
    norms = [v for n, v in loaded.body.state_dict().items() if n.endswith("running_var")]
    assert not any((norm == 1).all() for norm in norms)
    assert loaded.mean.flatten().tolist() == pytest.approx([127 / 255] * 3)


def test_names_that_timm_does_not_know():
    with pytest.raises(UserError, match="no timm model is called 'resnet1800'") as error:
        build(name="resnet1800")
    assert "resnet" in error.value.fix


def test_models_without_such_maps():
    name = next(name for name in timm.list_models("vit_tiny_patch16_224*"))
    with pytest.raises(UserError, match="cannot serve as a backbone"):
        build(name=name)
