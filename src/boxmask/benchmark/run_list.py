"""A list of trainings: finished ones are read, interrupted ones go on, missing ones are trained."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from boxmask.api.run_files import Say, say_nothing
from boxmask.api.train import TrainedRun, train
from boxmask.api.val import val
from boxmask.benchmark.gauges import forget_largest, largest_gigabytes
from boxmask.benchmark.side_by_side import side_by_side
from boxmask.engine.run_folder import RunFolder
from boxmask.errors import UserError

Metrics = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """One training of a list.

    Attributes:
        folder: of the run; `done.json` in it holds the numbers once it is finished.
        data: what it is trained on.
        options: of `boxmask.train`, other than those that say where and how it starts.
        scored_on: a data set whose val split scores the last weights; None if training scores.
        keep_checkpoint: whether what resuming needs stays when the run is finished.
    """

    folder: Path
    data: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    scored_on: Path | None = None
    keep_checkpoint: bool = True

    @property
    def done(self) -> Path:
        """The file of a finished run's numbers."""
        return self.folder / "done.json"


def weighed_train(*data: Any, **options: Any) -> TrainedRun:
    """`boxmask.train`; its numbers also tell the most memory it took, as `memory_gb`."""
    forget_largest()
    trained = train(*data, **options)
    largest = largest_gigabytes()
    if largest is None:
        return trained
    return replace(trained, metrics=trained.metrics | {"memory_gb": largest})


@dataclass(frozen=True, kw_only=True)
class RunSteps:
    """What is done in a run; tests put other functions here.

    Attributes:
        train: as `boxmask.train`.
        score: as `boxmask.val`.
        clock: seconds.
    """

    train: Callable[..., TrainedRun] = weighed_train
    score: Callable[..., Metrics] = val
    clock: Callable[[], float] = time.monotonic


def finished_metrics(run: ListedRun) -> Metrics | None:
    """The numbers of a finished run; None if it is not finished.

    Raises:
        UserError: If it was trained with other options.
    """
    if not run.done.is_file():
        return None
    _check_options(run)
    return json.loads(run.done.read_text(encoding="utf-8"))


def train_missing(
    runs: Sequence[ListedRun],
    *,
    say: Say,
    details: Say,
    steps: RunSteps | None = None,
    jobs: int = 1,
) -> None:
    """Trains all runs that are not finished, in their order.

    Args:
        runs: the list.
        say: takes a line at the start, and lines about each run.
        details: takes every line of the runs themselves, where they are trained in turn; else
            their `train.log` has them.
        steps: how runs are trained and scored; functions that other processes find if jobs is
            more than 1.
        jobs: how many are trained side by side, each in a process of its own with its share of
            the cores.

    Raises:
        UserError: If a run was begun with other options, or cannot be trained; what is finished
            stays finished.
    """
    steps = steps or RunSteps()
    missing = [run for run in runs if finished_metrics(run) is None]
    say(f"{len(missing)} of {len(runs)} runs are missing" if missing else "all runs are finished")
    jobs = max(min(jobs, len(missing)), 1)
    trained = _in_turn(missing, steps, say, details)
    if jobs > 1:
        trained = side_by_side(partial(_finish, steps=steps, details=say_nothing), missing, jobs)
    start = steps.clock()
    for number, run in enumerate(trained, start=1):
        if jobs > 1:
            say(f"\n{number} of {len(missing)} is finished: {run.folder}")
        # jobs - 1 others are on their way.
        minutes = (steps.clock() - start) * jobs / (number + jobs - 1) / 60
        left = minutes * (len(missing) - number) / jobs
        if left:
            say(f"{minutes:.1f} minutes a run: about {max(left, 1):.0f} minutes left")


def _in_turn(
    runs: Sequence[ListedRun], steps: RunSteps, say: Say, details: Say
) -> Iterator[ListedRun]:
    """Each run once it is finished."""
    for number, run in enumerate(runs, start=1):
        say(f"\nrun {number} of {len(runs)}: {run.folder}")
        yield _finish(run, steps, details)


def _finish(run: ListedRun, steps: RunSteps, details: Say) -> ListedRun:
    """Trains and scores a run, and writes its numbers."""
    metrics = _metrics(run, steps, details)
    run.done.write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    if not run.keep_checkpoint:
        RunFolder(root=run.folder).last.unlink(missing_ok=True)
    return run


def _metrics(run: ListedRun, steps: RunSteps, details: Say) -> Metrics:
    """Trains a run from its start or from where it stopped, and scores it."""
    run.folder.mkdir(parents=True, exist_ok=True)
    if RunFolder(root=run.folder).last.is_file():
        _check_options(run)
        trained = steps.train(out=run.folder, resume=True, say=details)
    else:
        trained = steps.train(run.data, out=run.folder, overwrite=True, say=details, **run.options)
    if run.scored_on is None:
        return trained.metrics
    out = run.folder / "score"
    return trained.metrics | steps.score(run.folder, run.scored_on, "val", out=out, say=details)


def _check_options(run: ListedRun) -> None:
    """A table must not mix runs of different lengths or sizes."""
    kept = RunFolder(root=run.folder).read_arguments()
    if kept is None:
        return
    for name, value in run.options.items():
        wanted = list(value) if isinstance(value, tuple) else value
        if kept.get(name) != wanted:
            raise UserError(
                f"this run was made with {name} {kept.get(name)}, and not with {wanted}",
                where=str(run.folder),
                fix="name another folder with --out, or ask for the same",
            )
