"""Trains a model from a boxed data set."""

import contextlib
import json
import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch._dynamo.exc import BackendCompilerFailed

from boxmask.api.busy_cores import busy_cores_warning
from boxmask.api.options import TrainOptions, options_from
from boxmask.api.plan import RunPlan, introduction, plan_recipe, plan_run
from boxmask.api.progress import progress_callbacks, quiet_lightning
from boxmask.api.run_files import (
    Journal,
    Say,
    free_folder,
    resumed_options,
    saved_options,
    say_nothing,
)
from boxmask.api.workers import free_workers
from boxmask.data.dataset import RecordDataset
from boxmask.data.folder import read_data, require_usable
from boxmask.data.loader import LoaderSettings, augment_sample
from boxmask.data.records import DataFolder
from boxmask.engine.data_module import TrainingData, TrainingDataModule
from boxmask.engine.module import ModuleSettings, TrainingModule
from boxmask.engine.recorder import RecorderSettings, RunRecorder
from boxmask.engine.run_folder import RunFolder
from boxmask.errors import UserError
from boxmask.evaluation.mask_quality import collapse_warning
from boxmask.evaluation.pseudo_pictures import PseudoPictures
from boxmask.evaluation.run_pictures import NUM_PICTURES, RunPictures, draw_training_pictures
from boxmask.evaluation.scorer import SplitScoring
from boxmask.recipes.recipe import Recipe
from boxmask.recipes.saved_model import describe_model
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


