"""A CondInst small enough for tests, and pictures for it."""

import pytest
import torch

from boxmask.backbones.backbone import BackboneSettings
from boxmask.detectors.condinst import CondInstSettings
from boxmask.detectors.fcos import FCOSSettings
from boxmask.structures import Targets


def targets_of(*boxes, labels=None):
    """Targets of boxes given as [x1, y1, x2, y2]."""
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    if labels is None:
        labels = [row % 3 for row in range(len(tensor))]
    return Targets.from_boxes(tensor, torch.tensor(labels, dtype=torch.int64))


@pytest.fixture
def make_targets():
    return targets_of


@pytest.fixture(scope="module")
def small_settings():
    return CondInstSettings(
        num_classes=3,
        backbone=BackboneSettings(pretrained=False),
        fcos=FCOSSettings(tower_depth=1),
        pyramid_channels=64,
        branch_channels=16,
        mask_channels=4,
        samples_per_image=8,
    )


@pytest.fixture(scope="module")
def detector(small_settings):
    torch.manual_seed(0)
    return small_settings.build()


@pytest.fixture(scope="module")
def pictures():
    """Two pictures, the second one 37 x 53 pixels and padded to 64 x 96."""
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(2, 64, 96, dtype=torch.bool)
    valid[1, 37:] = False
    valid[1, :, 53:] = False
    return images * valid[:, None], valid
