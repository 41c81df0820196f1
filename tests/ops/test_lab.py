"""CIE-LAB beside the definition and OpenCV."""

import cv2
import numpy as np
import pytest
import torch

from boxmask.ops.lab import rgb_to_lab
from references.neighbors import lab_of_rgb


def test_every_color_equals_the_definition():
    levels = torch.tensor([0.0, 0.003, 0.04, 0.041, 0.3, 0.77, 1.0], dtype=torch.float64)
    colors = torch.cartesian_prod(levels, levels, levels)
    found = rgb_to_lab(colors.T[:, :, None])[..., 0].T
    expected = [lab_of_rgb(*color) for color in colors.tolist()]
    np.testing.assert_allclose(found.numpy(), np.array(expected), atol=1e-3)


def test_equals_opencv():
    picture = torch.rand(12, 9, 3, generator=torch.Generator().manual_seed(0))
    found = rgb_to_lab(picture.permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    expected = cv2.cvtColor(picture.numpy(), cv2.COLOR_RGB2LAB)
    np.testing.assert_allclose(found.numpy(), expected, atol=0.3)  # OpenCV interpolates its curves


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_and_white(value):
    found = rgb_to_lab(torch.full((3, 1, 1), value)).flatten().tolist()
    assert found == pytest.approx([100 * value, 0, 0], abs=0.01)


def test_mixed_precision_rounds_nothing():
    colors = torch.rand(2, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = rgb_to_lab(colors)
    assert torch.equal(found, rgb_to_lab(colors))
