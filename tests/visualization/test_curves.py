import math

import numpy as np
import pytest
from PIL import Image

from boxmask.errors import UserError
from boxmask.visualization import curves
from boxmask.visualization.curves import plot_class_ap, plot_results, plot_size_ap

HEADER = "epoch,loss,loss_projection,learning_rate,box_ap,mask_ap,label_iou,fill,warmup_share\n"


@pytest.fixture
def figures(monkeypatch):
    """Every figure that was drawn."""
    drawn = []

    class Recorded(curves.Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            drawn.append(self)

    monkeypatch.setattr(curves, "Figure", Recorded)
    return drawn


def plot(tmp_path, text):
    source = tmp_path / "results.csv"
    source.write_text(text, encoding="utf-8")
    out = plot_results(source, tmp_path / "plots" / "results.png")
    with Image.open(out) as image:
        assert image.format == "PNG"
        assert np.array(image.convert("L")).std() > 1


def titles(figure):
    return [axis.get_title(loc="left") for axis in figure.axes if axis.get_visible()]


def test_each_loss_and_each_kind_of_score_has_a_panel(tmp_path, figures):
    plot(tmp_path, HEADER + "1,3.0,1.0,0.01,0.2,0.1,0.5,0.6,1\n2,2.0,0.5,0.01,0.3,0.2,0.6,0.6,0\n")
    assert titles(figures[0]) == [
        "loss",
        "loss: projection",
        "learning rate",
        "average precision",
        "IoU with true masks",
        "masks against their boxes",
    ]
    (line,) = figures[0].axes[1].lines
    assert line.get_xydata().tolist() == [[1.0, 1.0], [2.0, 0.5]]


def test_empty_cells_are_left_out(tmp_path, figures):
    rows = "1,3.0,1.0,0.01,,,,,\n2,2.0,nan,0.01,0.3,,,0.6,\n3,x,0.5,0.01,0.4,,,,\n4,1.0\n"
    plot(tmp_path, HEADER + rows)
    by_title = dict(zip(titles(figures[0]), figures[0].axes, strict=False))
    assert "IoU with true masks" not in by_title
    assert by_title["loss"].lines[0].get_xdata().tolist() == [1, 2, 4]
    assert by_title["loss: projection"].lines[0].get_xdata().tolist() == [1, 3]
    (box_ap,) = by_title["average precision"].lines
    assert box_ap.get_xydata().tolist() == [[2, 0.3], [3, 0.4]]


def test_one_row_is_enough(tmp_path, figures):
    plot(tmp_path, HEADER + "1,3.0,1.0,0.01,0.2,,,,0.5\n")
    assert figures[0].axes[0].lines[0].get_marker() == "o"


def test_warm_up_is_shaded(tmp_path, figures):
    rows = "".join(f"{e},1,1,1,,,,,{share}\n" for e, share in enumerate((1, 0.25, 0, ""), start=1))
    plot(tmp_path, HEADER + rows)
    spans = [
        patch.get_extents().transformed(figures[0].axes[0].transData.inverted())
        for patch in figures[0].axes[0].patches
    ]
    assert [(round(s.x0, 2), round(s.x1, 2)) for s in spans] == [(0.5, 1.5), (1.5, 1.75)]
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == ["warm-up"]


def test_runs_without_epochs_or_warm_up_and_with_prefixes(tmp_path, figures):
    plot(tmp_path, "train/loss_box,val/box_ap\n1.0,0.2\n0.5,0.3\n")
    assert titles(figures[0]) == ["loss: box", "average precision"]
    assert figures[0].axes[0].lines[0].get_xdata().tolist() == [1, 2]
    assert not figures[0].legends


def test_means_over_training_are_losses_and_fill_is_a_line_of_its_own(tmp_path, figures):
    header = "epoch,step,train/projection,train/loss,train/fill,fill,box_tightness\n"
    plot(tmp_path, header + "1,9,0.5,2,0.7,,\n2,18,0.4,1,0.6,0.5,0.9\n")
    assert titles(figures[0]) == ["loss: projection", "loss", "masks against their boxes"]
    lines = {line.get_label(): line.get_ydata().tolist() for line in figures[0].axes[2].lines}
    assert lines == {"fill": [0.5], "fill in training": [0.7, 0.6], "box tightness": [0.9]}


@pytest.mark.parametrize("text", ["", HEADER, "epoch,speed\n1,2\n", HEADER + "1,,,,,,,,\n"])
def test_nothing_to_plot_is_explained(tmp_path, text):
    with pytest.raises(UserError, match="nothing to plot"):
        plot(tmp_path, text)


def test_missing_file_is_explained(tmp_path):
    with pytest.raises(UserError, match="results cannot be read"):
        plot_results(tmp_path / "none.csv", tmp_path / "a.png")


METRICS = {
    "box_ap": 0.5, "box_ap50": 0.8, "box_ap75": 0.5, "box_ap_small": 0.2, "box_ap_large": math.nan,
    "mask_ap": 0.4, "mask_ap50": 0.7, "mask_ap75": 0.3, "mask_ap_small": 0.1, "mask_ap_large": 0.6,
    "box_ap/cat": 0.7, "box_ap/кошка": 0.2, "box_ap/none": math.nan,
    "mask_ap/cat": 0.3, "mask_ap/кошка": 0.6, "mask_ap/none": math.nan,
}  # fmt: skip


def test_size_plot_has_a_bar_for_each_size_and_kind(tmp_path, figures):
    out = plot_size_ap(METRICS, tmp_path / "size.png")
    assert out.stat().st_size > 0
    axis = figures[0].axes[0]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["all", "small", "large"]
    assert [patch.get_height() for patch in axis.patches] == [0.5, 0.2, 0, 0.4, 0.1, 0.6]
    assert "-" in [text.get_text() for text in axis.texts]


def test_class_plot_is_sorted_by_mask_ap(tmp_path, figures):
    plot_class_ap(METRICS, tmp_path / "class.png")
    axis = figures[0].axes[0]
    names = [tick.get_text() for tick in axis.get_yticklabels()]  # from the bottom up
    assert names == ["none", "cat", "кошка"]
    assert [patch.get_width() for patch in axis.patches] == [0, 0.7, 0.2, 0, 0.3, 0.6]


def test_plots_of_boxes_alone_and_of_nothing(tmp_path, figures):
    boxes = {key: value for key, value in METRICS.items() if key.startswith("box")}
    plot_size_ap(boxes, tmp_path / "size.png")
    plot_class_ap(boxes, tmp_path / "class.png")
    assert [len(figure.axes[0].patches) for figure in figures] == [3, 3]
    nothing = dict.fromkeys(("box_ap", "box_ap/cat"), math.nan)
    plot_size_ap(nothing, tmp_path / "size.png")
    plot_class_ap(nothing, tmp_path / "class.png")
    with pytest.raises(UserError, match="no AP by size"):
        plot_size_ap({}, tmp_path / "size.png")
    with pytest.raises(UserError, match="no AP by class"):
        plot_class_ap({"box_ap": 0.1}, tmp_path / "class.png")
