import copy
import pickle

import pytest
import timm
import torch
from torch import nn

from boxmask.backbones.backbone import BackboneSettings
from boxmask.backbones.folded_norms import fold_frozen_norms

NAMES = ("tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_050", "convnext_atto")


def frozen_body(name):
    """A timm body whose norms do not learn and are not the identity."""
    body = timm.create_model(name, features_only=True, pretrained=False).eval()
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    return body


def gradients(body, images):
    """Maps, and gradients of all weights that learn, by name."""
    maps = body(images)
    sum(one.square().mean() for one in maps).backward()
    return maps, {n: p.grad for n, p in body.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", NAMES)
def test_folded_is_the_same_function(name):
    plain = frozen_body(name).double()
    folded = copy.deepcopy(plain)
    num_norms = sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert fold_frozen_norms(folded) == num_norms
    images = torch.rand(2, 3, 64, 96, dtype=torch.float64)
    (expected, slopes), (found, ours) = gradients(plain, images), gradients(folded, images)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)
    assert slopes.keys() == ours.keys()
    for key, slope in slopes.items():
        torch.testing.assert_close(ours[key], slope, rtol=1e-6, atol=1e-10)


def test_names_and_values_of_weights_stay():
    plain = frozen_body("resnet18")
    folded = copy.deepcopy(plain)
    fold_frozen_norms(folded)
    expected, found = plain.state_dict(), folded.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    images = torch.rand(1, 3, 64, 64)
    other = frozen_body("resnet18")
    folded.load_state_dict(other.state_dict())  # also the norms' numbers are the new ones
    with torch.no_grad():
        for one, two in zip(folded(images), other(images), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))])
def test_copies_have_norms_of_their_own(copied):
    body = frozen_body("resnet18")
    fold_frozen_norms(body)
    other = copied(body)
    images = torch.rand(1, 3, 64, 64)
    before = [one.clone() for one in body(images)]
    numbers = other.state_dict()
    numbers.update({key: torch.zeros_like(numbers[key]) for key in numbers if "bn1.weight" in key})
    other.load_state_dict(numbers)
    for one, two in zip(before, body(images), strict=True):
        assert torch.equal(one, two)
    assert not torch.allclose(other(images)[-1], before[-1])


def test_norms_that_learn_are_left_alone():
    backbone = BackboneSettings(name="resnet18", pretrained=False, frozen_norm=False).build()
    kinds = {type(module) for module in backbone._norms()}
    assert kinds == {nn.BatchNorm2d}


def test_a_norm_behind_something_else_is_left_alone():
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    assert fold_frozen_norms(body) == 0


def test_the_bias_of_a_convolution_counts():
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    body[1].running_mean.normal_()
    body[1].running_var.uniform_(0.5, 2)
    images = torch.rand(1, 3, 64, 64)
    expected = body(images)
    assert fold_frozen_norms(body) == 1
    torch.testing.assert_close(body(images), expected, rtol=1e-4, atol=1e-5)


class Twice(nn.Module):
    """Takes a convolution's output with and without the norm behind it."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.norm.weight.data.fill_(3.0)

    def forward(self, images):
        found = self.convolution(images)
        return [self.norm(found) + found]


def test_a_convolution_that_is_needed_without_its_norm_is_left_alone():
    body = Twice().eval()
    images = torch.rand(1, 3, 64, 64)
    expected = body(images)
    assert fold_frozen_norms(body) == 0
    assert torch.equal(body(images)[0], expected[0])
    copy.deepcopy(body).load_state_dict(body.state_dict())


def test_other_weights_come_into_the_same_places():
    """A recorded graph reads there."""
    body, other = frozen_body("resnet18"), frozen_body("resnet18")
    fold_frozen_norms(body)
    kept = [b for name, b in body.named_buffers() if name.endswith(("norm_scale", "norm_shift"))]
    places, before = [one.data_ptr() for one in kept], [one.clone() for one in kept]
    body.load_state_dict(other.state_dict())
    now = [b for name, b in body.named_buffers() if name.endswith(("norm_scale", "norm_shift"))]
    assert len(now) == 40
    assert [one.data_ptr() for one in now] == places
    assert not any(torch.equal(one, old) for one, old in zip(now, before, strict=True))
    images = torch.rand(1, 3, 64, 64)
    for found, expected in zip(body(images), other(images), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
