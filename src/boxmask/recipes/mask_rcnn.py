"""Mask R-CNN's sizes and how it is trained."""

from dataclasses import replace

from boxmask.backbones.backbone import BackboneSettings
from boxmask.detectors.mask_rcnn import MaskRCNNSettings
from boxmask.detectors.region_boxes import RegionSettings
from boxmask.detectors.region_proposals import ProposalSettings
from boxmask.recipes.condinst import LARGE, LIGHT
from boxmask.recipes.recipe import Recipe

# Twice CondInst's.
PUBLISHED_RATE = 0.02


def mask_rcnn(backbone: BackboneSettings, num_classes: int, *, light: bool) -> Recipe:
    """Mask R-CNN without mask losses.

    Args:
        backbone: any with maps at strides 4, 8, 16 and 32.
        num_classes: classes.
        light: small heads, anchors for small pictures, for no GPU; else as published.
    """
    if not light:
        published = MaskRCNNSettings(num_classes=num_classes, backbone=backbone)
        optimizer = replace(LARGE["optimizer"], learning_rate=PUBLISHED_RATE)
        return Recipe(detector=published, **{**LARGE, "optimizer": optimizer})
    detector = MaskRCNNSettings(
        num_classes=num_classes,
        backbone=backbone,
        proposals=ProposalSettings(
            anchor_sizes=(16, 32, 64, 128, 256), num_before_nms=500, num_proposals=300
        ),
        regions=RegionSettings(hidden_channels=256, canonical_size=112.0, samples_per_image=128),
        pyramid_channels=128,
        mask_channels=128,
        mask_depth=2,
        samples_per_image=16,
    )
    return Recipe(detector=detector, **LIGHT)
