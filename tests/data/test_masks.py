import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pycocotools import mask as coco_mask

from boxmask.data.masks import decode_segmentation, encode_mask, has_mask, mask_area, mask_box
from boxmask.errors import UserError

any_mask = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12))


@given(any_mask)
def test_encoding_loses_nothing(mask):
    rle = encode_mask(mask)
    assert isinstance(rle["counts"], str)
    assert np.array_equal(decode_segmentation(rle, mask.shape), mask)
    assert mask_area(rle) == mask.sum()


def test_box_around_a_mask():
    mask = np.zeros((9, 11), dtype=bool)
    mask[2:5, 3:10] = True
    assert mask_box(encode_mask(mask)) == (3, 2, 10, 5)
    assert mask_box(encode_mask(mask & False)) == (0, 0, 0, 0)


@pytest.mark.parametrize("polygon", [[[2, 3, 6, 3, 6, 8, 2, 8]], [2, 3, 6, 3, 6, 8, 2, 8]])
def test_polygon_along_pixel_corners(polygon):
    mask = decode_segmentation(polygon, (10, 12))
    expected = np.zeros((10, 12), dtype=bool)
    expected[3:8, 2:6] = True
    assert np.array_equal(mask, expected)


def test_polygons_are_joined_and_bits_dropped():
    square = [0, 0, 2, 0, 2, 2, 0, 2]
    other = [5, 5, 7, 5, 7, 7, 5, 7]
    mask = decode_segmentation([square, other, [1, 1, 9, 9]], (10, 10))
    assert mask.sum() == 8


def test_uncompressed_rle_runs_down_columns():
    mask = decode_segmentation({"size": [2, 3], "counts": [1, 2, 3]}, (2, 3))
    assert mask.tolist() == [[False, True, False], [True, False, False]]


def test_index_picture(tmp_path):
    values = np.array([[0, 1, 2], [2, 2, 255]], dtype=np.uint8)
    image = Image.fromarray(values)
    image.putpalette([7] * 768)
    image.save(tmp_path / "a.png")
    mask = decode_segmentation({"png": tmp_path / "a.png", "index": 2}, (2, 3))
    assert mask.tolist() == [[False, False, True], [True, True, False]]
    with pytest.raises(UserError, match="size"):
        decode_segmentation({"png": tmp_path / "a.png", "index": 2}, (3, 3))
    with pytest.raises(UserError, match="cannot be read"):
        decode_segmentation({"png": tmp_path / "b.png", "index": 2}, (2, 3))


@pytest.mark.parametrize("nothing", [None, 0, [], [[]], {}, ""])
def test_nothing_is_no_mask(nothing):
    assert not has_mask(nothing)
    with pytest.raises(ValueError, match="segmentation"):
        decode_segmentation(nothing, (3, 3))


@pytest.mark.parametrize(
    "broken",
    [
        "text",
        7,
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [["a", 2, 3, 4, 5, 6]],
        [[float("nan"), 2, 3, 4, 5, 6]],
        [[1, 2, 3, 4, 5, 6], 7],
        {"size": [3, 4], "counts": "04"},
        {"size": [3, 3], "counts": [4, 4]},
        {"size": [3, 3], "counts": [10, -1]},
        {"size": [3, 3], "counts": None},
        {"size": None, "counts": [9]},
        {"counts": [9]},
    ],
)
def test_broken_segmentation_is_a_user_error(broken):
    with pytest.raises(UserError, match="segmentation"):
        decode_segmentation(broken, (3, 3))


@given(st.text(max_size=30))
def test_garbage_counts_never_crash(counts):
    with contextlib.suppress(UserError):
        assert decode_segmentation({"size": [6, 7], "counts": counts}, (6, 7)).shape == (6, 7)


@given(any_mask)
def test_packed_counts_agree_with_pycocotools(mask):
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    assert np.array_equal(decode_segmentation(rle, mask.shape), coco_mask.decode(rle))


def test_large_mask():
    mask = np.random.default_rng(1).random((700, 900)) < 0.5
    mask[:, 300:700] = True
    assert np.array_equal(decode_segmentation(encode_mask(mask), mask.shape), mask)
