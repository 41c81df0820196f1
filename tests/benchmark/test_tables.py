"""Tables of the quickstart and of the accuracy benchmark."""

from pathlib import Path

import pytest

from boxmask.api.train import TrainedRun
from boxmask.benchmark.accuracy import AccuracySettings, main, measure, table
from boxmask.benchmark.quickstart import comparison
from boxmask.benchmark.run_list import RunSteps
from boxmask.errors import UserError


def finish(folder, text):
    folder.mkdir(parents=True)
    (folder / "done.json").write_text(text)


def test_cells_are_mean_and_standard_deviation_over_seeds():
    runs = [{"box_ap": 0.5, "mask_ap": 0.3}, {"box_ap": 0.6, "mask_ap": None}]
    last = table([("animals", "condinst-lite0", "boxinst", runs)]).splitlines()[-1]
    assert (
        last
        == "| animals | condinst-lite0 | boxinst | 2 | 0.550 ± 0.071 | 0.300 | - | - | - | - | - |"
    )


def test_finished_runs_are_read_and_not_trained_again(tmp_path):
    finish(tmp_path / "animals-boxinst-0", '{"box_ap": 0.25}')
    settings = AccuracySettings(methods=("boxinst",), out=tmp_path)
    assert "| 0.250 |" in measure([Path("somewhere/animals")], settings)
    assert "| 0.250 |" in (tmp_path / "table.md").read_text()


def test_missing_runs_are_trained_with_the_options_that_were_chosen(tmp_path):
    given = []

    def train(data, *, out, say, **options):
        given.append((data, out.name, options))
        return TrainedRun(
            dir=out, best=out, metrics={"box_ap": 0.5, "minutes": 2.4, "memory_gb": 1.26}
        )

    settings = AccuracySettings(methods=("full",), seeds=(0, 3), epochs=7, out=tmp_path)
    text = measure(
        [Path("a/animals")], settings, say=lambda line: None, steps=RunSteps(train=train)
    )
    options = {"model": "condinst-lite0", "method": "full", "epochs": 7, "overwrite": True}
    assert given == [
        (Path("a/animals"), "animals-full-0", {**options, "seed": 0}),
        (Path("a/animals"), "animals-full-3", {**options, "seed": 3}),
    ]
    assert text.splitlines()[-1].startswith(
        "| animals | condinst-lite0 | full | 2 | 0.500 ± 0.000 |"
    )
    assert text.splitlines()[-1].endswith("| 2.4 ± 0.0 | 1.3 ± 0.0 |")


def test_ablations_have_rows_beside_methods(tmp_path):
    given = []

    def train(data, *, out, say, **options):
        given.append((out.name, options["method"], options.get("settings")))
        return TrainedRun(dir=out, best=out, metrics={"box_ap": 0.5})

    settings = AccuracySettings(methods=("sim", "sim-without-copy-paste"), out=tmp_path)
    text = measure([Path("animals")], settings, say=lambda line: None, steps=RunSteps(train=train))
    assert given == [
        ("animals-sim-0", "sim", None),
        ("animals-sim-without-copy-paste-0", "sim", ("paste_probability=0",)),
    ]
    assert text.splitlines()[-1].startswith("| animals | condinst-lite0 | sim-without-copy-paste |")


def test_data_sets_of_one_name_would_share_their_runs(tmp_path):
    with pytest.raises(UserError, match="different names"):
        measure([Path("a/coco"), Path("b/coco")], AccuracySettings(out=tmp_path))


def test_the_module_takes_lists_of_words(tmp_path, capsys):
    for run in ("a-boxinst-0", "a-boxinst-4", "b-boxinst-0", "b-boxinst-4"):
        finish(tmp_path / run, '{"box_ap": 0.5}')
    main(["x/a", "x/b", "--methods", "boxinst", "--seeds", "0", "4", "--out", str(tmp_path)])
    rows = capsys.readouterr().out.splitlines()[-2:]
    assert [row.split(" | ")[:4] for row in rows] == [
        ["| a", "condinst-lite0", "boxinst", "2"],
        ["| b", "condinst-lite0", "boxinst", "2"],
    ]


def test_other_models_have_rows_and_folders_of_their_own(tmp_path):
    finish(tmp_path / "a-boxinst-0", '{"box_ap": 0.5}')
    finish(tmp_path / "a-solov2-lite0-boxinst-0", '{"box_ap": 0.25}')
    models = ("condinst-lite0", "solov2-lite0")
    settings = AccuracySettings(methods=("boxinst",), models=models, out=tmp_path)
    rows = measure([Path("x/a")], settings, say=lambda line: None).splitlines()[-2:]
    assert rows[0].startswith("| a | condinst-lite0 | boxinst | 1 | 0.500 |")
    assert rows[1].startswith("| a | solov2-lite0 | boxinst | 1 | 0.250 |")


def test_quickstart_table_has_a_row_a_method():
    run = TrainedRun(
        dir=Path(), best=Path(), metrics={"box_ap": 0.5, "mask_ap": 0.4, "minutes": 3.21}
    )
    lines = comparison({"sim": run, "full": run}).splitlines()
    assert lines[0].split() == ["box", "AP", "mask", "AP", "label", "IoU", "minutes"]
    assert lines[1].split()[-4:] == ["0.500", "0.400", "-", "3.2"]
