"""CondInst's sizes and how it is trained."""

from typing import Any, Literal

from boxmask.backbones.backbone import BackboneSettings
from boxmask.data.transforms import AugmentationSettings
from boxmask.detectors.condinst import CondInstSettings
from boxmask.detectors.fcos import FCOSSettings
from boxmask.engine.optimizer import OptimizerSettings
from boxmask.recipes.recipe import Recipe


def condinst(
    backbone: BackboneSettings,
    num_classes: int,
    *,
    light: bool,
    neck: Literal["fpn", "bifpn"] = "fpn",
) -> Recipe:
    """CondInst without mask losses.

    Args:
        backbone: any with maps at strides 8, 16 and 32, and 4 where `light`.
        num_classes: classes.
        light: small heads with masks from stride 4, for few pictures and no GPU; else as published.
        neck: the pyramid.
    """
    detector = CondInstSettings(
        num_classes=num_classes,
        backbone=backbone,
        neck=neck,
        pyramid_channels=128 if light else BIFPN_CHANNELS if neck == "bifpn" else 256,
        fcos=FCOSSettings(tower_depth=2 if light else 4),
        branch_channels=64 if light else 128,
        fine_masks=light,
        mask_score_power=2.0 if light else 0.0,
    )
    return Recipe(detector=detector, **(LIGHT if light else LARGE))


BIFPN_CHANNELS = 160

# Light models are for few pictures and no GPU. Their pictures vary more in size than the paper's,
# because they start smaller: detail for masks at the large end, speed at the small end.
LIGHT: dict[str, Any] = {"augmentation": AugmentationSettings(image_size=320, smallest_scale=0.6)}
# Full-size models train as in the paper: SGD, batch 16, short side 640 to 800.
LARGE: dict[str, Any] = {
    "optimizer": OptimizerSettings(
        name="sgd", learning_rate=0.01, base_batch=16, weight_decay=1e-4, schedule="step",
        backbone_factor=1.0, warmup=0.02,
    ),
    "augmentation": AugmentationSettings(image_size=800, smallest_scale=0.8),
    "batch": 16,
    "pictures_seen": 24_000,
    "average_decay": 0.999,
}  # fmt: skip
