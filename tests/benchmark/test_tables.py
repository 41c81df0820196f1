"""Tables of the quickstart and of the accuracy benchmark."""

from pathlib import Path

from boxmask.api.train import TrainedRun
from boxmask.benchmark.accuracy import AccuracySettings, measure, table
from boxmask.benchmark.quickstart import comparison


def test_cells_are_mean_and_standard_deviation_over_seeds():
    runs = [{"box_ap": 0.5, "mask_ap": 0.3}, {"box_ap": 0.6, "mask_ap": None}]
    last = table([("animals", "boxinst", runs)]).splitlines()[-1]
    assert last == "| animals | boxinst | 2 | 0.550 ± 0.071 | 0.300 | - | - | - | - |"


def test_finished_runs_are_read_and_not_trained_again(tmp_path):
    folder = tmp_path / "animals-boxinst-0"
    folder.mkdir()
    (folder / "done.json").write_text('{"box_ap": 0.25}')
    settings = AccuracySettings(
        data=[Path("somewhere/animals")], methods=["boxinst"], seeds=[0], out=tmp_path, options={}
    )
    assert "| 0.250 |" in measure(settings)


def test_quickstart_table_has_a_row_a_method():
    run = TrainedRun(
        dir=Path(), best=Path(), metrics={"box_ap": 0.5, "mask_ap": 0.4, "minutes": 3.21}
    )
    lines = comparison({"boxinst": run, "full": run}).splitlines()
    assert lines[0].split() == ["box", "AP", "mask", "AP", "label", "IoU", "minutes"]
    assert lines[1].split()[-4:] == ["0.500", "0.400", "-", "3.2"]
