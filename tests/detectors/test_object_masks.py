"""Masks for given boxes: inside the box, never empty, and packed right."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boxmask.data.box_pixels import (
    ellipse_in_box,
    encode_in_box,
    fitted_threshold,
    pixels_of_box,
    scores_in_box,
)
from boxmask.data.masks import decode_segmentation, encode_mask
from boxmask.detectors import color_borders, object_masks
from boxmask.detectors.given_boxes import _parts
from boxmask.detectors.object_masks import UncutMask, object_mask
from boxmask.ops.masks import paste_mask

SIZE = (40, 60)


def _outside(shape, box):
    """Cells of the frame below, 64 pixels wide, with their middle out of the box."""
    y, x = ((np.arange(count) + 0.5) * 64 / count for count in shape)
    rows, columns = (y >= box[1]) & (y < box[3]), (x >= box[0]) & (x < box[2])
    return ~(rows[:, None] & columns)


def made(scores, box, confidence=0.9, colors=None, claimed=None):
    place = pixels_of_box(box, SIZE)
    uncut = UncutMask(
        image=0,
        position=0,
        box=np.array(box, dtype=np.float32),
        image_size=SIZE,
        scale=(1.0, 1.0),
        confidence=confidence,
        frame=np.array([0.0, 0.0, 64.0, 64.0], dtype=np.float32),
        scores=scores.numpy(),
        claimed=np.zeros(scores.shape, dtype=bool) if claimed is None else claimed,
        outside=_outside(scores.shape, box),
        colors=colors,
    )
    mask = object_mask(uncut)
    return mask, decode_segmentation({"size": [*SIZE], "counts": mask.counts}, SIZE), place


@given(
    st.integers(0, 19), st.integers(0, 29), st.integers(1, 20), st.integers(1, 30), st.integers(0)
)
def test_masks_in_boxes_are_packed_as_whole_masks(top, left, rows, columns, seed):
    inside = np.random.default_rng(seed).random((rows, columns)) < 0.6
    whole = np.zeros((39, 59), dtype=bool)
    place = (slice(top, top + rows), slice(left, left + columns))
    whole[place] = inside
    assert encode_in_box(inside, place, (39, 59)) == encode_mask(whole)


@pytest.mark.parametrize("full", [True, False])
def test_masks_of_the_whole_picture_are_packed(full):
    inside = np.full((5, 7), full)
    place = (slice(0, 5), slice(0, 7))
    assert encode_in_box(inside, place, (5, 7)) == encode_mask(inside)


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((10.0, 5.0, 20.0, 8.0), (5, 8), (10, 20)),
        ((10.4, 5.5, 20.5, 8.6), (5, 9), (10, 20)),
        ((59.8, 39.9, 60.0, 40.0), (39, 40), (59, 60)),
        ((3.6, 3.6, 3.9, 3.9), (3, 4), (3, 4)),
        ((3.6, 3.6, 4.45, 4.3), (3, 4), (4, 5)),
    ],
)
def test_pixels_of_a_box_are_those_with_their_centre_in_it(box, rows, columns):
    place = pixels_of_box(box, SIZE)
    assert [(side.start, side.stop) for side in place] == [rows, columns]


def test_the_models_mask_is_cut_to_the_box():
    mask, pixels, place = made(torch.ones(16, 16), (10, 5, 20, 30))
    assert pixels[place].all()
    assert pixels.sum() == 10 * 25
    assert (mask.note, mask.confidence) == ("", 0.9)


def test_an_empty_mask_becomes_the_best_guess():
    scores = torch.full((16, 16), 0.01)
    scores[2:5, 3:5] = 0.3  # pixels 8..20 by 12..20
    mask, pixels, place = made(scores, (10, 5, 30, 30))
    assert "threshold lowered to 0.15" in mask.note
    assert mask.confidence == pytest.approx(0.3)
    assert pixels.any()
    assert pixels.sum() == pixels[place].sum() < 20 * 25


def test_a_mask_of_nothing_becomes_an_ellipse():
    mask, pixels, place = made(torch.zeros(16, 16), (10, 5, 30, 30))
    assert mask.confidence == 0
    assert "ellipse" in mask.note
    assert np.array_equal(pixels[place], ellipse_in_box(place))


@pytest.mark.parametrize("box", [(59.9, 39.9, 60, 40), (0, 0, 0.01, 0.01), (3.3, 4, 3.4, 9)])
def test_the_thinnest_boxes_get_a_mask(box):
    _, pixels, _ = made(torch.zeros(16, 16), box)
    assert pixels.any()


def test_the_threshold_is_the_one_that_reaches_the_sides():
    scores = np.full((10, 12), 0.1, dtype=np.float32)
    scores[3:7, 3:9] = 0.9
    assert fitted_threshold(scores) == 0.5  # no threshold reaches further
    scores[:, 5] = 0.42
    scores[5, :] = 0.42
    assert fitted_threshold(scores) == pytest.approx(0.4)
    scores[scores > 0] = 0.05
    assert fitted_threshold(scores) == 0.5


def two_colors(edge):
    """The picture in input pixels: bright from a column on, and in a bar that reaches the left."""
    colors = np.full((64, 64, 3), 30, dtype=np.uint8)
    colors[:, edge:] = 220
    colors[12:20] = 220
    return colors


def bar_and_right_side(first):
    """(16, 16) scores of cells of 4 pixels: from a column on, and in the bar."""
    scores = torch.zeros(16, 16)
    scores[:, first:] = 1.0
    scores[3:5] = 1.0
    return scores


def test_borders_move_to_borders_of_colors():
    box = (0, 0, 60, 40)
    plain = made(bar_and_right_side(5), box)[1]
    refined = made(bar_and_right_side(5), box, colors=two_colors(23))[1]
    rows = slice(26, 36)
    assert np.flatnonzero(plain[rows].any(axis=0))[0] == pytest.approx(20, abs=1)
    assert not refined[rows, :23].any()
    assert refined[rows, 23:58].all()


def test_objects_that_hide_in_color_are_not_refined():
    scores = torch.rand(16, 16, generator=torch.Generator().manual_seed(1))
    plain = np.full((64, 64, 3), 90, dtype=np.uint8)
    box = (3, 2, 50, 38)
    assert np.array_equal(made(scores, box, colors=plain)[1], made(scores, box)[1])


def test_grass_between_legs_is_known_by_its_colour(monkeypatch):
    """A red body on two legs; the model's mask is the whole box, far from any border in the gap."""
    box = (4, 4, 56, 36)
    colors = np.full((64, 64, 3), (60, 140, 60), dtype=np.uint8)
    colors[4:36, 4:56] = (170, 40, 40)
    colors[20:36, 20:36] = (60, 140, 60)
    scores = torch.full((16, 16), 0.05)
    scores[1:9, 1:14] = 0.6
    gap = (slice(22, 34), slice(22, 34))
    found = made(scores, box, colors=colors)[1]
    assert not found[gap].any()
    assert found[14:34, 6:14].all()
    monkeypatch.setattr(object_masks, "scores_by_colors", lambda scores, *_: scores)
    assert made(scores, box, colors=colors)[1][gap].all()


