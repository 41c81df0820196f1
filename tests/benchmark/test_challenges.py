"""The challenges: what is drawn, trained, tabled and plotted."""

import json

import pytest
from PIL import Image

from boxmask.api.train import TrainedRun
from boxmask.benchmark.challenge_list import Condition, challenge_runs, conditions, draw_data
from boxmask.benchmark.challenge_pictures import PER_CONDITION
from boxmask.benchmark.challenges import LOOKS, measure, report, tables
from boxmask.benchmark.run_list import RunSteps
from boxmask.benchmark.settings import ChallengeSettings
from boxmask.benchmark.variants import VARIANTS
from boxmask.data.folder import read_data
from boxmask.engine.run_folder import RunFolder
from boxmask.errors import UserError
from tiny_model import make_run


def small(folder, **changes):
    given = {
        "camouflage": (0, 1),
        "crowding": (0, 0.5),
        "variants": ("boxinst", "sim-without-weighting"),
        "seeds": (0, 1),
        "epochs": 2,
        "image_size": 64,
        "num_train": 2,
        "num_val": 1,
        "out": folder,
    }
    return ChallengeSettings(**(given | changes))


class FakeSteps:
    """Scores fall with camouflage and rise with the seed; remembers what was trained."""

    def __init__(self):
        self.given = {}

    def train(self, data, *, out, say, **options):
        self.given[out.name] = (data, options)
        say("epoch 1")
        metrics = {"minutes": 1.0, "mask_ap": 0.9}
        return TrainedRun(dir=out, best=out, metrics=metrics)

    def score(self, run, data, split, *, out, say):
        fall = 0.5 if "camouflage-1" in run.name else 0.0
        seed = int(run.name[-1])
        return {"mask_ap": 0.7 - fall + 0.1 * seed, "label_iou": 0.8 - fall, "box_ap": float("nan")}

    @property
    def steps(self):
        return RunSteps(train=self.train, score=self.score)


def silent(line):
    pass


def test_each_dial_moves_alone_and_zero_is_trained_once():
    assert conditions(ChallengeSettings(camouflage=(0, 0.5), crowding=(0.0, 1))) == [
        Condition(),
        Condition(camouflage=0.5),
        Condition(crowding=1.0),
    ]
    assert [Condition().name, Condition(camouflage=0.5).name] == ["plain", "camouflage-0.5"]
    runs = challenge_runs(ChallengeSettings())
    assert len(runs) == len(set(runs)) == 6 * 11 * 3  # conditions, variants, seeds
    assert {run.seed for run in runs[:60]} == {0}


def test_the_whole_list_with_equal_terms_for_all(tmp_path):
    fake, said = FakeSteps(), []
    settings = small(tmp_path)
    measure(settings, say=said.append, steps=fake.steps)
    assert len(fake.given) == 3 * 2 * 2
    assert said[0] == "12 of 12 runs are missing"
    assert "epoch 1" not in said
    terms = {"epochs": 2, "image_size": 64, "overwrite": True}
    data, options = fake.given["camouflage-1-boxinst-1"]
    assert data == tmp_path / "data" / "camouflage-1" / "boxes.json"
    assert options == {"method": "boxinst", "seed": 1, **terms}
    _, options = fake.given["plain-sim-without-weighting-0"]
    assert options == {"method": "sim", "seed": 0, "settings": ("sharpness=0",), **terms}
    again = FakeSteps()
    measure(settings, say=said.append, steps=again.steps)
    assert not again.given


def test_results_of_all_kinds_are_written(tmp_path):
    text = measure(small(tmp_path), say=silent, steps=FakeSteps().steps)
    assert text.splitlines()[:4] == [
        "| mask AP | camouflage 0 | camouflage 1 |",
        "| --- | --- | --- |",
        "| BoxInst | 0.750 ± 0.071 | 0.250 ± 0.071 |",
        "| SIM without weighting | 0.750 ± 0.071 | 0.250 ± 0.071 |",
    ]
    assert "| label IoU | crowding 0 | crowding 0.5 |" in text
    assert text.splitlines()[-2] == "| BoxInst | 1.0 ± 0.0 | 6 |"
    assert (tmp_path / "table.md").read_text() == text + "\n"
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["settings"]["epochs"] == 2
    assert len(results["runs"]) == 12
    (run,) = [
        one
        for one in results["runs"]
        if (one["camouflage"], one["variant"], one["seed"]) == (1, "boxinst", 1)
    ]
    assert run["crowding"] == 0
    assert run["metrics"]["mask_ap"] == pytest.approx(0.3)
    assert run["metrics"]["box_ap"] is None  # JSON has no NaN
    with Image.open(tmp_path / "challenges.png") as plot:
        assert plot.format == "PNG"


