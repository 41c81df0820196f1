"""A list of trainings: what is done, what is read, what is refused."""

import json

import pytest
import yaml

from boxmask.api.train import TrainedRun
from boxmask.benchmark.run_list import ListedRun, RunSteps, finished_metrics, train_missing
from boxmask.errors import UserError


class FakeSteps:
    """Trains and scores at once, and remembers how; a minute and a half for each run."""

    def __init__(self, *, stops_at=None):
        self.given = []
        self.scored = []
        self.stops_at = stops_at
        self.seconds = 0.0

    def train(self, data=None, *, out, say, **options):
        self.given.append((data, out.name, options))
        say(f"inside {out.name}")
        checkpoint = out / "weights" / "last.ckpt"
        checkpoint.parent.mkdir(exist_ok=True)
        checkpoint.touch()
        if not options.get("resume"):
            arguments = json.loads(json.dumps({"data": str(data), **options}))
            (out / "args.yaml").write_text(yaml.safe_dump(arguments))
        if out.name == self.stops_at:
            raise KeyboardInterrupt
        self.seconds += 90
        return TrainedRun(dir=out, best=out, metrics={"minutes": 1.0, "fill": 0.5})

    def score(self, run, data, split, *, out, say):
        self.scored.append((run.name, data, split, out.name))
        return {"mask_ap": 0.25}

    @property
    def steps(self):
        return RunSteps(train=self.train, score=self.score, clock=lambda: self.seconds)


def listed(folder, count=3, **changes):
    return [
        ListedRun(
            folder=folder / f"run{n}", data=folder / "data", **({"options": {"seed": n}} | changes)
        )
        for n in range(count)
    ]


def test_runs_are_trained_in_order_and_say_how_long_the_rest_takes(tmp_path):
    fake, said, details = FakeSteps(), [], []
    runs = listed(tmp_path)
    train_missing(runs, say=said.append, details=details.append, steps=fake.steps)
    assert fake.given == [
        (tmp_path / "data", f"run{n}", {"seed": n, "overwrite": True}) for n in range(3)
    ]
    assert [finished_metrics(run) for run in runs] == [{"minutes": 1.0, "fill": 0.5}] * 3
    assert said[0] == "3 of 3 runs are missing"
    assert [line for line in said if "left" in line] == [
        "1.5 minutes a run: about 3 minutes left",
        "1.5 minutes a run: about 2 minutes left",
    ]
    assert details == ["inside run0", "inside run1", "inside run2"]


def test_an_interrupted_list_goes_on_where_it_stopped(tmp_path):
    first, said = FakeSteps(stops_at="run1"), []
    with pytest.raises(KeyboardInterrupt):
        train_missing(listed(tmp_path), say=said.append, details=said.append, steps=first.steps)
    second = FakeSteps()
    train_missing(listed(tmp_path), say=said.append, details=said.append, steps=second.steps)
    assert "2 of 3 runs are missing" in said
    assert [(name, options) for _, name, options in second.given] == [
        ("run1", {"resume": True}),
        ("run2", {"seed": 2, "overwrite": True}),
    ]
    train_missing(listed(tmp_path), say=said.append, details=said.append, steps=FakeSteps().steps)
    assert said[-1] == "all runs are finished"


def test_a_run_may_be_scored_after_training_and_its_checkpoint_dropped(tmp_path):
    fake = FakeSteps()
    kept, dropped = listed(tmp_path, 2)
    dropped = ListedRun(
        folder=dropped.folder, data=dropped.data, scored_on=tmp_path / "val", keep_checkpoint=False
    )
    train_missing([kept, dropped], say=print, details=print, steps=fake.steps)
    assert fake.scored == [("run1", tmp_path / "val", "val", "score")]
    assert finished_metrics(dropped) == {"minutes": 1.0, "fill": 0.5, "mask_ap": 0.25}
    assert (kept.folder / "weights" / "last.ckpt").exists()
    assert not (dropped.folder / "weights" / "last.ckpt").exists()


@pytest.mark.parametrize("stops_at", [None, "run0"])
def test_runs_of_other_options_are_refused(tmp_path, stops_at):
    options = {"epochs": 3, "settings": ("a=1",)}
    fake = FakeSteps(stops_at=stops_at)
    try:
        train_missing(
            listed(tmp_path, 1, options=options), say=print, details=print, steps=fake.steps
        )
    except KeyboardInterrupt:
        assert stops_at
    same, longer = listed(tmp_path, 1, options=options), listed(tmp_path, 1, options={"epochs": 4})
    with pytest.raises(UserError, match="epochs 3, and not with 4"):
        train_missing(longer, say=print, details=print, steps=fake.steps)
    train_missing(same, say=print, details=print, steps=FakeSteps().steps)
