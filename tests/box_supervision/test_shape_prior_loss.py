import math

import pytest
import torch

from boxmask.box_supervision.shape_prior_loss import ShapePriorLossSettings, ellipse_radius


def test_equals_a_loop(make_context):
    logits = torch.randn(1, 6, 8)
    box = [4, 4, 24, 20]
    loss = ShapePriorLossSettings(sharpness=2.0).build()(make_context(logits, [box]))
    inside, outside = [], []
    for row in range(6):
        for column in range(8):
            x, y = column * 4 + 2, row * 4 + 2
            logit = logits[0, row, column].item()
            score = 1 / (1 + math.exp(-logit))
            if box[0] <= x < box[2] and box[1] <= y < box[3]:
                radius = ((x - 14) / 10) ** 2 + ((y - 12) / 8) ** 2
                prior = 1 / (1 + math.exp(-2.0 * (1 - radius)))
                inside.append(-prior * math.log(score) - (1 - prior) * math.log(1 - score))
            else:
                outside.append(-math.log(1 - score))
    expected = sum(inside) / len(inside) + sum(outside) / len(outside)
    assert loss.total.item() == pytest.approx(expected, rel=1e-5)
    assert loss.count.item() == 1


def test_ellipse_touches_the_sides(make_context):
    radius = ellipse_radius(make_context(torch.zeros(1, 8, 8), [[2, 2, 30, 30]]).student)[0]
    middle_row = (radius[3, 0] + radius[4, 0]) / 2
    assert radius[3:5, 3:5].max() < 0.05
    assert middle_row.item() == pytest.approx(1 + (2 / 14) ** 2, abs=1e-5)


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("value", [-100.0, 0.0, 100.0])
@pytest.mark.parametrize("box", [[4, 4, 20, 28], [6.5, 0, 7.5, 36], [0, 0, 52, 36]])
def test_no_samples_thin_and_full_boxes(make_context, count, value, box):
    logits = torch.full((count, 9, 13), value, requires_grad=True)
    loss = ShapePriorLossSettings().build()(make_context(logits, [box] * count))
    loss.total.backward()
    assert loss.total.isfinite()
    assert loss.count.item() == count
    assert logits.grad.isfinite().all()


def test_float32_under_autocast(make_context):
    logits = torch.randn(1, 8, 8).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ShapePriorLossSettings().build()(make_context(logits, [[4, 4, 20, 20]]))
    assert loss.total.dtype == torch.float32
