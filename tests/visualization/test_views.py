import numpy as np
import pytest

from boxmask.visualization.views import (
    BOX,
    DOUBTFUL,
    MASK,
    View,
    color_sample,
    heat,
    line_sample,
    painted,
    scale_sample,
    view_of_boxes,
    view_of_image,
    with_box,
    with_mask,
)

GREY = np.full((60, 80, 3), 128, dtype=np.uint8)


def pixels(color, picture):
    return (picture == [int(color[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=-1)


def test_layers_of_different_resolution_lie_on_each_other():
    """Input 40 x 48 with 8 columns of padding; picture at twice its size; cells of 4 pixels."""
    view = View(region=(8, 8, 24, 24), size=(32, 32), image_size=(40, 48), padded_size=(40, 56))
    picture = np.zeros((80, 96, 3), dtype=np.uint8)
    picture[16:32, 16:48] = 255  # rows 8..16, columns 8..24 of the input
    cells = np.zeros((10, 14), dtype=np.uint8)
    cells[2:4, 2:6] = 7
    expected = np.zeros((32, 32), dtype=bool)
    expected[:16] = True
    assert ((view.cells(cells) == 7) == expected).all()
    assert (view.mask(picture[..., 0] > 0) == expected).all()
    shown = view.picture(picture)[..., 0]
    assert (shown[:13] == 255).all()
    assert (shown[19:] == 0).all()
    smooth = view.values(cells / 7)
    assert smooth[8, 16] == pytest.approx(1)
    assert smooth[15, 16] > 0.5 > smooth[16, 16]  # the edge is half way between cells
    assert view.scale == 2
    assert view.place((8, 8, 24, 16)) == (0, 0, 31, 15)
    assert view.place((10, 12, 10.1, 12.1)) == (4, 8, 4, 8)  # never turned inside out


@pytest.mark.parametrize(
    ("boxes", "region"),
    [
        ([[40, 30, 60, 50]], (35, 25, 65, 55)),  # in the middle: 1.5 times the side
        ([[0, 0, 20, 20]], (0, 0, 30, 30)),  # moved into the image
        ([[90, 70, 100, 80]], (76, 56, 100, 80)),  # at least 24 pixels
        ([[0, 0, 100, 80]], (0, 0, 100, 80)),  # all of it
        ([[40, 30, 50, 40], [50, 40, 60, 50]], (35, 25, 65, 55)),  # both
    ],
)
def test_the_view_of_boxes_stays_in_the_image(boxes, region):
    whole = view_of_image((80, 100), (96, 128), (50, 50))
    view = view_of_boxes(whole, np.array(boxes), (60, 60), around=1.5, least_side=24)
    assert view.region == pytest.approx(region)
    assert max(view.size) == 60
    assert view.padded_size == (96, 128)


def test_the_whole_image_fits_its_cell():
    assert view_of_image((80, 160), (96, 160), (100, 100)).size == (50, 100)
    assert view_of_image((80, 40), (96, 64), (100, 100)).size == (100, 50)


def test_heat_runs_from_low_to_high():
    colors = heat(np.array([[-5, 0, 0.5, 1, 9]], dtype=np.float32)).astype(int)
    assert (colors[0, 0] == colors[0, 1]).all()
    assert (colors[0, 3] == colors[0, 4]).all()
    assert colors[0, 1].sum() < colors[0, 2].sum() < colors[0, 3].sum()
    shifted = heat(np.array([[0.75]], dtype=np.float32), low=0.5)
    assert (shifted == heat(np.array([[0.5]], dtype=np.float32))).all()


def test_states_are_painted_and_the_rest_is_pale():
    states = np.zeros((60, 80), dtype=np.uint8)
    states[:30] = 1
    drawn = painted(GREY, states, (None, "#ff0000"), 0.5).astype(int)
    assert drawn[0, 0].tolist() == [192, 64, 64]
    assert drawn[40, 0].tolist() == [185, 185, 185]


def test_masks_get_a_colour_and_a_contour():
    mask = np.zeros((60, 80), dtype=bool)
    mask[10:50, 10:70] = True
    drawn = with_mask(GREY, mask)
    assert pixels(MASK, drawn)[10, 40]
    assert (drawn[30, 40] != GREY[30, 40]).any()
    assert (drawn[5, 5] == GREY[5, 5]).all()
    assert (with_mask(GREY, np.zeros((60, 80), dtype=bool)) == GREY).all()


def test_sides_that_are_not_tight_are_dashed():
    drawn = with_box(GREY, (10, 10, 70, 50), solid=(False, True), doubtful=DOUBTFUL)
    upper, left = pixels(BOX, drawn)[10, 20:60], pixels(DOUBTFUL, drawn)[15:45, 10]
    assert upper.all()
    assert 0.3 < left.mean() < 0.8
    plain = with_box(GREY, (10, 10, 70, 50))
    assert pixels(BOX, plain)[12:48, 10].all()
    assert not pixels(DOUBTFUL, plain).any()


def test_samples_for_legends():
    assert pixels(BOX, color_sample(BOX)).all()
    assert pixels(BOX, line_sample(BOX)).any(axis=0).all()
    assert 0.3 < pixels(BOX, line_sample(BOX, solid=False)).any(axis=0).mean() < 0.9
    bar = scale_sample().astype(int).sum(axis=-1)[0]
    assert (np.diff(bar) >= -12).all()  # from dark to bright