@dataclass(frozen=True, kw_only=True)
class _Run:
    """All that a run is made of."""

    data: DataFolder
    recipe: Recipe
    plan: RunPlan
    options: TrainOptions
    folder: RunFolder
    say: Say


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
        **options: see `TrainOptions`. A resumed run keeps the options that it was started with.

    Raises:
        UserError: If the data or an option cannot be used, or a loss is not finite.
    """
    chosen = options_from(TrainOptions, options)
    if chosen.resume and chosen.out is not None:
        data, chosen = resumed_options(chosen.out)
    if data is None:
        raise UserError("there is no data to train on", fix="name a data set's folder")
    run = _prepare(Path(data), chosen, say if _is_first_process() else say_nothing, adjust)
    if _is_first_process() and not chosen.resume:
        run.folder.write_arguments({"data": str(data), **saved_options(chosen)})
        _draw_first_batches(run)
    if chosen.resume and len(run.folder.read_results()) == run.plan.epochs:
        run.say("all epochs of this run are done already")
    else:
        _fit(run)
    return _finish(run)


def _prepare(
    data: Path, options: TrainOptions, say: Say, adjust: Callable[[Recipe], Recipe] | None
) -> _Run:
    """Reads the data, decides everything, and says it."""
    folder = RunFolder(root=options.out or free_folder(Path("runs"), data, options.method))
    dataset = read_data(data, options.val_fraction)
    require_usable(dataset, skip_bad=options.skip_bad)
    if options.limit is not None:
        dataset = dataset.limited(options.limit)
    recipe = plan_recipe(dataset, options)
    recipe = adjust(recipe) if adjust else recipe
    plan = plan_run(dataset, recipe, options)
    if _is_first_process():
        folder.create(resume=options.resume, overwrite=options.overwrite)
        say = Journal(say=say, file=folder.log)
    for line in [*introduction(dataset, recipe, plan, options), f"run    {folder.root}"]:
        say(line)
    return _Run(data=dataset, recipe=recipe, plan=plan, options=options, folder=folder, say=say)


def _fit(run: _Run) -> None:
    """Builds model and trainer, and trains."""
    recipe, plan, options = run.recipe, run.plan, run.options
    quiet_lightning()
    pl.seed_everything(options.seed, verbose=False)
    module = TrainingModule(
        recipe.detector.build(),
        recipe.build_objective(plan.total_steps, plan.epochs),
        ModuleSettings(
            optimizer=recipe.optimizer,
            batch=recipe.batch,
            total_steps=plan.total_steps,
            average_decay=recipe.average_decay,
            seed=options.seed,
            fused=plan.precision == "32-true",
            compiled=options.compile,
        ),
    )
    if options.compile and not module.step.detector.map_parts:
        run.say(f"! --compile changes nothing: no part of {options.model} can be compiled")
    trainer = _trainer(run)
    if options.devices == 1:  # else the other processes of this run are at work as well
        for line in busy_cores_warning(trainer.strategy.root_device):
            run.say(line)
    try:
        with _settings_of_the_process():
            trainer.fit(
                module,
                datamodule=TrainingDataModule(_training_data(run)),
                ckpt_path=run.folder.last if options.resume else None,
                weights_only=False,
            )
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"the device's memory is too small for {plan.part} pictures of "
            f"{recipe.augmentation.image_size} pixels at a time",
            where=str(error).splitlines()[0],
            fix="split the batch with --accumulate 2 (or more), or lower --image-size",
        ) from error
    except BackendCompilerFailed as error:
        raise UserError(
            "backbone and heads could not be compiled",
            where=str(error).splitlines()[0],
            fix="install a C++ compiler such as g++, or leave out --compile",
        ) from error


def _trainer(run: _Run) -> pl.Trainer:
    recipe, plan, options = run.recipe, run.plan, run.options
    return pl.Trainer(
        accelerator=options.accelerator,
        devices=options.devices,
        strategy=_strategy(options),
        precision=plan.precision,  # pyrefly: ignore
        max_epochs=plan.epochs,
        accumulate_grad_batches=options.accumulate,
        gradient_clip_val=recipe.optimizer.clip_norm or None,
        callbacks=_callbacks(run),
        logger=False,
        default_root_dir=run.folder.root,
        use_distributed_sampler=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
    )


@contextlib.contextmanager
def _settings_of_the_process() -> Iterator[None]:
    """What training changes for the whole process, which is not ours alone, is put back."""
    one_order = torch.are_deterministic_algorithms_enabled()
    recompile_limit = torch._dynamo.config.recompile_limit
    torch.set_flush_denormal(True)  # numbers next to zero slow processors down
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.use_deterministic_algorithms(one_order)
        torch._dynamo.config.recompile_limit = recompile_limit


def _training_data(run: _Run) -> TrainingData:
    options = run.options
    return TrainingData(
        records=run.data.splits["train"].records,
        augmentation=run.recipe.augmentation,
        masks=run.recipe.masks,
        steps_per_epoch=run.plan.steps_per_epoch,
        loader=LoaderSettings(
            batch_size=run.plan.part,
            num_workers=free_workers(options.workers, options.devices),
            seed=options.seed,
            pin_memory=options.accelerator != "cpu" and torch.cuda.is_available(),
        ),
    )


def _draw_first_batches(run: _Run) -> None:
    """Draws the first pictures as the network will see them, to catch wrong boxes early."""
    records = run.data.splits["train"].records
    transform = partial(augment_sample, settings=run.recipe.augmentation)
    dataset = RecordDataset(records, transform, seed=run.options.seed)
    samples = [dataset[0, index][2] for index in range(min(len(records), NUM_PICTURES))]
    draw_training_pictures(samples, run.data.class_names, run.folder.root / "train_batch0.jpg")


def _callbacks(run: _Run) -> list[Callback]:
    """Recorder first, so that a checkpoint holds what it recorded."""
    data, recipe = run.data, run.recipe
    val = data.splits.get("val")
    scoring = None
    if val is not None and val.records:
        scoring = RunPictures(
            scoring=SplitScoring(
                records=val.records,
                class_names=data.class_names,
                image_size=recipe.augmentation.image_size,
                num_workers=free_workers(run.options.workers, run.options.devices),
            )
        )
    recorder = RunRecorder(
        RecorderSettings(
            folder=run.folder,
            scoring=scoring,
            every=run.plan.score_every,
            warmup=recipe.warmup_share(run.plan.total_steps),
            description=describe_model(recipe, data.class_names, data.category_ids),
            warn=collapse_warning,
            say=run.say,
            pictures=PseudoPictures(
                records=data.splits["train"].records,
                class_names=data.class_names,
                image_size=recipe.augmentation.image_size,
            ),
        )
    )
    checkpoint = ModelCheckpoint(
        dirpath=run.folder.last.parent,
        filename=run.folder.last.stem,
        save_top_k=1,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    return [recorder, checkpoint, *progress_callbacks(run.say)]


def _finish(run: _Run) -> TrainedRun:
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


def _strategy(options: TrainOptions) -> str:
    if options.devices == 1 and "WORLD_SIZE" not in os.environ:
        return "auto"
    return "ddp" if "WORLD_SIZE" in os.environ else "ddp_spawn"


def _is_first_process() -> bool:
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0
