import cv2
import numpy as np
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from boxmask.data.masks import decode_segmentation
from boxmask.data.polygons import CORE_SHIFT, mask_outlines, mask_polygon

any_mask = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=14))


def rasterised(polygon, size):
    """Filled by pixel centres, as pycocotools does."""
    return decode_segmentation([(polygon + CORE_SHIFT).reshape(-1).tolist()], size)


def filled(polygon, size):
    """Filled as YOLO tools do, of points that are whole numbers."""
    mask = np.zeros(size, dtype=np.uint8)
    cv2.fillPoly(mask, [polygon.astype(np.int32)], 1)
    return mask.astype(bool)


def test_square():
    mask = np.zeros((8, 9), dtype=bool)
    mask[2:5, 3:7] = True
    assert {tuple(point) for point in mask_polygon(mask).tolist()} == {
        (3.25, 2.25),
        (6.49, 2.25),
        (6.49, 4.49),
        (3.25, 4.49),
    }


def one_part(mask):
    """The largest part of a mask, its pixels joined side by side, with its holes."""
    _, parts, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    return parts == 1 + np.argmax(facts[1:, cv2.CC_STAT_AREA])


@given(any_mask)
def test_whole_numbers_and_opencv_give_every_part_back(mask):
    if mask.any():
        mask = one_part(mask)
        polygon = mask_polygon(mask)
        assert np.array_equal(filled(polygon, mask.shape), mask)  # cut, as ultralytics does
        assert np.array_equal(filled(np.round(polygon), mask.shape), mask)  # as supervision does


@given(any_mask)
def test_opencv_fills_bridges_between_parts_and_nothing_is_lost(mask):
    if mask.any():
        assert (filled(mask_polygon(mask), mask.shape) >= mask).all()


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
