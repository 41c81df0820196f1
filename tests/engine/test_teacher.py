import pytest
import torch
from torch import nn

from boxmask.engine.teacher import MovingAverage


class Number(nn.Module):
    """One weight and one buffer."""

    def __init__(self, value):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value], dtype=torch.float64))
        self.register_buffer("seen", torch.tensor([value], dtype=torch.float64))

    def forward(self, x):
        return x * self.weight


def warm(average):
    """Skips the warm-up of the decay."""
    average.updates = 10**9
    return average


def test_starts_as_the_model():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    average = MovingAverage(model, 0.99)
    for name, value in model.state_dict().items():
        assert torch.equal(average.model.state_dict()[name], value)
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert not average.model.training
    assert not average.train().model.training


def test_one_update():
    model = Number(2.0)
    average = warm(MovingAverage(model, 0.9))
    with torch.no_grad():
        model.weight.fill_(5.0)
        model.seen.fill_(7.0)
    average.update(model)
    assert average.model.weight.item() == pytest.approx(0.9 * 2 + 0.1 * 5)
    assert average.model.seen.item() == 7  # buffers are copied
    assert model.weight.item() == 5


def test_buffers_follow_each_change():
    model = Number(2.0)
    average = MovingAverage(model, 0.9)
    for value in (7.0, 8.0):
        average.update(model)
        with torch.no_grad():
            model.seen.fill_(value)  # the same tensor
        average.update(model)
        assert average.model.seen.item() == value
    model.seen = torch.tensor([9.0], dtype=torch.float64)  # another one
    average.update(model)
    assert average.model.seen.item() == 9
    average.model.load_state_dict({"weight": torch.zeros(1), "seen": torch.zeros(1)})
    average.update(model)
    assert average.model.seen.item() == 9


def test_statistics_of_norms_in_training_follow():
    """Whether or not they count what they have seen."""
    model = nn.Sequential(nn.BatchNorm2d(2)).train()
    average = MovingAverage(model, 0.9)
    model[0].num_batches_tracked = None
    average.model[0].num_batches_tracked = None
    for _ in range(3):
        model(torch.randn(4, 2, 3, 3) + 5)
        average.update(model)
        assert torch.equal(average.model[0].running_mean, model[0].running_mean)
    assert average.model[0].running_mean.min() > 0.5


def test_buffers_that_stay_are_not_copied_again(monkeypatch):
    copies = []
    copy = torch._foreach_copy_
    monkeypatch.setattr(torch, "_foreach_copy_", lambda *both: copies.append(both) or copy(*both))
    model = Number(2.0)
    average = MovingAverage(model, 0.9)
    for _ in range(3):
        average.update(model)
    assert len(copies) == 1


@pytest.mark.parametrize(
    ("decay", "updates", "left"), [(0.999, 1000, 0.367695), (0.9999, 10000, 0.367861)]
)
def test_share_of_the_start_after_many_updates(decay, updates, left):
    model = Number(0.0)
    average = warm(MovingAverage(model, decay))
    with torch.no_grad():
        model.weight.fill_(1.0)
    for _ in range(updates):
        average.update(model)
    assert average.model.weight.item() == pytest.approx(1 - left, abs=1e-6)


def test_decay_warms_up():
    model = Number(0.0)
    average = MovingAverage(model, 0.95)
    with torch.no_grad():
        model.weight.fill_(1.0)
    left = 1.0
    for step in range(400):
        average.update(model)
        left *= min(0.95, (1 + step) / (10 + step))
        assert average.model.weight.item() == pytest.approx(1 - left, abs=1e-12)
    assert int(average.updates) == 400


def test_a_constant_model_changes_nothing():
    model = Number(3.0)
    average = MovingAverage(model, 0.9)
    for _ in range(10):
        average.update(model)
    assert average.model.weight.item() == 3


def test_outputs_have_no_graph_and_wait_for_the_update():
    model = Number(2.0)
    average = MovingAverage(model, 0.5)
    with torch.no_grad():
        model.weight.fill_(4.0)
    output = average(torch.ones(1, dtype=torch.float64))
    assert output.item() == 2
    assert not output.requires_grad
    average.update(model)
    assert average(torch.ones(1, dtype=torch.float64)).item() != 2


def test_resumes_where_it_was():
    model = Number(0.0)
    first, second = MovingAverage(model, 0.99), MovingAverage(model, 0.99)
    with torch.no_grad():
        model.weight.fill_(1.0)
    for _ in range(5):
        first.update(model)
    second.load_state_dict(first.state_dict())
    first.update(model)
    second.update(model)
    assert torch.equal(first.model.weight, second.model.weight)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_out_of_range(decay):
    with pytest.raises(ValueError, match="decay: expected 0 <= decay < 1"):
        MovingAverage(Number(0.0), decay)
