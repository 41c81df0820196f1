import json
import math

import pytest
import torch
import yaml
from torch import nn

from boxmask.engine.run_folder import RunFolder, describe_machine, load_weights, save_weights
from boxmask.errors import UserError


@pytest.fixture
def folder(tmp_path):
    run = RunFolder(root=tmp_path / "run")
    run.create(resume=False, overwrite=False)
    return run


def test_arguments_come_back(folder):
    assert folder.read_arguments() is None
    folder.write_arguments({"data": "süß", "epochs": 3})
    assert folder.read_arguments() == {"data": "süß", "epochs": 3}


@pytest.mark.parametrize("text", ["", "[1]", "a: [", "epochs: 3"])
def test_broken_arguments_are_told(folder, text):
    folder.arguments.write_text(text)
    with pytest.raises(UserError, match="does not hold the arguments") as error:
        folder.read_arguments()
    assert "args.yaml" in error.value.where


def test_a_folder_in_use_is_left_alone(folder):
    folder.write_metrics({"a": 1})
    with pytest.raises(UserError, match="not empty") as error:
        folder.create(resume=False, overwrite=False)
    assert "--resume" in error.value.fix
    folder.add_results({"epoch": 1})
    folder.create(resume=False, overwrite=True)
    assert folder.read_results() == []


def test_nothing_to_resume(folder):
    for epoch in (1, 2):
        folder.add_results({"epoch": epoch})
    with pytest.raises(UserError, match="no checkpoint to resume"):
        folder.create(resume=True, overwrite=False)
    folder.last.touch()
    folder.create(resume=True, overwrite=False)
    assert len(folder.read_results()) == 2


def test_a_run_without_a_finished_epoch_begins_anew(folder):
    folder.write_arguments({"model": "boxinst"})
    folder.add_results({"epoch": 1})
    folder.create(resume=True, overwrite=False)
    assert folder.read_results() == []
    assert folder.arguments.is_file()
    assert folder.finished_epochs() == 0


def test_finished_epochs_are_those_of_the_checkpoint(folder):
    torch.save({"epoch": 1}, folder.last)
    assert folder.finished_epochs() == 2
    folder.last.write_bytes(b"cut off")
    with pytest.raises(UserError, match="checkpoint cannot be read"):
        folder.finished_epochs()


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="a file is in the place") as error:
            RunFolder(root=root).create(resume=False, overwrite=True)
        assert error.value.where == str(tmp_path / "file")


def test_results_grow_and_are_replaced_from_an_epoch_on(folder):
    for epoch in (1, 2, 3):
        folder.add_results({"epoch": epoch, "loss": 1 / epoch, "box_ap": math.nan})
    folder.add_results({"epoch": 2, "loss": 9.0, "more": "text"})
    rows = folder.read_results()
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert rows[1] == {"epoch": "2", "loss": "9", "box_ap": "", "more": "text"}
    assert rows[0]["box_ap"] == ""


def test_metrics_and_arguments(folder):
    folder.write_metrics({"box_ap": 0.5, "mask_ap": math.nan, "epoch": 3})
    assert json.loads(folder.metrics.read_text()) == {"box_ap": 0.5, "mask_ap": None, "epoch": 3}
    folder.write_arguments({"model": "boxinst", "nested": {"a": [1, 2]}})
    assert yaml.safe_load(folder.arguments.read_text())["nested"] == {"a": [1, 2]}
    assert "torch" in (folder.root / "env.txt").read_text()


def test_weights_there_and_back(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    file = tmp_path / "model.safetensors"
    save_weights(file, model, {"class_names": ["größe", "cat"]})
    tensors, description = load_weights(file)
    assert description == {"class_names": ["größe", "cat"]}
    assert set(tensors) == set(model.state_dict())
    assert all(torch.equal(tensors[name], value) for name, value in model.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_files_that_are_no_weights(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"nothing of ours")
    with pytest.raises(UserError, match="not weights that boxmask saved") as error:
        load_weights(file)
    assert str(file) in error.value.where


def test_machine():
    lines = describe_machine().splitlines()
    assert lines[0].startswith("python 3.")
    assert any(line.startswith("cpu threads") for line in lines)
