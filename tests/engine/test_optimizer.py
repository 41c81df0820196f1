import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from boxmask.engine.optimizer import OptimizerSettings, build_optimizer, rate_factor


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, 2, 1)
        self.backbone_of_another_name = nn.Linear(2, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def group_of(optimizer, parameter):
    for group in optimizer.param_groups:
        if any(parameter is member for member in group["params"]):
            return group["lr"], group["weight_decay"]
    return None


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_groups(name, kind):
    model = Model()
    settings = OptimizerSettings(
        name=name, learning_rate=0.1, base_batch=4, weight_decay=0.05, backbone_factor=0.5
    )
    optimizer = build_optimizer(model, settings, 4)
    assert isinstance(optimizer, kind)
    assert group_of(optimizer, model.backbone[0].weight) == (0.05, 0.05)
    assert group_of(optimizer, model.backbone[0].bias) == (0.05, 0.0)
    assert group_of(optimizer, model.backbone[1].weight) == (0.05, 0.0)
    assert group_of(optimizer, model.head.weight) == (0.1, 0.05)
    assert group_of(optimizer, model.head.bias) == (0.1, 0.0)
    assert group_of(optimizer, model.backbone_of_another_name.weight) == (0.1, 0.05)
    assert group_of(optimizer, model.frozen.weight) is None
    count = sum(len(group["params"]) for group in optimizer.param_groups)
    assert count == sum(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "batch", "rate"),
    [
        ("sgd", 16, 0.01),
        ("sgd", 4, 0.0025),
        ("sgd", 32, 0.02),
        ("adamw", 16, 0.01),
        ("adamw", 4, 0.005),
        ("adamw", 64, 0.02),
    ],
)
def test_rate_follows_the_batch(name, batch, rate):
    settings = OptimizerSettings(name=name, learning_rate=0.01, base_batch=16)
    assert settings.scaled_rate(batch) == pytest.approx(rate)


def test_step_schedule():
    settings = OptimizerSettings(schedule="step", warmup=0.1, milestones=(0.6, 0.9))
    factor = rate_factor(settings, 100)
    assert factor(0) == pytest.approx(0.1)
    assert factor(4) == pytest.approx(0.5)
    assert factor(9) == factor(59) == pytest.approx(1.0)
    assert factor(60) == factor(89) == pytest.approx(0.1)
    assert factor(90) == factor(100) == pytest.approx(0.01)


def test_cosine_schedule():
    factor = rate_factor(OptimizerSettings(warmup=0.1), 100)
    assert factor(0) == pytest.approx(0.1 * 1, rel=1e-2)
    assert factor(50) == pytest.approx(0.01 + 0.99 / 2)
    assert factor(100) == pytest.approx(0.01)
    assert all(factor(step) > factor(step + 1) for step in range(10, 100))


@given(
    st.integers(0, 300), st.integers(0, 500), st.floats(0, 1), st.sampled_from(["cosine", "step"])
)
def test_rates_stay_between_zero_and_one(total, step, warmup, schedule):
    value = rate_factor(OptimizerSettings(warmup=warmup, schedule=schedule), total)(step)
    assert 0 < value <= 1 + 1e-12
    assert math.isfinite(value)
