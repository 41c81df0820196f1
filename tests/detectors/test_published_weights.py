from dataclasses import replace

import pytest
import torch

from boxmask.detectors.condinst import CondInstHeads
from boxmask.detectors.published_weights import load_published_heads
from boxmask.errors import UserError


@pytest.fixture
def heads(small_settings):
    return CondInstHeads(replace(small_settings, mask_norm="batch"))


def as_published(heads):
    """The heads' weights under the names of a published checkpoint, and one of another part."""
    renamed = {"backbone.bottom_up.stem.conv1.weight": torch.rand(3)}
    for name, value in heads.state_dict().items():
        if name == "fcos_head.scales":
            for level, scale in enumerate(value):
                renamed[f"proposal_generator.fcos_head.scales.{level}.scale"] = scale.reshape(1)
        elif name.startswith("fcos_head."):
            renamed[f"proposal_generator.{name}"] = value
        else:
            renamed[name] = value
    return renamed


def test_published_names(heads, small_settings):
    with torch.no_grad():
        heads.fcos_head.scales.copy_(torch.arange(5.0))
    other = CondInstHeads(replace(small_settings, mask_norm="batch"))
    assert load_published_heads(other, as_published(heads)) == [
        "backbone.bottom_up.stem.conv1.weight"
    ]
    for name, value in heads.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_checkpoints_that_do_not_fit(heads):
    published = as_published(heads)
    published["controller.weight"] = torch.rand(169, 64, 3, 3)
    del published["controller.bias"]
    before = {name: value.clone() for name, value in heads.state_dict().items()}
    with pytest.raises(UserError, match="2 weights differ") as error:
        load_published_heads(heads, published)
    assert "controller.weight: expected" in error.value.where
    assert "got nothing" in error.value.where
    assert all(torch.equal(heads.state_dict()[name], value) for name, value in before.items())
