import numpy as np
import pytest

from boxmask.visualization.correction_panels import (
    BACKGROUND,
    FOREGROUND,
    IGNORED,
    PastedPicture,
    count_bars,
    pasted_panel,
    pasted_words,
    prototype_colors,
    state_shares,
    state_words,
    states_panel,
)
from boxmask.visualization.views import BOX, DOUBTFUL, MASK, view_of_image

PICTURE = np.full((40, 80, 3), 120, dtype=np.uint8)
VIEW = view_of_image((40, 80), (40, 80), (160, 320))


def has(picture, color):
    return (picture == [int(color[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=-1)


def test_shares_of_a_box():
    states = np.array([[0, FOREGROUND, FOREGROUND], [BACKGROUND, IGNORED, FOREGROUND]])
    assert state_shares(states) == pytest.approx((0.6, 0.2, 0.2))
    assert state_shares(np.zeros((2, 2), dtype=np.int64)) == (0, 0, 0)
    assert [word.strip() for word, _ in state_words((0.6, 0.25, 0.15))] == [
        "fg 60%",
        "bg 25%",
        "ign. 15%",
    ]


def test_small_objects_lie_over_large_ones():
    large, small = np.zeros((10, 20), dtype=np.uint8), np.zeros((10, 20), dtype=np.uint8)
    large[1:9, 1:19] = FOREGROUND
    small[3:6, 3:6] = BACKGROUND
    boxes = np.array([[4, 4, 76, 36], [12, 12, 24, 24]], dtype=np.float32)
    objects = [(boxes[1], small), (boxes[0], large)]
    drawn = states_panel(VIEW, PICTURE, objects).astype(int)
    assert (drawn == states_panel(VIEW, PICTURE, objects[::-1])).all()
    red, blue = drawn[100, 200], drawn[72, 72]
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    assert np.ptp(drawn[4, 4]) == 0  # outside of all boxes the picture is grey


def test_pasted_objects_and_sides_that_are_not_tight():
    masks = np.zeros((2, 40, 80), dtype=bool)
    masks[1, 10:20, 50:60] = True
    one = PastedPicture(
        picture=PICTURE,
        boxes=np.array([[8, 8, 40, 32], [50, 10, 60, 20]], dtype=np.float32),
        tight=np.array([[True, False], [True, True]]),
        masks=masks,
        pasted=np.array([False, True]),
        names=("disc", "star"),
    )
    drawn = pasted_panel(VIEW, one)
    assert has(drawn, BOX)[60, 32]  # left side, which is tight
    assert has(drawn, DOUBTFUL)[32, 40:150].any()  # upper side
    assert not has(drawn, BOX)[32, 50:150].any()
    assert has(drawn, MASK)[60, 200]
    assert pasted_words(one) == "pasted: star"


def test_bars_are_as_long_as_counts():
    colors = prototype_colors(3)
    drawn = count_bars(np.array([10, 0, 40]), colors, (120, 400))
    lengths = [has(drawn, color).any(axis=0).sum() for color in colors]
    assert lengths[2] == pytest.approx(4 * lengths[0], abs=6)
    assert lengths[1] <= 3
    assert count_bars(np.zeros(50, dtype=np.int64), prototype_colors(50), (300, 200)).shape == (
        300,
        200,
        3,
    )
