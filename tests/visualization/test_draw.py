import subprocess
import sys

import numpy as np
import pytest

from boxmask.visualization.draw import (
    PALETTE,
    DrawStyle,
    draw_boxes,
    draw_masks,
    given_and_found,
    instance_colors,
)

NAMES = ("cat", "größe")
GRAY = np.full((137, 153, 3), 120, dtype=np.uint8)
BOXES = np.array([[20.0, 60, 70, 120], [80, 60, 140, 130]])
PLAIN = DrawStyle(boxes=False, max_labels=0)


def masks():
    found = np.zeros((2, 137, 153), dtype=bool)
    found[0, 65:115, 25:65] = True
    found[1, 70:120, 90:130] = True
    found[1, 90:100, 105:115] = False  # a hole
    return found


def rgb(index):
    color = PALETTE[index]
    return np.array([int(color[start : start + 2], 16) for start in (1, 3, 5)])


def test_masks_are_coloured_inside_and_nothing_is_outside():
    drawn = draw_masks(GRAY, BOXES, list(masks()), [0, 1], NAMES, style=PLAIN)
    assert drawn.shape == GRAY.shape
    assert drawn.dtype == np.uint8
    expected = np.rint(0.45 * rgb(0) + 0.55 * 120)
    assert np.abs(drawn[90, 45].astype(float) - expected).max() <= 1
    assert (drawn[:55] == 120).all()
    assert (drawn[93:97, 108:112] == 120).all()  # the hole stays free
    edge = np.abs(drawn[90, 24:28].astype(float) - rgb(0)).sum(axis=1).min()
    assert edge < 60  # the contour is of the full colour


def test_the_given_picture_is_left_as_it_is():
    picture = GRAY.copy()
    picture.flags.writeable = False
    drawn = draw_masks(picture, BOXES, list(masks()), [0, 0], NAMES, scores=[0.5, 0.9])
    assert (picture == 120).all()
    assert not np.shares_memory(drawn, picture)
    assert draw_boxes(picture, BOXES, [0, 0], NAMES).any()


def test_boxes_end_on_their_last_pixels():
    style = DrawStyle(max_labels=0)
    drawn = draw_boxes(GRAY, BOXES[:1], [0], NAMES, style=style)
    changed = (drawn != 120).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == (20, 60, 70, 120)
    assert (drawn[60, 30] == rgb(0)).all()


def test_labels_are_written_unless_there_are_too_many():
    few = draw_boxes(GRAY, BOXES, [0, 1], NAMES)
    many = draw_boxes(GRAY, BOXES, [0, 1], NAMES, style=DrawStyle(max_labels=1))
    assert (few[45:59] != 120).any()
    assert (many[45:59] == 120).all()


def test_scores_and_letters_beyond_ascii_change_the_label():
    def label(name, **scores):
        return draw_boxes(GRAY, BOXES[:1], [0], [name], **scores)

    assert (label("größe") != label("gräße")).any()
    assert (label("cat") != label("cat", scores=[0.25])).any()


@pytest.mark.parametrize("size", [(1, 1), (37, 53), (300, 20)])
def test_objects_at_and_beyond_the_ends_of_any_picture(size):
    picture = np.zeros((*size, 3), dtype=np.uint8)
    boxes = [[0, 0, size[1], size[0]], [-5, -5, size[1] + 9, 1], [0, 0, 0.2, 0.2]]
    everything, nothing = np.ones(size, dtype=bool), np.zeros(size, dtype=bool)
    drawn = draw_masks(picture, boxes, [everything, nothing, everything], [0, 1, 1], NAMES)
    assert drawn.shape == picture.shape


def test_no_objects_give_the_picture_back():
    assert (draw_masks(GRAY, np.zeros((0, 4)), [], [], NAMES) == GRAY).all()
    assert (draw_boxes(GRAY, [], [], NAMES) == GRAY).all()


def test_small_pictures_are_enlarged_when_asked():
    style = DrawStyle(least_side=612, boxes=False, max_labels=0)
    drawn = draw_masks(GRAY, BOXES, list(masks()), [0, 1], NAMES, style=style)
    assert drawn.shape == (548, 612, 3)
    assert np.abs(drawn[360, 180].astype(float) - (0.45 * rgb(0) + 0.55 * 120)).max() <= 1
    large = draw_boxes(np.zeros((20, 700, 3), np.uint8), [], [], NAMES, style=style)
    assert large.shape == (20, 700, 3)


def test_masks_may_come_one_at_a_time():
    one_by_one = draw_masks(GRAY, BOXES, (mask for mask in masks()), [0, 1], NAMES)
    assert (one_by_one == draw_masks(GRAY, BOXES, list(masks()), [0, 1], NAMES)).all()


def test_given_and_found_shows_boxes_left_and_masks_right():
    panel = given_and_found(GRAY, BOXES, list(masks()), [0, 1], NAMES, style=DrawStyle())
    width = GRAY.shape[1]
    left, right = panel[:, :width], panel[:, -width:]
    assert (panel[:, width : panel.shape[1] - width] == 255).all()
    assert (left[90, 40] == 120).all()  # inside a box, left: the bare picture
    assert (right[90, 40] != 120).any()
    assert max(given_and_found(GRAY, BOXES, list(masks()), [0, 1], NAMES).shape) > 1440


def test_touching_objects_differ_in_colour():
    random = np.random.default_rng(0)
    corner = random.uniform(0, 300, (200, 2))
    boxes = np.concatenate([corner, corner + random.uniform(5, 40, (200, 2))], axis=1)
    colors = instance_colors(boxes)
    for index, (x1, y1, x2, y2) in enumerate(boxes):
        near = (boxes[:, 0] <= x2) & (boxes[:, 2] >= x1) & (boxes[:, 1] <= y2) & (boxes[:, 3] >= y1)
        near[index] = False
        if near.sum() < len(PALETTE):
            assert colors[index] not in colors[near]
    assert len(set(instance_colors(np.zeros((len(PALETTE), 4))).tolist())) == len(PALETTE)
    assert instance_colors(np.zeros((0, 4))).shape == (0,)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="picture: expected"):
        draw_boxes(np.zeros((5, 5), np.uint8), [], [], NAMES)
    with pytest.raises(ValueError, match="masks: got 1 for 2 boxes"):
        draw_masks(GRAY, BOXES, list(masks())[:1], [0, 1], NAMES)
    with pytest.raises(ValueError, match=r"masks: expected size \(137, 153\), got \(4, 4\)"):
        draw_masks(GRAY, BOXES, [np.zeros((4, 4), dtype=bool)] * 2, [0, 1], NAMES)
    with pytest.raises(ValueError, match="labels: got 1 for 2 boxes"):
        draw_boxes(GRAY, BOXES, [0], NAMES)


def test_import_says_nothing():
    command = [sys.executable, "-W", "always", "-c", "import boxmask.visualization.draw"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("", "")
