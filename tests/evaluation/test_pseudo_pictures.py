from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from boxmask.box_supervision.objective import Objective, Term
from boxmask.box_supervision.projection_loss import ProjectionLossSettings
from boxmask.data.pictures import read_picture
from boxmask.evaluation.pseudo_pictures import PseudoPictures


@pytest.fixture
def make_module(small_detector):
    """Makes what the pictures look at of a training module."""

    def make(loss):
        return SimpleNamespace(
            step=SimpleNamespace(objective=Objective({"loss_x": loss}, {"loss_x": Term()})),
            average=SimpleNamespace(model=small_detector),
            device=torch.device("cpu"),
            current_epoch=3,
        )

    return make


@pytest.fixture
def pictures(make_record):
    records = [
        make_record(name="empty.png"),
        make_record([4, 4, 30, 40], [20, 8, 60, 44], labels=[0, 1], name="a.png"),
        make_record([4, 4, 30, 40], name="b.png"),
        make_record([4, 4, 30, 40], name="c.png"),
    ]
    return PseudoPictures(
        records=records, class_names=("disc", "star"), image_size=64, num_pictures=2
    )


def names_in(folder):
    return sorted(file.name for file in folder.glob("*.jpg"))


def test_draws_the_first_boxed_pictures_without_touching_training(
    pictures, make_module, make_loss, tmp_path
):
    loss = make_loss()
    before = {name: value for name, value in loss.state_dict().items() if "extra" not in name}
    before = {name: value.clone() for name, value in before.items()}
    numbers = torch.get_rng_state()
    read = [batch.names[0] for batch in pictures._batches()]
    pictures(make_module(loss), tmp_path / "run")
    assert torch.equal(numbers, torch.get_rng_state())
    assert all(torch.equal(loss.state_dict()[name], value) for name, value in before.items())
    assert len(loss.paste_bank) == 2
    assert read == ["a.png", "b.png"]
    assert names_in(tmp_path / "run") == ["train_pasted.jpg", "train_pseudo.jpg"]
    first = read_picture(tmp_path / "run" / "train_pseudo.jpg")
    torch.rand(7)
    pictures(make_module(loss), tmp_path / "run")
    assert (read_picture(tmp_path / "run" / "train_pseudo.jpg") == first).all()


def test_pasted_objects_are_drawn_however_rarely_training_pastes(
    pictures, make_module, make_loss, tmp_path
):
    loss = make_loss()
    loss.paste_bank.settings = replace(loss.paste_bank.settings, probability=1e-9)
    pictures(make_module(loss), tmp_path)
    assert names_in(tmp_path) == ["train_pasted.jpg", "train_pseudo.jpg"]


def test_no_pasted_objects_before_training_pastes(pictures, make_module, make_loss, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "train_pasted.jpg").write_text("of an earlier run")
    pictures(make_module(make_loss(remembered=1, capacity=2)), run)
    assert names_in(run) == ["train_pseudo.jpg"]


def test_other_methods_draw_nothing(pictures, make_module, tmp_path):
    pictures(make_module(ProjectionLossSettings().build()), tmp_path / "run")
    assert not (tmp_path / "run").exists()
