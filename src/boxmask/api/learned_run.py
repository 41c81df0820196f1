"""A run with everything that it learned: not the model alone, but what taught it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from boxmask.api.options import TrainOptions, options_from
from boxmask.api.plan import plan_recipe
from boxmask.box_supervision.correction_steps import self_correction_of
from boxmask.box_supervision.self_correction_loss import (
    SelfCorrectionLoss,
    SelfCorrectionSettings,
)
from boxmask.data.folder import read_data
from boxmask.data.records import DataFolder
from boxmask.detectors.detector import Detector
from boxmask.engine.run_folder import RunFolder
from boxmask.errors import UserError
from boxmask.recipes.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class LearnedRun:
    """A run that corrected its own masks, as its last checkpoint left it.

    Attributes:
        folder: the run's folder.
        data: what it was trained on.
        recipe: how.
        detector: the moving average, in evaluation mode.
        correction: the loss that made pseudo masks, with prototypes and memory bank.
        epoch: epochs that were finished.
        step: optimizer steps that were made.
    """

    folder: Path
    data: DataFolder
    recipe: Recipe
    detector: Detector
    correction: SelfCorrectionLoss
    epoch: int
    step: int

    def to(self, device: torch.device) -> "LearnedRun":
        """The same run on a device."""
        return replace(
            self, detector=self.detector.to(device), correction=self.correction.to(device)
        )


def load_learned_run(folder: Path) -> LearnedRun:
    """Builds a run's detector and objective again, and fills them from `weights/last.ckpt`.

    Args:
        folder: a run folder, finished or interrupted.

    Raises:
        UserError: If there is no such run, it makes no pseudo masks, or its checkpoint does not
            fit.
    """
    data_path, options = _arguments(folder)
    data = read_data(data_path, options.val_fraction)
    recipe = plan_recipe(data, options)
    if not any(isinstance(loss, SelfCorrectionSettings) for loss in recipe.losses.values()):
        raise UserError(
            f"this run was trained with --method {options.method}, which makes no pseudo masks",
            where=str(folder),
            fix=f"train one with: boxmask train {data_path} --method sim",
        )
    checkpoint = RunFolder(root=folder).read_checkpoint()
    return _filled(folder, data, recipe, checkpoint)


def _arguments(folder: Path) -> tuple[str, TrainOptions]:
    """The data and the options of a run."""
    saved = RunFolder(root=folder).read_arguments()
    if saved is None:
        raise UserError(
            "this is no run folder" if folder.exists() else "no such run",
            where=str(RunFolder(root=folder).arguments if folder.exists() else folder),
            fix="name a folder that `boxmask train` has made",
        )
    return saved.pop("data"), options_from(TrainOptions, saved)


def _filled(
    folder: Path, data: DataFolder, recipe: Recipe, checkpoint: dict[str, Any]
) -> LearnedRun:
    backbone = replace(recipe.detector.backbone, pretrained=False)
    detector = replace(recipe.detector, backbone=backbone).build()
    objective = recipe.build_objective(max(checkpoint["global_step"], 1))
    try:
        detector.load_state_dict(_part(checkpoint["state_dict"], "average.model."))
        objective.load_state_dict(_part(checkpoint["state_dict"], "step.objective."))
    except RuntimeError as error:
        raise UserError(
            "the checkpoint does not fit: data or version of boxmask have changed since",
            where=f"{folder}: {str(error).splitlines()[-1].strip()}",
            fix="train again, or bring back the data as it was",
        ) from error
    correction = self_correction_of(objective)
    assert correction is not None
    return LearnedRun(
        folder=folder,
        data=data,
        recipe=recipe,
        detector=detector.eval(),
        correction=correction.eval(),
        epoch=checkpoint["epoch"] + 1,
        step=checkpoint["global_step"],
    )


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries below a prefix, without it."""
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
