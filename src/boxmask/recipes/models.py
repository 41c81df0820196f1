"""Names of models, and the recipe of each."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from boxmask.backbones.backbone import DEFAULT_BACKBONE, BackboneSettings
from boxmask.engine.optimizer import OptimizerSettings
from boxmask.errors import UserError
from boxmask.recipes.box_settings import BoxInstSettings
from boxmask.recipes.condinst import condinst
from boxmask.recipes.mask2former import mask2former
from boxmask.recipes.mask_rcnn import mask_rcnn
from boxmask.recipes.methods import Method, taught_by
from boxmask.recipes.recipe import Recipe
from boxmask.recipes.solov2 import solov2

# Each takes a backbone, the number of classes, and `light`; the name starts a model's name.
ARCHITECTURES: dict[str, Callable[..., Recipe]] = {
    "condinst": condinst,
    "solov2": solov2,
    "mask2former": mask2former,
    "maskrcnn": mask_rcnn,
}

BACKBONES = {
    "lite0": "tf_efficientnet_lite0",
    "lite1": "tf_efficientnet_lite1",
    "lite2": "tf_efficientnet_lite2",
    "r50": "resnet50",
    "r101": "resnet101",
    "swint": "swin_tiny_patch4_window7_224",
    "swinb": "swin_base_patch4_window7_224",
}
assert BACKBONES["lite0"] == DEFAULT_BACKBONE
# Modulated deformable convolutions in every third block, as published.
DEFORM_INTERVAL = 3


def is_model_name(name: str) -> bool:
    """Whether a word starts as the names of models do: an architecture and a dash."""
    architecture, dash, _ = name.partition("-")
    return bool(dash) and architecture in ARCHITECTURES


def build_recipe(
    model: str,
    method: Method,
    num_classes: int,
    *,
    pretrained: bool = True,
    settings: BoxInstSettings | None = None,
) -> Recipe:
    """The recipe of a model name and a method.

    Args:
        model: an architecture, a dash, and `lite0`, `r50`, `swinb` or any timm name; behind a
            ResNet also `-dcn`, and behind `condinst` also `-bifpn`.
        method: "boxinst" and "sim" learn from boxes, "full" from masks (the upper bound).
        num_classes: classes of the data.
        pretrained: start from ImageNet weights.
        settings: knobs of the method; None for its defaults.

    Raises:
        UserError: If the model's name is not known.
    """
    architecture, _, rest = model.partition("-")
    if not is_model_name(model) or not rest:
        names = ", ".join(f"{name}-lite0" for name in ARCHITECTURES)
        raise UserError(
            f"no model is called {model!r}",
            fix=f"use {names}, or another backbone, such as -r50 or any timm name; "
            "boxmask models lists all",
        )
    body, options = _options(rest, architecture)
    light = body.startswith("lite")
    backbone = BackboneSettings(
        name=BACKBONES.get(body, body),
        pretrained=pretrained,
        # Frozen, random ResNets could not learn: their branches start switched off by their norms.
        frozen_norm=pretrained or light,
        frozen_stages=2 if pretrained else 0,
        deform_interval=DEFORM_INTERVAL if options.pop("dcn", False) else 0,
    )
    recipe = ARCHITECTURES[architecture](backbone, num_classes, light=light, **options)
    if backbone.name.startswith("swin") and recipe.optimizer.name == "sgd":
        recipe = replace(recipe, optimizer=SWIN_OPTIMIZER)
    return taught_by(recipe, method, settings)


def _options(rest: str, architecture: str) -> tuple[str, dict[str, Any]]:
    """The backbone, and what the words behind it ask for."""
    options: dict[str, Any] = {}
    if architecture == "condinst" and rest.endswith("-bifpn"):
        rest = rest.removesuffix("-bifpn")
        options["neck"] = "bifpn"
    if rest.endswith("-dcn"):
        rest = rest.removesuffix("-dcn")
        options["dcn"] = True
    return rest, options


# Paper: AdamW at 1e-4; weight decay as in the public recipe nearest to it.
SWIN_OPTIMIZER = OptimizerSettings(
    name="adamw", learning_rate=1e-4, base_batch=16, weight_decay=0.05, schedule="step",
    backbone_factor=1.0, warmup=0.02,
)  # fmt: skip
