import math

import pytest
import torch

from boxmask.benchmark import published_forms
from boxmask.ops.affinity import (
    NEIGHBORS,
    color_similarity,
    feature_similarity,
    lab_at_stride,
    neighbor_valid,
    shifted,
)
from references import neighbors as reference


def flat_image(*colors):
    """A (1, 3, 1, n) picture of n colours, each R, G, B in 0..255."""
    return torch.tensor(colors, dtype=torch.float32).T[None, :, None] / 255


def test_neighbors_go_row_after_row():
    assert list(NEIGHBORS) == reference.OFFSETS


@pytest.mark.parametrize("offset", [(1, 0), (-2, 1), (0, -3), (2, 2), (9, 0), (0, -9)])
def test_shifted(offset):
    maps = torch.randn(2, 5, 6)
    expected = torch.zeros_like(maps)
    for y in range(5):
        for x in range(6):
            other_y, other_x = y + offset[0], x + offset[1]
            if 0 <= other_y < 5 and 0 <= other_x < 6:
                expected[:, y, x] = maps[:, other_y, other_x]
    assert torch.equal(shifted(maps, offset), expected)


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((255, 255, 255), (100, 0, 0)),
        ((255, 0, 0), (53.2406, 80.0923, 67.2028)),
        ((128, 128, 128), (53.585, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
    ],
)
def test_lab_of_known_colors(rgb, lab):
    ours = lab_at_stride(flat_image(rgb), 1).flatten().tolist()
    assert ours == pytest.approx(lab, abs=0.02)


def test_lab_equals_the_definition():
    image = torch.rand(1, 3, 6, 5)
    lab = lab_at_stride(image, 1)
    for y in range(6):
        for x in range(5):
            expected = reference.lab_of_rgb(*image[0, :, y, x].tolist())
            assert lab[0, :, y, x].tolist() == pytest.approx(expected, abs=0.05)


def test_lab_of_cells_is_the_colour_of_their_mean():
    image = torch.rand(1, 3, 8, 12)
    lab = lab_at_stride(image, 4)
    assert lab.shape == (1, 3, 2, 3)
    mean = image[0, :, 4:8, 8:12].mean(dim=(1, 2))
    assert lab[0, :, 1, 2].tolist() == pytest.approx(reference.lab_of_rgb(*mean.tolist()), abs=0.05)


def test_truncated_colors_are_whole_grey_levels():
    image = flat_image((10, 10, 10), (13, 13, 13), (200, 200, 200), (203, 203, 203))
    pooled = torch.nn.functional.avg_pool2d(image, (1, 2))
    expected = lab_at_stride((pooled * 255).floor() / 255, 1)
    doubled = image.repeat(1, 1, 2, 1)
    torch.testing.assert_close(lab_at_stride(doubled, 2, truncate=True), expected)
    # A mean that is a whole level already stays: 17 is 17, not 16.
    level = torch.full((1, 3, 4, 4), 17 / 255)
    torch.testing.assert_close(
        lab_at_stride(level, 4, truncate=True), lab_at_stride(flat_image((17, 17, 17)), 1)
    )


@pytest.mark.parametrize(
    ("other", "distance", "similarity"), [(134, 2.342, 0.3101), (135, 2.730, 0.2553)]
)
def test_grey_levels_around_the_threshold(other, distance, similarity):
    lab = lab_at_stride(flat_image((128,) * 3, (other,) * 3), 1)
    assert (lab[0, :, 0, 0] - lab[0, :, 0, 1]).norm().item() == pytest.approx(distance, abs=2e-3)
    valid = torch.ones(1, 1, 2, dtype=torch.bool)
    right = NEIGHBORS.index((0, 1))
    ours = color_similarity(lab, valid, 1)[0, right, 0, 0].item()
    assert ours == pytest.approx(similarity, abs=3e-4)
    assert (ours >= 0.3) == (other == 134)


def test_thresholds_as_distances():
    lab = torch.zeros(1, 3, 1, 2)
    lab[0, 0, 0, 1] = 2.4079456
    valid = torch.ones(1, 1, 2, dtype=torch.bool)
    assert color_similarity(lab, valid, 1)[0, 4, 0, 0].item() == pytest.approx(0.3, abs=1e-6)
    # The product gate of 0.1 holds up to |difference of features| + |difference of LAB| / 2.
    features = torch.zeros(1, 16, 1, 2)
    features[0, 3, 0, 1] = 1.0
    lab[0, 0, 0, 1] = 2 * (2.3025851 - 1.0)
    product = feature_similarity(features, 1) * color_similarity(lab, valid, 1)
    assert product[0, 4, 0, 0].item() == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize("dilation", [1, 2])
def test_similarities_equal_a_loop(dilation):
    maps = torch.randn(1, 3, 7, 5, dtype=torch.float64)
    valid = torch.rand(1, 7, 5) < 0.7
    pairs = reference.valid_pairs(valid[0], dilation, both_ends=True)
    inside = reference.valid_pairs(torch.ones(7, 5, dtype=torch.bool), dilation, both_ends=True)
    expected = reference.similarity(maps[0], dilation, 2.0)
    torch.testing.assert_close(color_similarity(maps, valid, dilation)[0], expected * pairs)
    expected = reference.similarity(maps[0], dilation, 1.0)
    torch.testing.assert_close(feature_similarity(maps, dilation)[0] * inside, expected)


def test_validity_asks_both_ends_where_the_published_code_asks_one():
    valid = torch.ones(1, 6, 4, dtype=torch.bool)
    valid[:, 4:] = False  # the bottom two rows do not count
    ours = neighbor_valid(valid, 2)
    assert torch.equal(ours[0], reference.valid_pairs(valid[0], 2, both_ends=True))
    assert not ours[:, :, 4:].any()
    down = NEIGHBORS.index((1, 0))
    assert not ours[0, down, 2:].any()  # no edge into the removed rows either
    theirs = published_forms.valid_neighbors(valid, 2)
    assert torch.equal(theirs[0], reference.valid_pairs(valid[0], 2, both_ends=False))
    up = NEIGHBORS.index((-1, 0))
    assert theirs[0, up, 4].all()  # from a removed row to a valid one: it survives there


def test_similarity_is_symmetric():
    lab = torch.rand(1, 3, 9, 9) * 10
    valid = torch.rand(1, 9, 9) < 0.8
    similarity = color_similarity(lab, valid, 2)[0]
    for index, (dy, dx) in enumerate(NEIGHBORS):
        back = shifted(similarity[7 - index], (2 * dy, 2 * dx))
        torch.testing.assert_close(similarity[index], back)


def test_equal_colors_are_wholly_alike():
    valid = torch.ones(1, 4, 4, dtype=torch.bool)
    similarity = color_similarity(torch.full((1, 3, 4, 4), 50.0), valid, 1)
    assert set(similarity.unique().tolist()) == {0.0, 1.0}
    assert math.isclose(similarity.sum().item(), 84)  # edges of a 4 x 4 map
