import math

import pytest
import torch
from tests.references.masks import bilinear
from torch.autograd import gradcheck

from boxmask.detectors.region_masks import (
    enlarge_regions,
    place_masks,
    pool_regions,
    region_levels,
)


def pyramid(height=64, width=96, channels=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.rand(2, channels, height // stride, width // stride, generator=generator)
        for stride in (4, 8, 16, 32)
    ]


def pooled_slowly(maps, region, cells, stride):
    """Mean of 2 x 2 points in each cell of a region, from (C, h, w) maps."""
    x1, y1, x2, y2 = region
    out = torch.zeros(len(maps), cells, cells)
    places = [(cell + part) / cells for cell in range(cells) for part in (0.25, 0.75)]
    for channel, grid in enumerate(maps):
        values = [
            [
                bilinear(
                    grid,
                    (y1 + (y2 - y1) * row) / stride - 0.5,
                    (x1 + (x2 - x1) * column) / stride - 0.5,
                )
                for column in places
            ]
            for row in places
        ]
        grouped = torch.tensor(values).reshape(cells, 2, cells, 2)
        out[channel] = grouped.mean(dim=(1, 3))
    return out


def test_pooled_features_match_a_slow_reference():
    levels = pyramid()
    regions = torch.tensor(
        [[10.0, 5, 80, 60], [3, 2, 9, 11], [0, 0, 96, 64], [50, 20, 70, 44], [1, 1, 31, 21]]
    )
    image_index = torch.tensor([0, 1, 1, 0, 1])
    level_of = region_levels(regions, canonical_size=40.0)
    assert len(set(level_of.tolist())) > 2
    pooled = pool_regions(levels, regions, image_index, cells=3, canonical_size=40.0)
    for row, (region, image, level) in enumerate(zip(regions, image_index, level_of, strict=True)):
        expected = pooled_slowly(levels[level][image], region.tolist(), 3, 4 * 2 ** int(level))
        torch.testing.assert_close(pooled[row], expected, rtol=1e-4, atol=1e-5)


def test_pooled_cells_are_aligned_to_the_half_pixel():
    """A map that holds the x of its own cell centres gives those of the region's cells."""
    levels = [
        ((torch.arange(96 // stride) + 0.5) * stride).expand(1, 1, 64 // stride, -1)
        for stride in (4, 8, 16, 32)
    ]
    pooled = pool_regions(
        levels, torch.tensor([[20.0, 20, 48, 48]]), torch.tensor([0]), cells=7, canonical_size=224
    )
    assert pooled[0, 0, 3].tolist() == pytest.approx([22, 26, 30, 34, 38, 42, 46])


def test_no_regions_keep_the_graph():
    levels = [level.requires_grad_() for level in pyramid()]
    none = torch.zeros(0, dtype=torch.int64)
    pooled = pool_regions(levels, torch.zeros(0, 4), none, cells=3, canonical_size=224)
    assert pooled.shape == (0, 2, 3, 3)
    pooled.sum().backward()
    assert all(float(level.grad.abs().sum()) == 0 for level in levels)


def test_pooled_features_are_float32():
    levels = [level.bfloat16() for level in pyramid()]
    pooled = pool_regions(
        levels, torch.tensor([[1.0, 1, 30, 30]]), torch.tensor([0]), cells=3, canonical_size=224
    )
    assert pooled.dtype == torch.float32


@pytest.mark.parametrize(
    ("side", "level"),
    [(1, 0), (55, 0), (56, 0), (111.9, 0), (112, 1), (223.9, 1), (224, 2), (448, 3), (2000, 3)],
)
def test_levels_by_hand(side, level):
    regions = torch.tensor([[10.0, 10, 10 + side, 10 + side], [0, 0, side / 2, side * 2]])
    assert region_levels(regions, 224.0).tolist() == [level, level]


def test_regions_without_area_are_of_the_finest_level():
    assert region_levels(torch.tensor([[5.0, 5, 5, 5]]), 224.0).tolist() == [0]


def test_enlarged_regions_by_hand():
    boxes = torch.tensor([[40.0, 40, 80, 60], [0, 0, 40, 40], [10, 10, 11, 12], [50, 30, 90, 53]])
    limits = torch.tensor([[100.0, 80], [100, 80], [100, 80], [92, 53]])
    found = enlarge_regions(boxes, 1.2, 4.0, limits)
    assert found.tolist() == [
        [36, 36, 84, 64],  # 1.2 times along both axes would be 2 pixels along y
        [0, 0, 44, 44],
        [6, 6, 15, 16],
        pytest.approx([46, 26, 92, 53]),
    ]
    wide = enlarge_regions(torch.tensor([[20.0, 20, 80, 60]]), 1.5, 4.0, limits[:1])
    assert wide.tolist() == [[5, 10, 95, 70]]


def test_placed_masks_by_hand():
    logits = torch.tensor([[[1.0, 3.0]]])  # two cells, 8 pixels wide each
    placed = place_masks(logits, torch.tensor([[4.0, 0, 20, 8]]), (2, 6), 4, -6.0)
    # Cell centres at x = 2, 6, ..., 22; those of the region's two cells at 8 and 16.
    assert placed[0, 0].tolist() == pytest.approx([-6, 1, 1.5, 2.5, 3, -6])
    assert placed[0, 1].tolist() == pytest.approx([-6, 1, 1.5, 2.5, 3, -6])
    below = place_masks(logits, torch.tensor([[4.0, 4, 20, 8]]), (2, 6), 4, -6.0)
    assert below[0, 0].tolist() == [-6] * 6


def test_placed_masks_match_a_slow_reference():
    logits = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    regions = torch.tensor([[3.0, 1, 30, 35], [0, 0, 52, 36], [11, 9, 16, 12]])
    placed = place_masks(logits, regions, (9, 13), 4, -6.0)
    for row, (x1, y1, x2, y2) in enumerate(regions.tolist()):
        for i in range(9):
            for j in range(13):
                x, y = 4 * j + 2, 4 * i + 2
                expected = -6.0
                if x1 <= x < x2 and y1 <= y < y2:
                    expected = bilinear(
                        logits[row],
                        (y - y1) / (y2 - y1) * 5 - 0.5,
                        (x - x1) / (x2 - x1) * 7 - 0.5,
                    )
                assert float(placed[row, i, j]) == pytest.approx(expected, abs=1e-5)


def test_placed_masks_have_right_gradients():
    logits = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    regions = torch.tensor([[3.0, 1, 30, 19], [0, 0, 24, 20]], dtype=torch.float64)
    assert gradcheck(lambda values: place_masks(values, regions, (5, 6), 4, -6.0), (logits,))


def test_regions_without_area_and_no_regions_are_placed():
    placed = place_masks(torch.ones(1, 3, 3), torch.tensor([[6.0, 6, 6, 6]]), (4, 4), 4, -6.0)
    assert math.isclose(float(placed.sum()), -6.0 * 16)
    logits = torch.zeros(0, 3, 3, requires_grad=True)
    placed = place_masks(logits, torch.zeros(0, 4), (4, 5), 4, -6.0)
    assert placed.shape == (0, 4, 5)
    placed.sum().backward()