def test_what_another_object_owns_is_left_to_it():
    scores = torch.full((16, 16), 0.9)
    scores[:, :6] = 0.1
    claimed = np.zeros((16, 16), dtype=bool)
    claimed[:, :6] = True
    refined = made(scores, (0, 0, 60, 40), colors=two_colors(12), claimed=claimed)[1]
    assert not refined[:, :24].any()
    assert refined[10:30, 26:].all()


def test_large_boxes_are_drawn_on_blocks_of_pixels(monkeypatch):
    box = (0, 0, 60, 40)
    for side in (30, 15, 5):  # blocks of 2, of 4, and no larger than a cell
        monkeypatch.setattr(color_borders, "LARGE_SIDE", side)
        coarse = made(bar_and_right_side(5), box, colors=two_colors(24))[1]
        assert coarse[26:36, 26:58].all()
        assert not coarse[26:36, :22].any()


@given(st.integers(0), st.tuples(*[st.floats(0, 60)] * 4))
def test_refined_masks_keep_to_their_boxes(seed, corners):
    x1, x2 = sorted(corners[:2])
    y1, y2 = (min(y, 39.0) for y in sorted(corners[2:]))
    random = np.random.default_rng(seed)
    colors = random.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    scores = torch.from_numpy(random.random((16, 16), dtype=np.float32))
    _, pixels, place = made(scores, (x1, y1, max(x2, x1), max(y2, y1)), colors=colors)
    assert pixels.any()
    assert pixels.sum() == pixels[place].sum()


@given(st.integers(0), st.tuples(*[st.floats(0, 60)] * 4), st.floats(0.3, 3), st.floats(0.1, 0.9))
def test_drawing_near_the_box_alone_changes_nothing(seed, corners, scale, threshold):
    x1, x2 = sorted(corners[:2])
    y1, y2 = sorted(corners[2:])
    scores = torch.rand((9, 13), generator=torch.Generator().manual_seed(seed % 2**31))
    frame, place = (
        torch.tensor([0.0, 0, 60 * scale, 41 * scale]),
        pixels_of_box((x1, y1, x2, y2), SIZE),
    )
    whole = paste_mask(scores, frame, (scale, scale), SIZE, threshold=threshold).numpy()
    near = scores_in_box(scores.numpy(), frame.numpy(), (scale, scale), place) > threshold
    assert np.count_nonzero(near != whole[place]) <= 1  # rounding at the very threshold


@given(st.lists(st.integers(0, 30), max_size=8), st.integers(1, 12))
def test_parts_hold_every_box_once_and_never_too_many(counts, together):
    seen = []
    for part in _parts(counts, together):
        assert 0 < sum(stop - start for start, stop in part) <= together
        seen += [(i, k) for i, (start, stop) in enumerate(part) for k in range(start, stop)]
        for count, (start, stop) in zip(counts, part, strict=True):
            assert count > together or (start, stop) in ((0, 0), (0, count))
    assert seen == [(i, k) for i, count in enumerate(counts) for k in range(count)]
