"""The models that have a name of their own, with what was published and what we do."""

from dataclasses import dataclass

from boxmask.recipes.models import build_recipe
from boxmask.recipes.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """A model that `boxmask models` lists.

    Attributes:
        name: as `--model` takes it.
        title: what it is, in a few words.
        published: settings of training as published; empty where there is nothing to compare with.
    """

    name: str
    title: str
    published: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a model is and how it trains by default.

    Attributes:
        model: which.
        backbone: timm's name of its backbone.
        parameters: all weights, with those that do not learn.
        image_size: short side in pixels.
        batch: pictures of a step.
        pictures_seen: how many pictures a run looks at, repeats counted.
        training: optimizer, learning rate and its schedule, in words.
    """

    model: NamedModel
    backbone: str
    parameters: int
    image_size: int
    batch: int
    pictures_seen: int
    training: str


_FCOS_PUBLISHED = "SGD, 0.01 for 16 pictures, weight decay 1e-4, 640-800 px, 1x or 3x"

MODELS = (
    NamedModel(name="condinst-lite0", title="CondInst, EfficientNet-Lite0; for few pictures, CPUs"),
    NamedModel(name="condinst-r50", title="CondInst, ResNet-50-FPN", published=_FCOS_PUBLISHED),
    NamedModel(name="condinst-r101", title="CondInst, ResNet-101-FPN", published=_FCOS_PUBLISHED),
    NamedModel(
        name="condinst-r101-dcn-bifpn",
        title="CondInst, ResNet-101-DCN-BiFPN",
        published=_FCOS_PUBLISHED.replace("1x or ", ""),
    ),
    NamedModel(
        name="condinst-swinb",
        title="CondInst, Swin-B-FPN",
        published="AdamW, 1e-4 for 16 pictures, 3x; nothing else is published",
    ),
    NamedModel(name="maskrcnn-lite0", title="Mask R-CNN, EfficientNet-Lite0"),
    NamedModel(
        name="maskrcnn-r101",
        title="Mask R-CNN, ResNet-101-FPN",
        published="SGD, 0.02 for 16 pictures, weight decay 1e-4, 640-800 px, 3x",
    ),
    NamedModel(name="solov2-lite0", title="SOLOv2, EfficientNet-Lite0"),
    NamedModel(
        name="solov2-r101",
        title="SOLOv2, ResNet-101-FPN",
        published="SGD, 0.01 for 16 pictures, weight decay 1e-4, 640-800 px, 3x",
    ),
    NamedModel(name="mask2former-lite0", title="Mask2Former, EfficientNet-Lite0"),
    NamedModel(
        name="mask2former-r101",
        title="Mask2Former, ResNet-101",
        published="AdamW, 1e-4 for 16 pictures, backbone x 0.1, weight decay 0.05, crops of "
        "1024 px scaled by 0.1-2, 50e",
    ),
)


def model_facts(model: NamedModel, num_classes: int = 80) -> ModelFacts:
    """Builds a model with drawn weights and counts.

    Args:
        model: one of `MODELS`, or one with any other name that `build_recipe` knows.
        num_classes: classes.

    Raises:
        UserError: If the name is not known.
    """
    recipe = build_recipe(model.name, "boxinst", num_classes, pretrained=False)
    detector = recipe.detector.build()
    return ModelFacts(
        model=model,
        backbone=recipe.detector.backbone.name,
        parameters=sum(parameter.numel() for parameter in detector.parameters()),
        image_size=recipe.augmentation.image_size,
        batch=recipe.batch,
        pictures_seen=recipe.pictures_seen,
        training=_training(recipe),
    )


def _training(recipe: Recipe) -> str:
    optimizer, sizes = recipe.optimizer, recipe.augmentation
    low, high = sizes.smallest_scale, sizes.largest_scale
    if sizes.crop_side:
        pictures = f"crops of {sizes.crop_side} px scaled by {low:g}-{high:g}"
    else:
        pictures = f"{round(sizes.image_size * low)}-{round(sizes.image_size * high)} px"
    name = {"sgd": "SGD", "adamw": "AdamW"}[optimizer.name]
    words = [
        f"{name}, {optimizer.learning_rate:g} for {optimizer.base_batch} pictures",
        f"weight decay {optimizer.weight_decay:g}",
        pictures,
        f"{recipe.pictures_seen} pictures",
    ]
    if optimizer.backbone_factor != 1:
        words.insert(1, f"backbone x {optimizer.backbone_factor:g}")
    return ", ".join(words)
