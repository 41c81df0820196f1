"""Pictures of a run: names must not hide what they name."""

import numpy as np
import pytest
import torch

from boxmask.data.pictures import read_picture
from boxmask.data.transforms import Sample
from boxmask.evaluation.run_pictures import draw_training_pictures
from boxmask.structures import Targets

GREY = 120


@pytest.mark.parametrize("size", [(48, 64), (96, 128), (192, 256), (600, 800)])
def test_names_cover_little_of_a_training_picture(tmp_path, size):
    box = torch.tensor([[0.4, 0.5, 0.7, 0.9]]) * torch.tensor([size[1], size[0]] * 2)
    sample = Sample(
        image=torch.full((3, *size), GREY, dtype=torch.uint8),
        targets=Targets.from_boxes(box, torch.zeros(1, dtype=torch.int64)),
    )
    draw_training_pictures([sample], ["crescent"], tmp_path / "a.png")
    page = read_picture(tmp_path / "a.png").astype(int)[20:-20, 20:-20]
    covered = (np.abs(page - GREY) > 8).any(axis=2)
    assert 0.005 < covered.mean() < 0.06
