import math

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from boxmask.errors import UserError
from boxmask.visualization import dials
from boxmask.visualization.dials import DialLine, DialPanel, plot_dials


@pytest.fixture
def figures(monkeypatch):
    """Every figure that was drawn."""
    drawn = []

    class Recorded(Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            drawn.append(self)

    monkeypatch.setattr(dials, "Figure", Recorded)
    return drawn


def panel(scores, score="mask AP", **changes):
    strong = {"name": "simple", "color": "#d55e00", "marker": "s", "strong": True}
    thin = {"name": "ablation", "color": "#009e73", "marker": "^", "strong": False}
    lines = [DialLine(**(one | {"scores": scores} | changes)) for one in (strong, thin)]
    return DialPanel(score=score, dial="fog", lines=lines)


def test_lines_are_means_with_sample_deviations_around(tmp_path, figures):
    scores = {1.0: [0.2, 0.4], 0.0: [0.5], 0.5: [math.nan], 0.7: []}
    out = plot_dials([[panel(scores), panel(scores, "label IoU")]], "a note", tmp_path / "a.png")
    with Image.open(out) as image:
        assert np.array(image.convert("L")).std() > 1
    axis = figures[0].axes[0]
    lines = {(to_hex(line.get_color()), line.get_linestyle()): line for line in axis.lines}
    strong, thin = lines["#d55e00", "-"], lines["#009e73", "--"]
    np.testing.assert_allclose(strong.get_xydata(), [[0.0, 0.5], [1.0, 0.3]])
    np.testing.assert_allclose(thin.get_ydata(), [0.5, 0.3])
    assert strong.get_linewidth() > 2 * thin.get_linewidth()
    (band,) = [one for one in axis.collections if one.get_alpha()]
    edges = band.get_paths()[0].vertices
    np.testing.assert_allclose(np.ptp(edges[edges[:, 0] == 1.0, 1]), 2 * math.sqrt(0.02))
    assert np.ptp(edges[edges[:, 0] == 0.0, 1]) == 0  # of one run no deviation is known
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["0", "0.5", "0.7", "1"]
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == ["simple", "ablation"]


def test_panels_of_a_column_share_their_scale(tmp_path, figures):
    low, high = panel({0: [0.1]}), panel({0: [0.9]})
    plot_dials([[low, low], [high, low]], "", tmp_path / "a.png")
    first, second, third, _ = figures[0].axes
    assert first.get_ylim() == third.get_ylim() != second.get_ylim()


def test_small_differences_look_small_and_one_value_is_enough(tmp_path, figures):
    scores = {0.0: [0.5], 1.0: [0.501]}
    plot_dials([[panel(scores), panel({0.3: [0.0]})]], "", tmp_path / "a.png")
    first, second = figures[0].axes
    assert np.ptp(first.get_ylim()) == pytest.approx(0.2)
    assert np.mean(first.get_ylim()) == pytest.approx(0.5005, abs=1e-3)
    assert second.get_ylim() == pytest.approx((-0.02, 0.18))
    assert second.get_xlim() == pytest.approx((0.24, 0.36))


@pytest.mark.parametrize("scores", [{}, {0.0: []}, {0.0: [math.nan]}])
def test_nothing_to_plot_is_explained(tmp_path, scores):
    with pytest.raises(UserError, match="nothing to plot"):
        plot_dials([[panel(scores)]], "", tmp_path / "a.png")


def test_a_panel_may_still_be_empty(tmp_path):
    out = plot_dials([[panel({0.0: []}), panel({0.0: [0.5]})]], "", tmp_path / "a.png")
    assert out.is_file()
