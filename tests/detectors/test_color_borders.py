"""Borders of found masks move to borders of colours, on any grid that a detector has."""

import numpy as np
import pytest
import torch

from boxmask.detectors.color_borders import LARGEST_CELL, cells_near, detected_mask, drawn_to_colors
from boxmask.detectors.color_borders import pixels_of_cells as pixels_of
from boxmask.ops.masks import paste_mask

HEIGHT, WIDTH = 72, 90  # input pixels; the picture ends within a cell
TRUTH = (slice(17, 55), slice(22, 67))


def picture(bright=200):
    pixels = np.full((HEIGHT, WIDTH, 3), 40, dtype=np.uint8)
    pixels[TRUTH] = bright
    return pixels


def whole_grid(jagged=True):
    """Scores at stride 4 of the padded input; rows and columns of the border are half off."""
    scores = np.zeros((24, 24), dtype=np.float32)
    scores[4:14, 5:17] = 1.0
    if jagged:
        scores[5:14:3, 17] = 1.0
        scores[14, 6:17:3] = 1.0
    return scores, np.array([0, 0, 96, 96], dtype=np.float32)


def drawn(found, size):
    inside, place = found
    whole = np.zeros(size, dtype=bool)
    whole[place] = inside
    return whole


def iou(first, second):
    return (first & second).sum() / (first | second).sum()


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 0.5), (1.5, 1.25)])
def test_masks_fit_better_than_their_cells(scale):
    size = (round(HEIGHT / scale[1]), round(WIDTH / scale[0]))
    y = (np.arange(size[0]) + 0.5) * scale[1]
    x = (np.arange(size[1]) + 0.5) * scale[0]
    truth = ((y >= 17) & (y < 55))[:, None] & ((x >= 22) & (x < 67))[None]
    scores, frame = whole_grid()
    found = detected_mask(scores, frame, picture(), scale, size)
    plain = paste_mask(torch.from_numpy(scores), torch.from_numpy(frame), scale, size).numpy()
    assert iou(plain, truth) < 0.93
    assert iou(drawn(found, size), truth) > 0.95


def test_regions_of_any_place_are_looked_at_on_whole_cells():
    """As Mask R-CNN gives them: 28 x 28 cells of a region between pixels."""
    frame = np.array([13.2, 8.8, 76.2, 64.8], dtype=np.float32)  # of 2.25 x 2 pixels
    scores = np.zeros((28, 28), dtype=np.float32)
    scores[4:23, 4:24] = 1.0
    scores[23, 4:24:3] = scores[4:23:3, 24] = 1.0
    found = detected_mask(scores, frame, picture(), (1.0, 1.0), (HEIGHT, WIDTH))
    truth = picture()[..., 0] > 100
    plain = paste_mask(
        torch.from_numpy(scores), torch.from_numpy(frame), (1.0, 1.0), (HEIGHT, WIDTH)
    ).numpy()
    assert iou(drawn(found, (HEIGHT, WIDTH)), truth) > iou(plain, truth) + 0.01


def test_what_cannot_be_drawn_is_left():
    scores, frame = whole_grid()
    size = (HEIGHT, WIDTH)
    assert detected_mask(scores * 0.5, frame, picture(), (1.0, 1.0), size) is None  # empty
    assert detected_mask(scores, frame, picture(bright=40), (1.0, 1.0), size) is None  # hidden
    fine = np.array([0, 0, 24, 24], dtype=np.float32)
    assert detected_mask(scores, fine, picture(), (1.0, 1.0), size) is None  # cells are pixels


def test_thin_objects_are_not_smoothed_away():
    pixels = np.full((HEIGHT, WIDTH, 3), 40, dtype=np.uint8)
    pixels[:, 40:44] = 200
    scores = np.zeros((24, 24), dtype=np.float32)
    scores[1:17, 10] = 1.0
    frame = np.array([0, 0, 96, 96], dtype=np.float32)
    found = detected_mask(scores, frame, pixels, (1.0, 1.0), (HEIGHT, WIDTH))
    truth = np.zeros((HEIGHT, WIDTH), dtype=bool)
    truth[4:68, 40:44] = True
    assert iou(drawn(found, (HEIGHT, WIDTH)), truth) > 0.85


def test_the_last_pixel_repeats_in_a_cell_that_the_picture_does_not_fill():
    pixels = np.arange(6 * 10 * 3, dtype=np.uint8).reshape(6, 10, 3)
    found = pixels_of(pixels, slice(0, 2), slice(1, 3), LARGEST_CELL)
    assert found.shape == (8, 8, 3)
    assert np.array_equal(found[:6, :6], pixels[:, 4:10])
    assert np.array_equal(found[6], found[5])
    assert np.array_equal(found[:, 7], found[:, 5])


@pytest.mark.parametrize("sides", [(0.0, 90.0), (-30.0, -20.0), (95.0, 99.0), (40.0, 40.0)])
def test_some_cells_of_the_picture_are_always_near(sides):
    near = cells_near(np.array(sides), WIDTH, 4)
    assert 0 <= near.start < near.stop <= 23


def test_boxes_are_kept_to():
    scores, _ = whole_grid()
    colors = np.zeros((96, 96, 3), dtype=np.uint8)
    colors[:HEIGHT, :WIDTH] = picture()
    found = drawn_to_colors(scores, colors, (22, 17, 67, 44), 0.5)
    rows, columns = np.nonzero(found)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (17, 43, 22, 66)
