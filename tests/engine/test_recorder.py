import json
import math
import warnings
from types import SimpleNamespace

import pytest
import torch

from boxmask.engine.module import ModuleSettings, TrainingModule
from boxmask.engine.optimizer import OptimizerSettings
from boxmask.engine.recorder import (
    RecorderSettings,
    RunRecorder,
    epoch_line,
    fitness_of,
    warmup_of_epoch,
)
from boxmask.engine.run_folder import RunFolder, load_weights
from boxmask.remarks import Remark


@pytest.mark.parametrize(
    ("scores", "fitness"),
    [
        ({"box_ap": 0.5, "box_tightness": 0.8, "mask_ap": 0.1}, 0.4),
        ({"box_ap": 0.5, "box_tightness": 0.8, "mask_ap": 0.9}, 0.4),  # masks do not choose
        ({"box_ap": 0.5, "box_tightness": math.nan}, 0.0),
        ({}, 0.0),
    ],
)
def test_fitness(scores, fitness):
    assert fitness_of(scores) == pytest.approx(fitness)


@pytest.mark.parametrize(("epoch", "share"), [(1, 1.0), (2, 1.0), (3, 0.5), (4, 0.0), (10, 0.0)])
def test_part_of_an_epoch_in_the_warmup(epoch, share):
    assert warmup_of_epoch(epoch, 10, 0.25) == pytest.approx(share)


def test_line_of_an_epoch():
    row = {
        "epoch": 3,
        "minutes": 1.25,
        "train/rate": 2.0,
        "train/loss_class": 0.5,
        "train/fill": 0.61,
        "box_ap": 0.412,
        "mask_ap": math.nan,
    }
    line = epoch_line(row)
    assert line.startswith("epoch 3  1.2 min  2.00 it/s  class 0.500  fill 0.61")
    assert "box AP 0.412" in line
    assert "mask AP" not in line
    assert "fill 0.61 (val 0.42)  box AP" in epoch_line({**row, "fill": 0.42})


@pytest.fixture
def run(tmp_path, detector, objective):
    """Runs epochs with given scores; gives the folder and the printed lines."""
    folder = RunFolder(root=tmp_path / "run")
    folder.create(resume=False, overwrite=False)
    settings = ModuleSettings(
        optimizer=OptimizerSettings(), batch=2, total_steps=10, average_decay=0.9
    )
    module = TrainingModule(detector, objective, settings)
    said = []

    def epochs(scores_of_epochs, *, every=1, scored=True, warn=lambda _: None, pictures=None):
        waiting = iter(scores_of_epochs)
        recorder = RunRecorder(
            RecorderSettings(
                folder=folder,
                scoring=(lambda *_: next(waiting)) if scored else None,
                every=every,
                description={"note": "test"},
                warmup=0.1,
                warn=warn,
                say=said.append,
                pictures=pictures,
            )
        )
        total = len(scores_of_epochs) * every if scored else 2
        for epoch in range(total):
            module.on_train_epoch_start()
            module.epoch_means.add({"loss": torch.tensor(1.0), "fill": torch.tensor(0.5)})
            optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
            trainer = SimpleNamespace(
                current_epoch=epoch, max_epochs=total, global_step=epoch, optimizers=[optimizer]
            )
            recorder.on_train_epoch_start(trainer, module)
            recorder.on_train_epoch_end(trainer, module)
        return recorder

    return SimpleNamespace(epochs=epochs, folder=folder, said=said)


def scores_of(box_ap):
    return {"box_ap": box_ap, "box_tightness": 1.0, "mask_ap": 1 - box_ap, "fill": 0.5}


def test_best_epoch_is_kept(run):
    recorder = run.epochs([scores_of(0.2), scores_of(0.6), scores_of(0.4)])
    assert json.loads(run.folder.metrics.read_text())["epoch"] == 2
    assert recorder.state_dict()["best_fitness"] == pytest.approx(0.6)
    rows = run.folder.read_results()
    assert [row["box_ap"] for row in rows] == ["0.2", "0.6", "0.4"]
    assert len(run.said) == 3
    assert load_weights(run.folder.best)[1] == {"note": "test"}


def test_a_later_epoch_that_is_level_is_kept(run):
    """Boxes are found before masks are."""
    recorder = run.epochs([scores_of(ap) for ap in (0.2, 0.6, 0.595, 0.575, 0.565)])
    assert json.loads(run.folder.metrics.read_text())["epoch"] == 4
    assert recorder.best_fitness == pytest.approx(0.6)  # levels are not counted from each other


def test_scores_every_few_epochs_and_at_the_end(run):
    run.epochs([scores_of(0.2), scores_of(0.1)], every=2)
    rows = run.folder.read_results()
    assert [row["box_ap"] for row in rows] == ["", "0.2", "", "0.1"]
    assert json.loads(run.folder.metrics.read_text())["epoch"] == 2


@pytest.mark.parametrize("scored", [True, False])
def test_draws_what_is_taught_when_an_epoch_is_scored(run, scored):
    drawn = []

    def draw(module, folder):
        assert folder == run.folder.root
        drawn.append(len(run.folder.read_results()))  # the row is written before

    run.epochs([scores_of(0.2), scores_of(0.1)], every=2, scored=scored, pictures=draw)
    assert drawn == ([2, 4] if scored else [2])


def test_without_scoring_the_last_epoch_is_kept(run):
    run.epochs([], scored=False)
    assert json.loads(run.folder.metrics.read_text())["epoch"] == 2
    assert run.folder.best.is_file()


def test_warnings_are_said(run):
    run.epochs([scores_of(0.2)], warn=lambda scores: f"fill is {scores['fill']}")
    assert run.said[-1] == "  ! in val, fill is 0.5"
    assert "fill 0.50 (val 0.50)" in run.said[-2]


def test_warnings_between_scorings_are_of_training(run):
    run.epochs([scores_of(0.2)], every=2, warn=lambda scores: f"fill is {scores['fill']}")
    assert run.said[1] == "  ! in training, fill is 0.5"
    assert "val" not in run.said[0]


def test_remarks_on_scores_are_said_and_not_warned(run, recwarn):
    def scores():
        warnings.warn("nothing was found", Remark, stacklevel=1)
        warnings.warn("of a library", UserWarning, stacklevel=1)
        yield scores_of(0.0)

    class Scores:
        __len__ = lambda _: 1  # noqa: E731
        __iter__ = lambda _: scores()  # noqa: E731

    run.epochs(Scores())
    assert run.said[1:] == ["  ! nothing was found"]
    assert [str(one.message) for one in recwarn] == ["of a library"]


def test_goes_on_where_it_was(run):
    state = run.epochs([scores_of(0.7)]).state_dict()
    recorder = run.epochs([])
    recorder.load_state_dict(state)
    assert recorder.best_fitness == pytest.approx(0.7)
    assert recorder.best_metrics["epoch"] == 1
