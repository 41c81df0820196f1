"""Scores at the pixels of a box, and the threshold that fits it, against plain forms."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

from boxmask.data.box_pixels import (
    LEAST_GAIN,
    THRESHOLDS,
    fitted_threshold,
    pixels_of_box,
    scores_in_box,
)


@pytest.mark.parametrize("seed", range(20))
def test_scores_are_bilinear_and_zero_outside_the_frame(seed):
    random = np.random.default_rng(seed)
    height, width = (int(n) for n in random.integers(1, 40, 2))
    scores = torch.from_numpy(random.random((height, width)).astype(np.float32))
    scale = tuple(random.random(2) * 1.5 + 0.2)
    x, y = random.random(2) * 20 * (seed % 2)
    frame = torch.tensor([x, y, x + 4 * width, y + 4 * height], dtype=torch.float64)
    size = (int(height * 4 / scale[1]) + 30, int(width * 4 / scale[0]) + 30)
    box = np.sort(random.random((2, 2)) * [size[1], size[0]], axis=0).reshape(-1)
    place = pixels_of_box(box, size)
    found = scores_in_box(scores.numpy(), frame.numpy(), scale, place)

    rows, columns = (torch.arange(s.start, s.stop, dtype=torch.float64) + 0.5 for s in place)
    down = (rows * scale[1] - y) / (4 * height) * 2 - 1
    across = (columns * scale[0] - x) / (4 * width) * 2 - 1
    grid = torch.stack(torch.meshgrid(down, across, indexing="ij")[::-1], dim=-1)
    expected = F.grid_sample(
        scores[None, None].double(), grid[None], padding_mode="border", align_corners=False
    )[0, 0] * (grid.abs() <= 1).all(dim=-1)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


def overlap(low, high, pixel):
    return max(0.0, min(high, pixel + 1) - max(low, pixel))


@given(st.floats(0, 8), st.floats(1e-3, 0.999))
def test_a_side_between_two_centres_has_the_pixel_that_it_overlaps_most(low, length):
    high = min(low + length, 9.0)
    assume(high > low)
    rows, columns = pixels_of_box((low, 0, high, 9), (9, 9))
    assert (rows.start, rows.stop) == (0, 9)
    assert columns.stop == columns.start + 1
    most = max(overlap(low, high, pixel) for pixel in range(9))
    centre = columns.start + 0.5
    if not low <= centre < high:
        assert overlap(low, high, columns.start) == pytest.approx(most, abs=1e-9)


def test_a_box_smaller_than_a_pixel_has_one_that_it_overlaps():
    assert pixels_of_box((3.55, 5.5, 3.95, 6.1), (9, 9)) == (slice(5, 6), slice(3, 4))
    assert pixels_of_box((0.0, 8.9, 0.1, 9.0), (9, 9)) == (slice(8, 9), slice(0, 1))


def slow_threshold(scores):
    best, chosen = 0.0, THRESHOLDS[0]
    for threshold in THRESHOLDS:
        y, x = np.nonzero(scores > np.float32(threshold))
        if len(y):
            reached = (np.ptp(y) + 1) * (np.ptp(x) + 1) / scores.size
            if reached > best + LEAST_GAIN:
                best, chosen = reached, threshold
    return chosen


@pytest.mark.parametrize("seed", range(30))
def test_fitted_threshold_equals_the_plain_form(seed):
    random = np.random.default_rng(seed)
    size = random.integers(1, 12, 2)
    scores = (random.random(size) * random.random()).astype(np.float32)
    if seed % 3 == 0:
        scores = np.round(scores * 20).astype(np.float32) / 20  # exactly on the thresholds
    assert fitted_threshold(scores) == slow_threshold(scores)
