"""Trains a model from a boxed data set."""

import json
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from boxmask.api.fit import Run, build_module, fit
from boxmask.api.options import TrainOptions, options_from
from boxmask.api.plan import introduction, plan_recipe, plan_run
from boxmask.api.run_files import (
    Journal,
    Say,
    free_folder,
    resumed_options,
    saved_options,
    say_nothing,
)
from boxmask.data.dataset import RecordDataset
from boxmask.data.folder import read_data, require_usable
from boxmask.data.loader import augment_sample
from boxmask.engine.module import TrainingModule
from boxmask.engine.run_folder import RunFolder
from boxmask.engine.run_lock import at_work, require_idle
from boxmask.errors import UserError
from boxmask.evaluation.run_pictures import NUM_PICTURES, draw_training_pictures
from boxmask.recipes.recipe import Recipe
from boxmask.visualization.curves import plot_results, plot_size_ap


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """What training gives back.

    Attributes:
        dir: the run's folder.
        best: weights of the best epoch.
        metrics: numbers of that epoch, as in `metrics.json`; empty without a val split.
    """

    dir: Path
    best: Path
    metrics: dict[str, float]


def train(
    data: Path | str | None = None,
    *,
    say: Say = print,
    adjust: Callable[[Recipe], Recipe] | None = None,
    **options: Any,
) -> TrainedRun:
    """Trains a model from boxes.

    Args:
        data: a folder in COCO, VOC or YOLO form, or one COCO file. Not needed to resume.
        say: takes each line of progress.
        adjust: changes the recipe that the options make, such as
            `lambda recipe: recipe.with_loss("loss_mine", MySettings())`. It is not saved: to
            resume, pass it again.
        **options: see `TrainOptions`. A resumed run keeps the options that it was started with,
            but for `workers`, which change no result.

    Raises:
        UserError: If the data or an option cannot be used, or a loss is not finite.
    """
    chosen = options_from(TrainOptions, options)
    if chosen.resume and chosen.out is not None:
        data, chosen = resumed_options(chosen, data)
    if data is None:
        raise UserError("there is no data to train on", fix="name a data set's folder")
    run = _planned(Path(data), chosen, say if _is_first_process() else say_nothing, adjust)
    done = chosen.resume and run.folder.finished_epochs() >= run.plan.epochs
    # What is wrong with a model shows here, before anything is written.
    module = None if done else build_module(run.recipe, run.plan, chosen)
    if not _is_first_process():
        return _trained(run, module)
    run.folder.create(resume=chosen.resume, overwrite=chosen.overwrite)
    with at_work(run.folder.root):
        return _trained(_opened(run, data), module)


def _planned(
    data: Path, options: TrainOptions, say: Say, adjust: Callable[[Recipe], Recipe] | None
) -> Run:
    """Reads the data and decides everything; writes nothing."""
    folder = RunFolder(root=options.out or free_folder(Path("runs"), data, options.method))
    if _is_first_process():  # it makes the folder, perhaps before others come here
        require_idle(folder.root)
        folder.check(resume=options.resume, overwrite=options.overwrite)
    dataset = read_data(data, options.val_fraction)
    require_usable(dataset, skip_bad=options.skip_bad)
    if options.limit is not None:
        dataset = dataset.limited(options.limit)
    recipe = plan_recipe(dataset, options)
    recipe = adjust(recipe) if adjust else recipe
    plan = plan_run(dataset, recipe, options)
    return Run(data=dataset, recipe=recipe, plan=plan, options=options, folder=folder, say=say)


def _opened(run: Run, data: Path | str) -> Run:
    """The run, what it says kept in its folder from now on; says what will be done."""
    folder, options = run.folder, run.options
    if not options.resume:
        folder.write_arguments({"data": str(data), **saved_options(options)})
    run = replace(run, say=Journal(say=run.say, file=folder.log))
    for line in introduction(run.data, run.recipe, run.plan, options):
        run.say(line)
    run.say(f"run    {folder.root}")
    if options.resume and not folder.last.is_file():
        run.say("no epoch of this run was finished: it begins again")
    if not folder.last.is_file():
        _draw_first_batches(run)
    return run


def _trained(run: Run, module: TrainingModule | None) -> TrainedRun:
    """Trains the module, if there is anything left to train."""
    if module is None:
        run.say("all epochs of this run are done already")
    else:
        fit(run, module)
    return _finish(run)


def _draw_first_batches(run: Run) -> None:
    """Draws the first pictures as the network will see them, to catch wrong boxes early."""
    records = run.data.splits["train"].records
    transform = partial(augment_sample, settings=run.recipe.augmentation)
    dataset = RecordDataset(records, transform, seed=run.options.seed)
    samples = [dataset[0, index][2] for index in range(min(len(records), NUM_PICTURES))]
    draw_training_pictures(samples, run.data.class_names, run.folder.root / "train_batch0.jpg")


def _finish(run: Run) -> TrainedRun:
    """Draws the curves, prints what comes next."""
    folder = run.folder
    metrics: dict[str, float] = {}
    if folder.metrics.is_file():
        metrics = json.loads(folder.metrics.read_text(encoding="utf-8"))
    if _is_first_process():
        plot_results(folder.results, folder.root / "results.png")
        if "box_ap" in metrics:
            plot_size_ap(metrics, folder.root / "size_ap.png")
        scores = "  ".join(
            f"{title} {metrics[name]:.3f}"
            for name, title in _HEADLINES.items()
            if metrics.get(name) is not None
        )
        if scores:
            run.say(f"best epoch {metrics['epoch']}: {scores}")
        run.say(f"weights {folder.best}")
        words = ["boxmask", "label", str(run.data.root), "--weights", str(folder.root)]
        run.say(f"Next: {shlex.join([*words, *(['--skip-bad'] if run.options.skip_bad else [])])}")
    return TrainedRun(dir=folder.root, best=folder.best, metrics=metrics)


_HEADLINES = {
    "box_ap": "box AP",
    "mask_ap": "mask AP",
    "label_iou": "label IoU",
    "box_tightness": "box tightness",
}


def _is_first_process() -> bool:
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0
