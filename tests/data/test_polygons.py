import numpy as np
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from boxmask.data.masks import decode_segmentation
from boxmask.data.polygons import mask_outlines, mask_polygon

any_mask = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=14))


def rasterised(polygon, size):
    return decode_segmentation([polygon.astype(float).reshape(-1).tolist()], size)


def test_square():
    mask = np.zeros((8, 9), dtype=bool)
    mask[2:5, 3:7] = True
    assert {tuple(point) for point in mask_polygon(mask).tolist()} == {
        (3, 2),
        (7, 2),
        (7, 5),
        (3, 5),
    }


def test_empty_mask_has_no_points():
    assert mask_polygon(np.zeros((4, 5), dtype=bool)).shape == (0, 2)


def test_parts_and_holes_have_an_outline_each():
    mask = np.zeros((20, 20), dtype=bool)
    mask[1:10, 1:10] = True
    mask[3:6, 3:6] = False
    mask[15, 15] = True
    assert sorted(len(outline) for outline in mask_outlines(mask)) == [4, 4, 4]


@given(any_mask)
def test_one_polygon_gives_every_mask_back(mask):
    polygon = mask_polygon(mask)
    if mask.any():
        assert np.array_equal(rasterised(polygon, mask.shape), mask)


def test_large_ragged_mask_gives_itself_back():
    noise = np.random.default_rng(0).random((211, 173)) < 0.5
    assert np.array_equal(rasterised(mask_polygon(noise), noise.shape), noise)
