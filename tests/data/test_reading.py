import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxmask.data.reading import (
    Picture,
    ProblemLog,
    RawObject,
    RecordBuilder,
    box_error,
    clip_box,
    relative_to,
)

number = st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 40.0])


@pytest.mark.parametrize(
    ("box", "why"),
    [
        ((1, 1, 1, 5), "zero width"),
        ((1, 1, 5, 1), "zero height"),
        ((5, 1, 1, 5), "negative width"),
        ((1, 1, math.nan, 5), "no number"),
        ((1, 1, math.inf, 5), "no number"),
        ((40, 1, 50, 5), "outside"),
        ((-9, 1, 0, 5), "outside"),
        ((1, 30, 5, 35), "outside"),
        ((1, 1, 1 + 1e-9, 5), "thinner"),
        ((1, 1, 5, 5), ""),
        ((-3, -3, 50, 50), ""),
    ],
)
def test_box_error(box, why):
    found = box_error(box, (30, 40))
    assert why in found
    assert bool(found) == bool(why)


@given(st.tuples(number, number, number, number))
def test_a_kept_box_lies_in_the_picture_and_has_area(box):
    if box_error(box, (30, 40)):
        return
    x1, y1, x2, y2 = np.array(clip_box(box, (30, 40)), dtype=np.float32)
    assert 0 <= x1 < x2 <= 40
    assert 0 <= y1 < y2 <= 30


def build(tmp_path, *boxes):
    log = ProblemLog()
    picture = Picture(path=tmp_path / "a.png", name="a.png", image_size=(30, 40), image_id=1)
    builder = RecordBuilder(picture, log)
    for position, box in enumerate(boxes):
        builder.add(RawObject(box=box, label=0, annotation_id=position, where=f"box {position}"))
    return builder.build(), log.problems


def test_clipping_warns_beyond_a_pixel_only(tmp_path):
    record, problems = build(tmp_path, (-0.5, 0, 5, 5), (-3, 0, 6, 5))
    assert record.boxes.tolist() == [[0, 0, 5, 5], [0, 0, 6, 5]]
    assert [(p.level, p.where) for p in problems] == [("warning", "box 1")]
    assert "3.0 px" in problems[0].what


def test_equal_boxes_of_a_class_are_kept_with_a_warning(tmp_path):
    record, problems = build(tmp_path, (1, 1, 5, 5), (1, 1, 5, 5))
    assert len(record) == 2
    assert "same box and class as box 0" in problems[0].what


def test_empty_record_has_the_right_shapes(tmp_path):
    record, _ = build(tmp_path)
    assert record.boxes.shape == (0, 4)
    assert record.labels.shape == record.crowd.shape == (0,)
    assert record.boxes.dtype == np.float32
    assert record.labels.dtype == np.int64


def test_relative_to(tmp_path):
    assert relative_to(tmp_path / "a" / "b.txt", tmp_path) == "a/b.txt"
    assert relative_to(tmp_path, tmp_path / "a") == tmp_path.as_posix()
