"""A detector that fits in a test, and batches for it."""

import pytest
import torch

from boxmask.backbones.backbone import BackboneSettings
from boxmask.box_supervision.objective import Objective, Term
from boxmask.box_supervision.pairwise_loss import PairwiseLossSettings
from boxmask.box_supervision.projection_loss import ProjectionLossSettings
from boxmask.detectors.condinst import CondInstSettings
from boxmask.detectors.fcos import FCOSSettings
from boxmask.structures import Batch, Targets


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    settings = CondInstSettings(
        num_classes=2,
        backbone=BackboneSettings(pretrained=False),
        fcos=FCOSSettings(tower_depth=1),
        pyramid_channels=64,
        branch_channels=16,
        mask_channels=4,
        samples_per_image=8,
    )
    return settings.build()


@pytest.fixture
def objective():
    return Objective(
        {
            "loss_projection": ProjectionLossSettings().build(),
            "loss_pairwise": PairwiseLossSettings().build(),
        },
        {"loss_projection": Term(), "loss_pairwise": Term(ramp=0.5)},
    )


@pytest.fixture
def make_batch():
    """Makes a batch of two pictures with given boxes, the second one 37 x 53 pixels."""

    def make(*boxes_of_images):
        images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
        valid = torch.ones(2, 64, 96, dtype=torch.bool)
        valid[1, 37:] = False
        valid[1, :, 53:] = False
        targets = tuple(
            Targets.from_boxes(
                torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                torch.zeros(len(boxes), dtype=torch.int64),
            )
            for boxes in boxes_of_images
        )
        return Batch(
            images=images * valid[:, None],
            valid=valid,
            targets=targets,
            image_sizes=((64, 96), (37, 53)),
            scales=torch.ones(2, 2),
            indices=(0, 1),
            names=("first.png", "second.png"),
        )

    return make
