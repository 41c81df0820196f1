import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from boxmask.engine.module import (
    OTHER_PROCESSES,
    ModuleSettings,
    RunningMeans,
    TrainingModule,
    _step_seed,
)
from boxmask.engine.optimizer import OptimizerSettings
from boxmask.errors import UserError

BOXES = [[[2, 2, 40, 50]], [[5, 5, 30, 30]]]


@pytest.fixture
def module(detector, objective, monkeypatch):
    """A module as a trainer would hold it, at a step of our choice."""
    settings = ModuleSettings(
        optimizer=OptimizerSettings(), batch=2, total_steps=10, average_decay=0.9
    )
    module = TrainingModule(detector, objective, settings)
    place = SimpleNamespace(step=0)
    monkeypatch.setattr(TrainingModule, "global_step", property(lambda _: place.step))
    monkeypatch.setattr(TrainingModule, "current_epoch", property(lambda _: 0))
    monkeypatch.setattr(TrainingModule, "progress", property(lambda _: place.step / 10))
    module.place = place
    return module


def test_average_follows_optimizer_steps_alone(module, make_batch):
    batch = make_batch(*BOXES)
    module.on_train_start()
    moved = []
    for step in (0, 1, 1, 2):  # the first and third batch are parts of a larger one
        module.training_step(batch, 0)
        module.place.step = step
        module.on_train_batch_end(None, batch, 0)
        moved.append(int(module.average.updates))
    assert moved == [0, 1, 1, 2]


def test_losses_learn_from_every_part_of_a_batch(module, make_batch, monkeypatch):
    learned = []
    monkeypatch.setattr(module.step.objective, "update", learned.append)
    module.on_train_start()
    parts = [make_batch(BOXES[0], []), make_batch([], BOXES[1])]
    for step, part in enumerate(parts):  # one optimizer step after both
        module.training_step(part, 0)
        module.place.step = step
        module.on_train_batch_end(None, part, 0)
    assert [context.batch for context in learned] == parts


def test_going_on_moves_nothing_by_itself(module, make_batch):
    batch = make_batch(*BOXES)
    module.place.step = 7
    module.on_train_start()
    module.training_step(batch, 0)
    module.on_train_batch_end(None, batch, 0)  # a part of a larger batch
    assert int(module.average.updates) == 0


def test_each_process_takes_its_own_extra_states(module, monkeypatch):
    """With another number of processes they are dealt out in turn; alone nothing is added."""
    alone = {"state_dict": {"weight": 1, "bank._extra_state": "first"}}
    module.on_save_checkpoint(alone)
    assert alone == {"state_dict": {"weight": 1, "bank._extra_state": "first"}}
    for rank, others, expected in (
        (0, ["second"], "first"), (1, ["second"], "second"), (2, ["second"], "first"),
        (1, [], "first"), (1, ["second", "third"], "second"),
    ):  # fmt: skip
        monkeypatch.setattr("boxmask.ranks.rank", lambda rank=rank: rank)
        saved = {"state_dict": {"weight": 1, "bank._extra_state": "first"}}
        if others:
            saved[OTHER_PROCESSES] = [{"bank._extra_state": other} for other in others]
        module.on_load_checkpoint(saved)
        assert saved["state_dict"] == {"weight": 1, "bank._extra_state": expected}


def test_means_of_an_epoch(module, make_batch):
    module.on_train_epoch_start()
    losses = [module.training_step(make_batch(*BOXES), number).item() for number in range(2)]
    means = module.epoch_means.compute()
    assert means["loss"] == pytest.approx(sum(losses) / 2, rel=1e-5)
    assert 0 <= means["fill"] <= 1
    assert means["rate"] > 0


def test_stops_with_names_when_a_loss_is_not_finite(module, make_batch):
    batch = make_batch(*BOXES)
    batch.images[0, 0, 0, 0] = float("nan")
    with pytest.raises(UserError, match=r"loss_class.* became NaN or infinite at step 0") as error:
        module.training_step(batch, 0)
    assert "first.png, second.png" in error.value.where
    assert "--learning-rate" in error.value.fix


def test_on_a_gpu_losses_are_looked_at_a_step_later(module, make_batch, monkeypatch):
    monkeypatch.setattr(TrainingModule, "device", property(lambda _: torch.device("cuda")))
    good, bad = make_batch(*BOXES), make_batch(*BOXES)
    bad.images[0, 0, 0, 0] = float("nan")
    module.training_step(good, 0)
    module.means_of_epoch()
    for later in (lambda: module.training_step(good, 2), module.means_of_epoch):
        module.training_step(bad, 1)
        with pytest.raises(UserError, match="became NaN or infinite at step 0"):
            later()
        module._unchecked = None


def test_moving_average_is_saved_with_the_model(module):
    names = set(module.state_dict())
    assert any(name.startswith("average.model.") for name in names)
    assert "average._extra_state" in names  # how often it moved


def test_running_means():
    means = RunningMeans()
    assert means.compute() == {}
    means.add({"loss": torch.tensor(1.0), "fill": torch.tensor(0.5, dtype=torch.bfloat16)})
    means.add({"loss": torch.tensor(3.0), "fill": torch.tensor(0.25)})
    found = means.compute()
    assert found["loss"] == 2
    assert found["fill"] == 0.375


def test_seeds_differ_by_step_and_not_by_interpreter():
    seeds = {_step_seed(0, epoch, step) for epoch in range(20) for step in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)
    code = "print(hash((3, 4, 5, 0)) % (2**63))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert int(said.stdout) == _step_seed(3, 4, 5)
