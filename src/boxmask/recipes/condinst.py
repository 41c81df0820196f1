"""Recipes on CondInst: which model, which method."""

from dataclasses import replace
from typing import Any, Literal

from boxmask.backbones.backbone import DEFAULT_BACKBONE, BackboneSettings
from boxmask.box_supervision.objective import Term
from boxmask.box_supervision.trusted_mask_loss import TrustedMaskLossSettings
from boxmask.data.transforms import AugmentationSettings
from boxmask.detectors.condinst import CondInstSettings
from boxmask.detectors.fcos import FCOSSettings
from boxmask.engine.optimizer import OptimizerSettings
from boxmask.errors import UserError
from boxmask.recipes.box_losses import (
    BoxInstSettings,
    Losses,
    SIMSettings,
    boxinst_losses,
    sim_losses,
)
from boxmask.recipes.recipe import Recipe

Method = Literal["boxinst", "full", "sim"]

_SHORT_NAMES = {
    "lite0": "tf_efficientnet_lite0",
    "lite1": "tf_efficientnet_lite1",
    "lite2": "tf_efficientnet_lite2",
    "r50": "resnet50",
    "r101": "resnet101",
}
_PREFIX = "condinst-"
assert _SHORT_NAMES["lite0"] == DEFAULT_BACKBONE


def condinst(
    model: str,
    method: Method,
    num_classes: int,
    *,
    pretrained: bool = True,
    settings: BoxInstSettings | None = None,
) -> Recipe:
    """The recipe of a model name and a method.

    Args:
        model: `condinst-` and then `lite0`, `lite1`, `lite2`, `r50`, `r101` or any timm name.
        method: "boxinst" and "sim" learn from boxes, "full" from masks (the upper bound).
        num_classes: classes of the data.
        pretrained: start from ImageNet weights.
        settings: knobs of the method; None for its defaults.

    Raises:
        UserError: If the model's name is not known.
    """
    if not model.startswith(_PREFIX):
        raise UserError(
            f"no model is called {model!r}",
            fix="use condinst-lite0, condinst-r50, condinst-r101 or condinst-<any timm name>",
        )
    short = model.removeprefix(_PREFIX)
    light = short.startswith("lite")
    backbone = BackboneSettings(
        name=_SHORT_NAMES.get(short, short),
        pretrained=pretrained,
        frozen_stages=2 if pretrained else 0,
    )
    detector = CondInstSettings(
        num_classes=num_classes,
        backbone=backbone,
        pyramid_channels=128 if light else 256,
        fcos=FCOSSettings(tower_depth=2 if light else 4),
        branch_channels=64 if light else 128,
        fine_masks=light,
        mask_score_power=2.0 if light else 0.0,
    )
    losses, terms = _losses(method, settings, detector)
    recipe = Recipe(
        detector=detector,
        losses=losses,
        terms=terms,
        masks="trusted" if method == "full" else "ignore",
    )
    recipe = replace(recipe, **(_LIGHT if light else _LARGE))
    if isinstance(settings, SIMSettings) and settings.teacher_decay is not None:
        recipe = replace(recipe, average_decay=settings.teacher_decay)
    return recipe


def _losses(method: Method, settings: BoxInstSettings | None, detector: CondInstSettings) -> Losses:
    """What teaches masks, and how much each part counts."""
    if method == "full":
        return {"loss_mask": TrustedMaskLossSettings()}, {"loss_mask": Term()}
    if method == "boxinst":
        return boxinst_losses(settings or BoxInstSettings())
    chosen = settings if isinstance(settings, SIMSettings) else SIMSettings()
    return sim_losses(chosen, detector.num_classes, detector.mask_channels)


def with_trusted_masks(recipe: Recipe) -> Recipe:
    """The recipe, also learning from the masks of those annotations that have one."""
    return replace(
        recipe,
        losses={**recipe.losses, "loss_mask": TrustedMaskLossSettings()},
        terms={**recipe.terms, "loss_mask": Term()},
        masks="trusted",
    )


# Light models are for few pictures and no GPU. Their pictures vary more in size than the paper's,
# because they start smaller: detail for masks at the large end, speed at the small end.
_LIGHT: dict[str, Any] = {"augmentation": AugmentationSettings(image_size=320, smallest_scale=0.6)}
# Full-size models train as in the paper: SGD, batch 16, short side 640 to 800.
_LARGE: dict[str, Any] = {
    "optimizer": OptimizerSettings(
        name="sgd", learning_rate=0.01, base_batch=16, weight_decay=1e-4, schedule="step",
        backbone_factor=1.0, warmup=0.02,
    ),
    "augmentation": AugmentationSettings(image_size=800, smallest_scale=0.8),
    "batch": 16,
    "pictures_seen": 24_000,
    "average_decay": 0.999,
}  # fmt: skip
