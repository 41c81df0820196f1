"""Model and trainer of a run, and the training itself."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from boxmask.api.busy_cores import busy_cores_warning
from boxmask.api.fit_errors import FitErrors, TellingTrainer, errors_in_words
from boxmask.api.options import TrainOptions
from boxmask.api.plan import RunPlan
from boxmask.api.progress import progress_callbacks, quiet_lightning
from boxmask.api.run_files import Say
from boxmask.api.workers import free_workers
from boxmask.data.loader import LoaderSettings
from boxmask.data.records import DataFolder
from boxmask.engine.checkpoints import WholeCheckpoints
from boxmask.engine.data_module import TrainingData, TrainingDataModule
from boxmask.engine.module import ModuleSettings, TrainingModule
from boxmask.engine.recorder import RecorderSettings, RunRecorder
from boxmask.engine.run_folder import RunFolder
from boxmask.evaluation.mask_quality import collapse_warning
from boxmask.evaluation.pseudo_pictures import PseudoPictures
from boxmask.evaluation.run_pictures import RunPictures
from boxmask.evaluation.scorer import SplitScoring
from boxmask.recipes.recipe import Recipe
from boxmask.recipes.saved_model import describe_model


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that a run is made of."""

    data: DataFolder
    recipe: Recipe
    plan: RunPlan
    options: TrainOptions
    folder: RunFolder
    say: Say


def build_module(recipe: Recipe, plan: RunPlan, options: TrainOptions) -> TrainingModule:
    """The model that learns, as it starts.

    Raises:
        UserError: If the backbone cannot serve, or its weights cannot be loaded.
    """
    quiet_lightning()
    pl.seed_everything(options.seed, verbose=False)
    return TrainingModule(
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


def fit(run: Run, module: TrainingModule) -> None:
    """Trains, from the run's checkpoint where it has one.

    Raises:
        UserError: If something that was given cannot be used, the device's memory is too small, or
            parts cannot be compiled; also where that ends one of several processes.
    """
    recipe, plan, options = run.recipe, run.plan, run.options
    if options.compile and not module.step.detector.map_parts:
        run.say(f"! --compile changes nothing: no part of {options.model} can be compiled")
    trainer = _trainer(run)
    if options.devices == 1:  # else the other processes of this run are at work as well
        for line in busy_cores_warning(trainer.strategy.root_device):
            run.say(line)
    errors = FitErrors(part=plan.part, image_size=recipe.augmentation.image_size)
    with errors_in_words(trainer, errors), _settings_of_the_process(), _processes_of(trainer):
        trainer.fit(
            module,
            datamodule=TrainingDataModule(_training_data(run)),
            ckpt_path=run.folder.last if run.folder.last.is_file() else None,
            weights_only=False,
        )


def _trainer(run: Run) -> TellingTrainer:
    recipe, plan, options = run.recipe, run.plan, run.options
    return TellingTrainer(
        accelerator=options.accelerator,
        devices=options.devices,
        strategy=_strategy(options),
        precision=plan.precision,  # pyrefly: ignore
        max_epochs=plan.epochs,
        accumulate_grad_batches=options.accumulate,
        gradient_clip_val=recipe.optimizer.clip_norm or None,
        callbacks=_callbacks(run),
        plugins=WholeCheckpoints(),
        logger=False,
        default_root_dir=run.folder.root,
        use_distributed_sampler=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
    )


@contextlib.contextmanager
def _processes_of(trainer: pl.Trainer) -> Iterator[None]:
    """Processes that the trainer started end with the block, also where it is interrupted."""
    try:
        yield
    finally:
        for process in getattr(trainer.strategy.launcher, "procs", ()):
            process.kill()
            process.join()


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


def _training_data(run: Run) -> TrainingData:
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


def _callbacks(run: Run) -> list[Callback]:
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


def _strategy(options: TrainOptions) -> str:
    if options.devices == 1 and "WORLD_SIZE" not in os.environ:
        return "auto"
    return "ddp" if "WORLD_SIZE" in os.environ else "ddp_spawn"
