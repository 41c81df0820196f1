"""Cells are asked for their colours: by hand, and against a loop over cells."""

import cv2
import numpy as np
import pytest

from boxmask.ops import color_model_cpu
from boxmask.ops.color_model_cpu import scores_by_colors

BROWN, GREEN = (120, 80, 40), (60, 140, 60)


def animal():
    """A brown animal on grass: a body, two legs, grass between them that the mask covers."""
    truth = np.zeros((16, 16), dtype=bool)
    truth[4:8, 4:12] = True
    truth[8:12, 4:6] = truth[8:12, 10:12] = True
    colors = np.where(truth[..., None], BROWN, GREEN).astype(np.uint8)
    inside = np.zeros_like(truth)
    inside[4:12, 4:12] = True
    return truth, colors, inside


def test_grass_between_the_legs_is_known_by_the_grass_outside():
    truth, colors, inside = animal()
    scores = np.where(inside, 0.7, 0.1).astype(np.float32)
    found = scores_by_colors(scores, colors, inside, ~inside)
    assert ((found > 0.5) == truth).all()
    assert (found[~inside] == scores[~inside]).all()


def test_a_part_that_the_mask_lacks_is_known_by_the_rest():
    truth, colors, inside = animal()
    scores = np.where(truth, 0.9, 0.1).astype(np.float32)
    scores[8:12, 10:12] = 0.3
    assert ((scores_by_colors(scores, colors, inside, ~inside) > 0.5) == truth).all()


def test_one_colour_everywhere_changes_no_side():
    truth, _, inside = animal()
    colors = np.full((16, 16, 3), 90, dtype=np.uint8)
    scores = np.where(truth, 0.95, 0.05).astype(np.float32)
    found = scores_by_colors(scores, colors, inside, ~inside)
    assert ((found > 0.5) == truth).mean() > 0.97


@pytest.mark.parametrize("case", ["no object", "nothing outside", "no box"])
def test_without_both_kinds_of_cells_scores_stay(case):
    truth, colors, inside = animal()
    scores = np.where(truth, 0.9, 0.1).astype(np.float32)
    outside = ~inside
    if case == "no object":
        scores = scores * np.float32(0.5)
    elif case == "nothing outside":
        outside = np.zeros_like(inside)
    else:
        inside = np.zeros_like(inside)
    assert (scores_by_colors(scores, colors, inside, outside) == scores).all()


def test_it_equals_a_loop_over_cells():
    random = np.random.default_rng(0)
    colors = random.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    scores = random.random((9, 11), dtype=np.float32)
    inside = np.zeros((9, 11), dtype=bool)
    inside[2:7, 3:9] = True
    outside = ~inside & (random.random((9, 11)) < 0.8)
    lab = cv2.cvtColor(colors.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).astype(np.float64)
    reach = 0.5 * inside.sum() ** 0.5

    def share(cell, weights):
        alike = near = 0.0
        for other in np.ndindex(weights.shape):
            if other == cell:
                continue
            color = (((lab[cell] - lab[other]) / 5.0) ** 2).sum()
            place = ((np.subtract(cell, other) / reach) ** 2).sum()
            near += weights[other] * np.exp(-0.5 * place)
            alike += weights[other] * np.exp(-0.5 * (color + place))
        return alike / (near + 1e-3)

    expected = scores.astype(np.float64)
    for cell in zip(*np.nonzero(inside), strict=True):
        ratio = np.log(
            (share(cell, scores * (inside & (scores > 0.5))) + 1e-3)
            / (share(cell, outside.astype(float)) + 1e-3)
        )
        score = np.clip(float(scores[cell]), 0.02, 0.98)
        logit = np.log(score / (1 - score)) + np.clip(ratio, -4, 4)
        expected[cell] = 1 / (1 + np.exp(-logit))
    np.testing.assert_allclose(
        scores_by_colors(scores, colors, inside, outside), expected, atol=2e-4
    )


def test_every_other_cell_of_many_says_the_same(monkeypatch):
    truth, colors, inside = animal()
    scores = np.where(inside, 0.7, 0.1).astype(np.float32)
    monkeypatch.setattr(color_model_cpu, "MOST_CELLS", 40)
    assert ((scores_by_colors(scores, colors, inside, ~inside) > 0.5) == truth).all()
