"""One mask on a CPU, beside the filter of many masks, which has a slow reference."""

import numpy as np
import pytest
import torch

from boxmask.ops.guided_filter import color_guide, guided_filter
from boxmask.ops.guided_filter_single import explained_by_colors_single, guided_filter_single


@pytest.mark.parametrize("radius", [1, 2, 8])
@pytest.mark.parametrize("size", [(7, 30), (23, 18), (1, 5)])
@pytest.mark.parametrize(
    ("grey", "smoothness"), [(False, 1e-2), (False, 1e-4), (True, 1e-4), (True, 1e-5)]
)
def test_both_filters_are_one(radius, size, grey, smoothness):
    random = np.random.default_rng(radius)
    colors = random.random((*size, 3), dtype=np.float32)
    if grey:
        colors = np.repeat(colors[:, :, :1], 3, axis=2)
    mask = (random.random(size) < 0.5).astype(np.float32)
    found = guided_filter_single(colors, mask, radius=radius, smoothness=smoothness)
    guide = color_guide(
        torch.from_numpy(colors).permute(2, 0, 1)[None].double(),
        torch.ones((1, *size), dtype=torch.bool),
        radius=radius,
        smoothness=smoothness,
    )
    maps, first = torch.from_numpy(mask)[None].double(), torch.tensor([0])
    (expected,), explained = guided_filter(maps, first, guide)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-3)
    same = explained_by_colors_single(mask, expected.float().numpy(), radius=radius)
    assert same == pytest.approx(explained.item(), abs=1e-4)


def test_what_colors_explain_by_hand():
    """A column of nine cells is half wrong; windows with a border: columns 4 and 5."""
    mask = np.zeros((9, 9), dtype=np.float32)
    mask[:, 5:] = 1
    found = mask.copy()
    found[:, 4] = 0.5
    # Without colours columns 4 and 5 become 3/9 and 6/9.
    explained = explained_by_colors_single(mask, found, radius=1)
    assert explained == pytest.approx(1 - 0.25 / (2 / 9), abs=1e-6)
