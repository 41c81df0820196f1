"""A trained model as it is saved: weights, and all that is needed to build it again."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from boxmask.detectors.condinst import CondInstSettings
from boxmask.detectors.detector import Detector, DetectorSettings
from boxmask.detectors.mask2former import Mask2FormerSettings
from boxmask.detectors.mask_rcnn import MaskRCNNSettings
from boxmask.detectors.solov2 import SOLOv2Settings
from boxmask.engine.run_folder import RunFolder, load_weights
from boxmask.errors import UserError
from boxmask.recipes.recipe import Recipe

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """A model that is ready to use.

    Attributes:
        detector: in evaluation mode, on the CPU.
        class_names: names in the order of labels.
        category_ids: ids of the classes in the training data.
        image_size: short side in pixels that pictures are resized to.
        file: where the weights came from.
    """

    detector: Detector
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    image_size: int
    file: Path


def describe_model(
    recipe: Recipe, class_names: tuple[str, ...], category_ids: tuple[int, ...]
) -> dict[str, Any]:
    """Plain data to save with the weights."""
    return {
        "format": FORMAT,
        "detector": asdict(recipe.detector),
        "class_names": list(class_names),
        "category_ids": list(category_ids),
        "image_size": recipe.augmentation.image_size,
    }


def load_model(path: Path | str) -> SavedModel:
    """Builds a trained model from a run folder or a weights file.

    Raises:
        UserError: If there are no weights, or not ours.
    """
    file = _weights_file(Path(path))
    tensors, description = load_weights(file)
    try:
        settings = _settings(description)
        detector = settings.build()
        detector.load_state_dict(tensors)
    except (KeyError, ValidationError, RuntimeError) as error:
        raise UserError(
            "these weights do not fit this version of boxmask",
            where=f"{file}: {str(error).splitlines()[0]}",
            fix="train again, or use the version that saved them",
        ) from error
    return SavedModel(
        detector=detector.eval(),
        class_names=tuple(description["class_names"]),
        category_ids=tuple(description["category_ids"]),
        image_size=int(description["image_size"]),
        file=file,
    )


# Settings of every architecture, told apart by their field `architecture`.
SETTINGS: dict[str, type[DetectorSettings]] = {
    "condinst": CondInstSettings,
    "solov2": SOLOv2Settings,
    "mask2former": Mask2FormerSettings,
    "maskrcnn": MaskRCNNSettings,
}


def _settings(description: Mapping[str, Any]) -> DetectorSettings:
    if description["format"] != FORMAT:
        raise KeyError(f"format {description['format']}")
    saved = description["detector"]
    kind = SETTINGS[saved.get("architecture", "condinst")]
    settings = TypeAdapter(kind).validate_python(saved)
    return replace(settings, backbone=replace(settings.backbone, pretrained=False))


def _weights_file(path: Path) -> Path:
    if path.is_dir():
        file = RunFolder(root=path).best
        if not file.is_file():
            raise UserError(
                "this folder has no trained weights",
                where=str(file),
                fix="name a run folder that `boxmask train` has finished at least an epoch of",
            )
        return file
    if not path.is_file():
        raise UserError(
            "no such run or weights",
            where=str(path),
            fix="name a run folder or a .safetensors file",
        )
    return path
