"""SOLOv2's sizes and how it is trained."""

from dataclasses import replace

from boxmask.backbones.backbone import BackboneSettings
from boxmask.detectors.grid_cells import GridSettings
from boxmask.detectors.solov2 import SOLOv2Settings
from boxmask.recipes.condinst import LARGE, LIGHT
from boxmask.recipes.recipe import Recipe


def solov2(backbone: BackboneSettings, num_classes: int, *, light: bool) -> Recipe:
    """SOLOv2 without mask losses.

    Args:
        backbone: any with maps at strides 4, 8, 16 and 32.
        num_classes: classes.
        light: small heads, and kernels that know their cell, for few pictures and no GPU; else as
            published.
    """
    if not light:
        detector = SOLOv2Settings(num_classes=num_classes, backbone=backbone)
        return Recipe(detector=detector, mask_factor=MASK_FACTOR, **_published())
    detector = SOLOv2Settings(
        num_classes=num_classes,
        backbone=backbone,
        grid=LIGHT_GRID,
        pyramid_channels=64,
        tower_channels=128,
        tower_depth=2,
        branch_channels=64,
        mask_channels=32,
        near_cell=True,
    )
    return Recipe(detector=detector, mask_factor=MASK_FACTOR, **LIGHT)


# Paper: weight 3 for Dice beside 1 for classes.
MASK_FACTOR = 3.0
# Published ranges are for pictures of 800 pixels; light models see 320.
LIGHT_GRID = GridSettings(
    sides=(40, 32, 20, 12, 8),
    size_ranges=((1.0, 40.0), (20.0, 80.0), (40.0, 160.0), (80.0, 320.0), (160.0, 640.0)),
)


def _published() -> dict:
    """36 epochs, the rate falls after 27 and 33."""
    optimizer = replace(LARGE["optimizer"], milestones=(0.75, 0.917), clip_norm=35.0)
    return LARGE | {"optimizer": optimizer}
