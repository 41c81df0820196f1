"""Rows of a published table: what is trained for them, and what is written beside them."""

from pathlib import Path

import pytest

from boxmask.api.options import TrainOptions
from boxmask.api.train import TrainedRun
from boxmask.benchmark.published_table import TABLE_1
from boxmask.benchmark.reproduce import filled_table, reproduce
from boxmask.benchmark.run_list import RunSteps
from boxmask.benchmark.settings import ReproduceSettings
from boxmask.cli.main import run as run_command
from boxmask.data.synthetic import SyntheticSettings, write_synthetic
from boxmask.errors import UserError
from boxmask.recipes.models import build_recipe


def silent(line):
    pass


def test_every_row_has_its_numbers_and_a_model_that_builds():
    assert len({row.key for row in TABLE_1}) == len(TABLE_1) == 20
    for row in TABLE_1:
        assert len(row.scores) == 6
        known = [score for score in row.scores if score is not None]
        assert all(10 < score < 75 for score in known)
        assert (row.model == "") == (row.trained_with is None)
        if row.model:
            TrainOptions(model=row.model, method=row.trained_with, schedule=row.ours)
            build_recipe(row.model, row.trained_with, 80, pretrained=False)


@pytest.mark.parametrize(
    ("key", "scores"),
    [
        ("sim-r101-fpn-3x", (35.3, 58.9, 36.4, 18.4, 38.0, 47.5)),
        ("sim-swinb-fpn-3x", (40.2, 66.9, 41.3, 21.1, 43.5, 56.0)),
        ("mask2former-r101-50e", (44.2, None, None, 23.8, 47.7, 66.7)),
    ],
)
def test_published_numbers(key, scores):
    assert next(row for row in TABLE_1 if row.key == key).scores == scores


def test_gains_of_sim_are_those_of_the_table():
    ap = {row.key: row.scores[0] for row in TABLE_1}
    for words in ("r101-fpn-3x", "r101-dcn-bifpn-3x", "swinb-fpn-3x", "mask2former-r101-50e"):
        gain = ap[f"sim-{words}"] - ap[f"boxinst-{words}"]
        assert 1.6 < gain < 2.5


def test_measured_numbers_stand_below_published_ones():
    text = filled_table(TABLE_1, {"sim-r101-fpn-3x": {"mask_ap": 0.3512, "mask_ap50": 0.58}})
    lines = text.splitlines()
    row = next(i for i, line in enumerate(lines) if "`sim-r101-fpn-3x`" in line)
    assert "| published, test-dev | 35.3 | 58.9 |" in lines[row]
    assert lines[row + 1] == "|  |  | measured, val | 35.1 | 58.0 | - | - | - | - |"
    assert sum("measured" in line for line in lines) == 1


def test_a_row_is_trained_as_the_paper_trains_it(tmp_path):
    given = []

    def train(data, *, out, say, **options):
        given.append((data, out.name, options))
        return TrainedRun(dir=out, best=out, metrics={"mask_ap": 0.34})

    settings = ReproduceSettings(data=tmp_path, row=("sim-r101-fpn-1x",), out=tmp_path / "runs")
    text = reproduce("table1", settings, say=silent, steps=RunSteps(train=train))
    ((data, folder, options),) = given
    assert (data, folder) == (tmp_path, "sim-r101-fpn-1x")
    assert options["model"] == "condinst-r101"
    assert options["schedule"] == "1x"
    assert options["preset"] == "paper"
    assert options["settings"] == ("warmup=0.1111",)
    assert "| measured, val | 34.0 |" in text
    again = reproduce("table1", ReproduceSettings(out=tmp_path / "runs"), say=silent)
    assert again == text
    assert (tmp_path / "runs" / "table1.md").read_text().strip() == text


@pytest.mark.parametrize(
    ("row", "match"),
    [("polarmask-r101-fpn-2x", "PolarMask cannot be trained"), ("sim-r101-3x", "no row")],
)
def test_rows_that_cannot_be_trained(tmp_path, row, match):
    with pytest.raises(UserError, match=match):
        reproduce("table1", ReproduceSettings(row=(row,), out=tmp_path), say=silent)


def test_data_and_table_must_be_there(tmp_path):
    with pytest.raises(UserError, match="no data"):
        reproduce("table1", ReproduceSettings(row=("sim-r101-fpn-3x",), out=tmp_path), say=silent)
    with pytest.raises(UserError, match="table1"):
        reproduce("table7", ReproduceSettings(out=tmp_path), say=silent)


def test_the_command_shows_the_table(tmp_path, capsys):
    assert run_command(["reproduce", "table1", "--out", str(tmp_path)]) == 0
    assert "| `sim-swinb-fpn-3x` | boxes | published, test-dev | 40.2 |" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("row", [row.key for row in TABLE_1 if row.ours])
def test_smoke_of_every_row(tmp_path, row):
    """The real model of the row, on four drawn pictures."""
    pictures = SyntheticSettings(num_train=4, num_val=2, image_size=(48, 64), num_shapes=(2, 3))
    data = write_synthetic(tmp_path / "shapes", pictures)
    settings = ReproduceSettings(data=data, row=(row,), smoke=True, out=tmp_path / "runs")
    text = reproduce("table1", settings, say=silent)
    assert "measured, val" in text
    assert (settings.folder / row / "weights" / "best.safetensors").is_file()
    assert Path(settings.folder / "table1.md").is_file()
