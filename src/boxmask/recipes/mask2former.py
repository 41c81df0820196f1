"""Mask2Former's sizes and how it is trained."""

from dataclasses import replace
from typing import Any

from boxmask.backbones.backbone import BackboneSettings
from boxmask.data.transforms import AugmentationSettings
from boxmask.detectors.mask2former import Mask2FormerSettings
from boxmask.detectors.query_masks import QuerySettings
from boxmask.engine.optimizer import OptimizerSettings
from boxmask.recipes.condinst import LARGE, LIGHT
from boxmask.recipes.recipe import Recipe


def mask2former(backbone: BackboneSettings, num_classes: int, *, light: bool) -> Recipe:
    """Mask2Former without mask losses.

    Args:
        backbone: any with maps at strides 4, 8, 16 and 32.
        num_classes: classes.
        light: a small decoder, for few pictures and no GPU; else as published.
    """
    detector = Mask2FormerSettings(
        num_classes=num_classes,
        backbone=backbone if light else replace(backbone, frozen_stages=0),
        queries=LIGHT_QUERIES if light else QuerySettings(),
        score_threshold=0.01 if light else 0.0,
    )
    return Recipe(detector=detector, mask_factor=5.0, **(SMALL if light else PUBLISHED))


LIGHT_QUERIES = QuerySettings(
    num_queries=40, channels=128, heads=4, encoder_layers=2, encoder_hidden=256,
    decoder_layers=3, decoder_hidden=256,
)  # fmt: skip
SMALL: dict[str, Any] = {
    **LIGHT,
    "optimizer": OptimizerSettings(learning_rate=5e-4, clip_norm=1.0),
}
PUBLISHED: dict[str, Any] = {
    **LARGE,
    "augmentation": AugmentationSettings(
        image_size=800, crop=1024 / 800, smallest_scale=0.1, largest_scale=2.0
    ),
    "optimizer": OptimizerSettings(
        name="adamw", learning_rate=1e-4, base_batch=16, weight_decay=0.05, schedule="step",
        backbone_factor=0.1, warmup=0.0, milestones=(0.889, 0.963), clip_norm=0.01,
    ),
}  # fmt: skip