def test_the_best_epoch_may_be_scored_instead_of_the_last(tmp_path):
    fake = FakeSteps()
    settings = small(tmp_path, score="best", seeds=(0,), camouflage=(0,), crowding=(0,))
    text = measure(settings, say=silent, steps=fake.steps)
    assert {data for data, _ in fake.given.values()} == {tmp_path / "data" / "plain"}
    assert "| BoxInst | 0.900 |" in text


def test_a_report_needs_and_takes_what_is_finished(tmp_path):
    with pytest.raises(UserError, match="no run is finished"):
        report(small(tmp_path), say=silent)
    one = small(tmp_path, seeds=(1,), variants=("boxinst",), camouflage=(1,), crowding=(1,))
    measure(one, say=silent, steps=FakeSteps().steps)
    said = []
    text = report(small(tmp_path), say=said.append)
    assert "| BoxInst | - | 0.300 |" in text
    assert "| SIM without weighting | - | - |" in text
    assert any("challenges.png" in line for line in said)


def test_drawn_data_has_boxes_to_learn_and_masks_to_score(tmp_path):
    settings = small(tmp_path, num_train=3, num_val=2)
    folder = draw_data(Condition(crowding=0.5), settings)
    learned = read_data(folder / "boxes.json")
    assert list(learned.splits) == ["train"]
    assert not learned.errors
    records = learned.splits["train"].records
    assert len(records) == 3
    assert all(one is None for record in records for one in record.segmentations)
    both = read_data(folder)
    assert [len(both.splits[name].records) for name in ("train", "val")] == [3, 2]
    assert learned.class_names == both.class_names
    assert all(one for record in both.splits["val"].records for one in record.segmentations)


def test_pictures_of_other_settings_are_not_used(tmp_path):
    folder = draw_data(Condition(), small(tmp_path))
    before = (folder / "train.json").stat().st_mtime_ns
    draw_data(Condition(), small(tmp_path, epochs=9))
    assert (folder / "train.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="other settings"):
        draw_data(Condition(), small(tmp_path, num_train=4))


def test_scores_of_the_other_dial_are_not_mixed_in():
    settings = ChallengeSettings(variants=("boxinst",), seeds=(0,))
    found = {
        run: {"mask_ap": run.condition.camouflage / 10 + run.condition.crowding}
        for run in challenge_runs(settings)
    }
    lines = [line for line in tables(found, settings).splitlines() if line.startswith("| BoxInst")]
    assert lines[0] == "| BoxInst | 0.000 | 0.050 | 0.080 | 0.100 |"
    assert lines[2] == "| BoxInst | 0.000 | 0.500 | 1.000 |"


def test_every_variant_has_a_look_of_its_own():
    assert list(LOOKS) == [variant.name for variant in VARIANTS]
    assert len({color for color, _ in LOOKS.values()}) == len(LOOKS)
    assert len({marker for _, marker in LOOKS.values()}) == len(LOOKS)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"camouflage": (0, 1.5)}, "camouflage: expected 0 to 1, got 1.5"),
        ({"variants": ("boxinst", "sam")}, "there is no variant 'sam'"),
        ({"seeds": ()}, "seeds: expected at least one"),
        ({"num_val": 0}, "num_val: expected at least 1"),
    ],
)
def test_settings_out_of_range_are_named(changes, text):
    with pytest.raises(UserError, match=text):
        ChallengeSettings(**changes)


def test_values_given_twice_count_once():
    assert ChallengeSettings(seeds=(1, 0, 1)).seeds == (1, 0)


class TinyRuns(FakeSteps):
    """Runs that keep weights, which have learned nothing."""

    def train(self, data, *, out, say, **options):
        run = super().train(data, out=out, say=say, **options)
        make_run(out, data)
        RunFolder(root=out).write_arguments({"data": str(data), **options})
        return run


@pytest.mark.parametrize("num_val", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_pictures_show_the_hard_ends(tmp_path, num_val):
    settings = small(tmp_path, seeds=(0,), num_val=num_val, variants=("sim", "boxinst"))
    said = []
    measure(settings, say=said.append, steps=TinyRuns().steps)
    assert said[-1] == f"pictures {tmp_path / 'challenges.jpg'}"
    labelled = sorted(folder.name for folder in (tmp_path / "labels").iterdir())
    assert labelled == [
        "camouflage-1-boxinst-0", "camouflage-1-sim-0",
        "crowding-0.5-boxinst-0", "crowding-0.5-sim-0",
    ]  # fmt: skip
    with Image.open(tmp_path / "challenges.jpg") as sheet:
        columns, rows = 2 * min(num_val, PER_CONDITION), 4
        assert sheet.width / sheet.height == pytest.approx(columns / rows, rel=0.2)
    reports = [tmp_path / "labels" / one / "report.csv" for one in labelled]
    before = [one.stat().st_mtime_ns for one in reports]
    reports[0].unlink()  # as if the labelling had been stopped
    (tmp_path / "runs" / labelled[1] / "weights" / "best.safetensors").touch()  # trained again
    report(settings, say=silent)
    after = [one.stat().st_mtime_ns for one in reports]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, True, True]
