"""From options and data to a recipe and the length of a run; says in words what was decided."""

import math
from dataclasses import dataclass, replace

import torch

from boxmask.api.options import TrainOptions
from boxmask.data.masks import has_mask
from boxmask.data.records import DataFolder, DataSplit
from boxmask.errors import UserError
from boxmask.recipes.box_losses import method_settings
from boxmask.recipes.methods import with_trusted_masks
from boxmask.recipes.models import build_recipe
from boxmask.recipes.recipe import Recipe
from boxmask.recipes.schedules import SCHEDULES

MAX_SCORINGS = 8  # of a run; more cost time and tell little


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """How long a run is and how its batches are cut.

    Attributes:
        epochs: passes over the training pictures.
        steps_per_epoch: optimizer steps of a pass.
        part: pictures of one forward pass on one device.
        precision: Lightning's name of it.
        score_every: epochs from one scoring to the next.
    """

    epochs: int
    steps_per_epoch: int
    part: int
    precision: str
    score_every: int

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.epochs * self.steps_per_epoch


def plan_recipe(data: DataFolder, options: TrainOptions) -> Recipe:
    """The recipe that the options ask for.

    Raises:
        UserError: If there is nothing to train on, the model is not known, or masks are asked for
            and there are none.
    """
    train = _train_split(data)
    recipe = build_recipe(
        options.model,
        options.method,
        len(data.class_names),
        pretrained=options.pretrained,
        settings=method_settings(options.method, options.preset, options.settings),
    )
    if options.use_masks == "trusted" and options.method != "full":
        recipe = with_trusted_masks(recipe)
    if recipe.masks == "trusted":
        _check_masks(train, options)
    if options.schedule != "short":
        recipe = SCHEDULES[options.schedule].of(recipe)
    augmentation, optimizer = recipe.augmentation, recipe.optimizer
    if options.image_size is not None:
        augmentation = replace(augmentation, image_size=options.image_size)
    if options.learning_rate is not None:
        optimizer = replace(optimizer, learning_rate=options.learning_rate)
    return replace(
        recipe,
        augmentation=augmentation,
        optimizer=optimizer,
        batch=options.batch or recipe.batch,
    )


def plan_run(data: DataFolder, recipe: Recipe, options: TrainOptions) -> RunPlan:
    """Length and batches of the run.

    Raises:
        UserError: If there is nothing to train on, or the batch cannot be shared out.
    """
    train = _train_split(data)
    _check_devices(options)
    parts = options.devices * options.accumulate
    if recipe.batch % parts:
        raise UserError(
            f"a batch of {recipe.batch} pictures cannot be shared by {options.devices} devices "
            f"in {options.accumulate} parts",
            fix=f"choose --batch as a multiple of {parts}",
        )
    num_pictures = len(train.records)
    micro_steps = math.ceil(num_pictures / (recipe.batch // options.accumulate))
    steps = math.ceil(micro_steps / options.accumulate)
    epochs = options.epochs or _epochs(recipe, steps, options)
    return RunPlan(
        epochs=epochs,
        steps_per_epoch=steps,
        part=recipe.batch // parts,
        precision=_precision(options),
        score_every=max(math.ceil(epochs / MAX_SCORINGS), 1),
    )


def _train_split(data: DataFolder) -> DataSplit:
    train = data.splits.get("train")
    if train is None or not train.num_instances:
        raise UserError("there is no training picture with a box", where=str(data.root))
    return train


def _epochs(recipe: Recipe, steps: int, options: TrainOptions) -> int:
    """As many whole passes as come near the recipe's number of pictures."""
    passes = recipe.pictures_seen / (steps * recipe.batch)
    return max(math.ceil(passes), 4) if options.schedule == "short" else max(round(passes), 1)


def introduction(
    data: DataFolder, recipe: Recipe, plan: RunPlan, options: TrainOptions
) -> list[str]:
    """What will be done, line by line."""
    train = data.splits["train"]
    classes = f"{len(data.class_names)} class{'es' if len(data.class_names) > 1 else ''}"
    val = data.splits.get("val")
    sizes = " / ".join(
        f"{len(split.records)} {split.name}" for split in (train, val) if split is not None
    )
    rate = recipe.optimizer.scaled_rate(recipe.batch)
    lines = [
        f"data   {data.root}  {data.format.upper()}  {sizes} pictures, "
        f"{train.num_instances} boxes, {classes}",
        f"model  {options.model}  short side {recipe.augmentation.image_size} px",
        "  ".join(
            [f"method {options.method}", *_setting_words(options), _mask_words(train, recipe)]
        ),
        f"batch  {recipe.batch}"
        + (f" = {options.devices} devices x {options.accumulate} parts x {plan.part}"
           if plan.part != recipe.batch else "")
        + f"  {recipe.optimizer.name} at {rate:.2g}"
        + (f" ({recipe.optimizer.learning_rate:.2g} for a batch of {recipe.optimizer.base_batch},"
           " scaled)" if recipe.batch != recipe.optimizer.base_batch else "")
        + f", {plan.epochs} epochs of {plan.steps_per_epoch} steps, precision {plan.precision}",
    ]  # fmt: skip
    left_out = len(data.errors)
    if left_out:
        lines.append(f"left out for errors: {left_out} (annotations and pictures), such as")
        lines += [f"  {problem}" for problem in data.errors[:10]]
    if val is None:
        lines.append(
            "no val split: nothing is scored, the last weights are kept; "
            "--val-fraction 0.2 puts pictures aside"
        )
    if recipe.batch < 4:
        lines.append("! batches under 4 pictures learn badly: --accumulate makes larger ones cheap")
    return lines


def _setting_words(options: TrainOptions) -> list[str]:
    preset = [f"preset {options.preset}"] if options.preset != "default" else []
    return preset + list(options.settings)


def _mask_words(train: DataSplit, recipe: Recipe) -> str:
    num_masks = sum(has_mask(s) for record in train.records for s in record.segmentations)
    if recipe.masks == "trusted":
        return f"learns from the masks of {num_masks} annotations"
    return f"masks in the data: {'ignored' if num_masks else 'none, none needed'}"


def _check_masks(train: DataSplit, options: TrainOptions) -> None:
    found = sum(has_mask(s) for record in train.records for s in record.segmentations)
    if options.method == "full" and found < train.num_instances:
        raise UserError(
            f"full supervision needs a mask for each box; {train.num_instances - found} of "
            f"{train.num_instances} have none",
            where=str(train.source),
            fix="train with --method sim"
            + (" --use-masks trusted: it uses those that are there" if found else ""),
        )
    if not found:
        raise UserError(
            "there is no mask to trust in the training data",
            where=str(train.source),
            fix="leave out --use-masks",
        )


def _check_devices(options: TrainOptions) -> None:
    """GPUs that were asked for must be there."""
    if options.accelerator != "gpu":
        return
    number = torch.cuda.device_count()
    if number < options.devices:
        raise UserError(
            f"{options.devices} GPUs were asked for and {number} can be used",
            fix="lower --devices"
            if number
            else "train with --accelerator cpu; a GPU needs its driver and a CUDA build of torch",
        )


def _precision(options: TrainOptions) -> str:
    on_gpu = options.accelerator != "cpu" and torch.cuda.is_available()
    if options.precision == "auto":
        return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported() else "32-true"
    return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[options.precision]
