import numpy as np
import pytest

from boxmask.data.outlines import CLASS_NAMES, OUTLINES, outline_coverage


def test_coverage_is_the_share_of_each_pixel():
    square = np.array([[1.0, 1.0], [3.5, 1.0], [3.5, 3.0], [1.0, 3.0]])
    coverage = outline_coverage(square, (4, 6))
    expected = np.zeros((4, 6))
    expected[1:3, 1:3], expected[1:3, 3] = 1.0, 0.5
    np.testing.assert_allclose(coverage, expected, atol=0.13)  # an eighth of a pixel at the edges


@pytest.mark.parametrize("label", range(len(CLASS_NAMES)))
def test_outlines_fit_a_circle_of_radius_one(label):
    for seed in range(5):
        points = OUTLINES[label](np.random.default_rng(seed))
        assert points.shape[1] == 2
        assert np.linalg.norm(points, axis=1).max() == pytest.approx(1.0, abs=0.02)
