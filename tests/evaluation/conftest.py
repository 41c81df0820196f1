"""A model that corrects itself, small and untrained, with prototypes and a bank; and a picture."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from boxmask.box_supervision.copy_paste_bank import CopyPasteSettings
from boxmask.box_supervision.cut_out import CutOut
from boxmask.box_supervision.self_correction_loss import SelfCorrectionSettings
from boxmask.data.records import ImageRecord
from boxmask.detectors.fcos import FCOSSettings
from boxmask.recipes.models import build_recipe
from boxmask.visualization.contact_sheet import save_picture

NAMES = ("disc", "star")


@pytest.fixture(scope="module")
def small_detector():
    torch.manual_seed(0)
    recipe = build_recipe("condinst-lite0", "sim", len(NAMES), pretrained=False)
    settings = replace(
        recipe.detector, pyramid_channels=64, branch_channels=16, fcos=FCOSSettings(tower_depth=1)
    )
    return settings.build().eval()


@pytest.fixture
def make_loss():
    """Makes a loss with random prototypes for class 0, and a bank of some pictures."""

    def make(remembered=2, capacity=2, probability=1.0):
        generator = torch.Generator().manual_seed(0)
        loss = SelfCorrectionSettings(
            num_classes=len(NAMES),
            channels=16,
            copy_paste=CopyPasteSettings(capacity=capacity, probability=probability),
        ).build()
        vectors = torch.randn(10, 16, generator=generator)
        loss.bank.vectors[0] = vectors / vectors.norm(dim=-1, keepdim=True)
        loss.bank.updates[0] = 1
        for index in range(remembered):
            one = CutOut(
                picture=torch.full((3, 16, 16), 255, dtype=torch.uint8),
                mask=torch.ones(16, 16, dtype=torch.bool),
                corner=(8 + 16 * index, 8),
                label=1,
                score=0.9,
            )
            loss.paste_bank.remember((one,))
        return loss

    return make


@pytest.fixture
def make_record(tmp_path):
    """Makes a picture file of 48 x 64 pixels and its record."""

    def make(*boxes, labels=None, crowd=None, name="a.png"):
        random = np.random.default_rng(0)
        picture = random.integers(0, 100, (48, 64, 3), dtype=np.uint8)
        count = len(boxes)
        return ImageRecord(
            path=save_picture(tmp_path / name, picture),
            name=name,
            image_size=(48, 64),
            boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
            labels=np.array(labels or [0] * count, dtype=np.int64),
            annotation_ids=tuple(range(count)),
            crowd=np.array(crowd or [False] * count, dtype=bool),
            segmentations=(None,) * count,
            image_id=1,
        )

    return make
