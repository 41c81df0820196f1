import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from boxmask.evaluation.mask_quality import (
    LabelQuality,
    box_fill,
    box_tightness,
    collapse_warning,
    label_iou,
)

SIZE = (37, 53)


def encode(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


def box_mask(x1, y1, x2, y2, size=SIZE):
    mask = np.zeros(size, dtype=bool)
    mask[y1:y2, x1:x2] = True
    return mask


NOTHING = encode(np.zeros(SIZE, dtype=bool))
EVERYTHING = encode(np.ones(SIZE, dtype=bool))
NAMES = ("cat", "dog")


def test_label_iou_by_hand():
    first, second = encode(box_mask(0, 0, 10, 10)), encode(box_mask(5, 0, 15, 10))
    assert label_iou(first, second) == pytest.approx(50 / 150)
    assert label_iou(first, first) == 1.0
    assert label_iou(first, NOTHING) == 0.0
    assert label_iou(NOTHING, NOTHING) == 1.0


def test_label_iou_refuses_other_sizes():
    with pytest.raises(ValueError, match="differ in size"):
        label_iou(NOTHING, encode(np.zeros((5, 5), dtype=bool)))


@settings(max_examples=60, deadline=None)
@given(
    x=st.tuples(st.floats(0, 53), st.floats(0, 53)),
    y=st.tuples(st.floats(0, 37), st.floats(0, 37)),
    seed=st.integers(0, 99),
)
def test_fill_equals_counting_pixels(x, y, seed):
    mask = np.random.default_rng(seed).random(SIZE) < 0.4
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    inside = (columns >= min(x)) & (columns < max(x)) & (rows >= min(y)) & (rows < max(y))
    fill = box_fill([min(x), min(y), max(x), max(y)], encode(mask))
    if inside.any():
        assert fill == pytest.approx(mask[inside].mean())
    else:  # thinner than a pixel: still judged, on the pixels nearest to it
        assert 0 <= fill <= 1


def test_fill_at_the_ends_of_the_picture():
    assert box_fill([0, 0, 53, 37], EVERYTHING) == 1.0
    assert box_fill([52.9, 36.9, 53, 37], EVERYTHING) == 1.0
    assert box_fill([-5, -5, 60, 40], EVERYTHING) == 1.0
    assert box_fill([0, 0, 53, 37], NOTHING) == 0.0


def test_box_tightness_by_hand():
    mask = encode(box_mask(10, 10, 20, 20))
    assert box_tightness([10, 10, 20, 20], mask) == 1.0
    assert box_tightness([10, 10, 30, 20], mask) == pytest.approx(0.5)
    assert box_tightness([30, 30, 40, 37], mask) == 0.0
    assert box_tightness([10, 10, 20, 20], NOTHING) == 0.0


def test_quality_without_true_masks():
    quality = LabelQuality(NAMES)
    half = encode(box_mask(0, 0, 5, 10))
    boxes = np.array([[0, 0, 10, 10]] * 4)
    quality.add(boxes, [0, 1, 0, 1], [half, NOTHING, encode(box_mask(0, 0, 10, 10)), half])
    result = quality.compute()
    assert result == {
        "fill": pytest.approx(0.5),
        "box_tightness": pytest.approx((0.5 + 0 + 1 + 0.5) / 4),
        "empty": 0.25,
        "whole_box": 0.25,
    }


def test_quality_with_true_masks():
    size = (200, 200)
    small, large = box_mask(0, 0, 10, 10, size), box_mask(50, 50, 200, 200, size)
    wrong = encode(box_mask(100, 100, 120, 120, size))
    quality = LabelQuality(NAMES)
    quality.add([[0, 0, 10, 10]], [0], [encode(small)], [encode(small)])
    quality.add([[0, 0, 10, 10]], [0], [wrong], [encode(small)])
    quality.add([[50, 50, 200, 200]] * 2, [1, 1], [encode(large)] * 2, [encode(large), None])
    result = quality.compute()
    assert result["label_iou"] == pytest.approx(2 / 3)
    assert result["label_iou_median"] == 1.0
    assert result["label_iou_poor"] == pytest.approx(1 / 3)
    assert result["label_iou_small"] == 0.5
    assert math.isnan(result["label_iou_medium"])
    assert result["label_iou_large"] == 1.0
    assert (result["label_iou/cat"], result["label_iou/dog"]) == (0.5, 1.0)


def test_nothing_judged_is_undefined_with_a_warning():
    quality = LabelQuality(NAMES)
    quality.add(np.zeros((0, 4)), [], [], [])
    with pytest.warns(UserWarning, match="no mask was judged"):
        result = quality.compute()
    assert all(math.isnan(value) for value in result.values())
    assert collapse_warning(result) is None


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="lengths differ"):
        LabelQuality(NAMES).add([[0, 0, 1, 1]], [0], [])


def judged(boxes, rles, truths=None):
    quality = LabelQuality(NAMES)
    quality.add(boxes, [0] * len(boxes), rles, truths)
    return collapse_warning(quality.compute())


def test_collapse_is_told_in_plain_words():
    boxes = [[5, 5, 25, 25], [20, 10, 40, 30]]
    exact = [encode(box_mask(*box)) for box in boxes]
    dots = [encode(box_mask(8, 8, 10, 11)), encode(box_mask(22, 12, 24, 14))]
    assert "collapsed to nothing" in judged(boxes, [NOTHING, NOTHING])
    assert "almost nothing" in judged(boxes, dots)
    lines = [encode(box_mask(5, 5, 25, 8)), encode(box_mask(20, 10, 24, 30))]
    assert "lines that touch the sides" in judged(boxes, lines)
    assert "cover everything" in judged(boxes, [EVERYTHING, EVERYTHING])
    assert "collapsed to the boxes" in judged(boxes, exact)


def test_good_masks_are_no_collapse():
    boxes = [[5, 5, 25, 25], [20, 10, 40, 30]]
    rectangles = [encode(box_mask(5, 5, 25, 23)), encode(box_mask(20, 11, 40, 30))]
    exact = [encode(box_mask(*box)) for box in boxes]
    discs = []
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    for x1, y1, x2, y2 in boxes:
        away = (columns - (x1 + x2) / 2) ** 2 + (rows - (y1 + y2) / 2) ** 2
        discs.append(encode(away <= 100))
    assert judged(boxes, discs) is None
    assert judged(boxes, rectangles) is None  # fill of 0.92: objects of right angles
    thin = [encode(box_mask(5, 5, 25, 9)), encode(box_mask(20, 10, 24, 30))]
    assert judged(boxes, thin, thin) is None
    assert judged(boxes, exact, exact) is None  # the objects are rectangles, and that is known
    assert collapse_warning({}) is None
