import pytest
import torch

from boxmask.box_supervision.projection_loss import ProjectionLossSettings, projection_distances
from references.projection import projection_loss as reference

BOX = torch.zeros(4, 4, dtype=torch.bool)
BOX[1:3, 1:3] = True
DIAGONAL = torch.zeros(4, 4)
DIAGONAL[1, 1] = DIAGONAL[2, 2] = 1
SINGLE = torch.zeros(4, 4)
SINGLE[1, 1] = 1


def distance(scores, box=BOX):
    """Both axes of one mask of scores, added."""
    logits = torch.logit(scores.double())  # 0 and 1 become -inf and inf
    axes = projection_distances(logits[None], box.any(dim=0)[None], box.any(dim=1)[None])
    return axes.sum().item()


@pytest.mark.parametrize(
    ("scores", "loss"),
    [
        (BOX, 4.99999e-6),
        (DIAGONAL, 4.99999e-6),  # the projection cannot tell it from the box
        (torch.ones(4, 4), 0.6666689),
        (torch.zeros(4, 4), 2.0),
        (BOX * 0.5, 0.4000064),
        (SINGLE, 0.6666711),
    ],
)
def test_by_hand(scores, loss):
    assert distance(scores) == pytest.approx(loss, rel=1e-4, abs=1e-7)


def test_equals_the_definition():
    scores = torch.rand(5, 7, dtype=torch.float64)
    box = torch.zeros(5, 7, dtype=torch.bool)
    box[1:4, 2:6] = True
    expected = reference(scores.tolist(), box.double().tolist())
    assert distance(scores, box) == pytest.approx(expected, abs=1e-9)


def test_only_the_maxima_matter():
    scores = torch.rand(6, 6) * 0.3
    scores[torch.arange(6), torch.arange(6)] = 0.9  # every row and column has this maximum
    shuffled = scores.clone()
    shuffled[~torch.eye(6, dtype=torch.bool)] = torch.rand(30) * 0.3
    box = torch.ones(6, 6, dtype=torch.bool)
    assert distance(scores, box) == pytest.approx(distance(shuffled, box), abs=1e-7)


def test_transposing_mask_and_box_changes_nothing():
    scores = torch.rand(5, 7)
    box = torch.zeros(5, 7, dtype=torch.bool)
    box[0:2, 3:6] = True
    assert distance(scores, box) == pytest.approx(distance(scores.T, box.T), abs=1e-9)


def test_gradient_goes_to_one_cell_of_each_row_and_column():
    logits = torch.zeros(1, 4, 6, requires_grad=True)  # everything is a tie
    columns = torch.ones(1, 6, dtype=torch.bool)
    rows = torch.ones(1, 4, dtype=torch.bool)
    along_x, along_y = projection_distances(logits, columns, rows)[0]
    moved = torch.autograd.grad(along_x, logits, retain_graph=True)[0][0] != 0
    assert moved.sum(dim=0).tolist() == [1] * 6
    moved = torch.autograd.grad(along_y, logits)[0][0] != 0
    assert moved.sum(dim=1).tolist() == [1] * 4


def test_gradcheck():
    logits = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    columns, rows = torch.rand(2, 5) < 0.5, torch.rand(2, 4) < 0.5
    assert torch.autograd.gradcheck(lambda x: projection_distances(x, columns, rows), (logits,))


def test_loss_is_a_sum_over_samples(make_context):
    logits = torch.randn(2, 9, 13)
    boxes = [[4, 4, 20, 28], [0, 0, 52, 36]]
    loss = ProjectionLossSettings().build()(make_context(logits, boxes))
    assert loss.count.item() == 2
    expected = 0.0
    for row, (x1, y1, x2, y2) in enumerate(boxes):
        box = torch.zeros(9, 13, dtype=torch.float64)
        box[y1 // 4 : y2 // 4, x1 // 4 : x2 // 4] = 1
        expected += reference(logits[row].double().sigmoid().tolist(), box.tolist())
    assert loss.total.item() == pytest.approx(expected, abs=1e-5)


def test_axes_that_are_not_tight_are_left_out(make_context):
    logits = torch.randn(1, 8, 8)
    settings = ProjectionLossSettings()

    def total(*tight):
        return settings.build()(
            make_context(logits, [[4, 4, 20, 20]], tight=torch.tensor([tight]))
        ).total.item()

    assert total(True, False) + total(False, True) == pytest.approx(total(True, True), abs=1e-6)
    assert total(False, False) == 0


def test_thin_boxes_teach_a_thin_mask(make_context):
    thin = [[6.5, 0, 7.5, 32]]  # no cell's middle is in it
    logits = torch.full((1, 8, 8), -50.0)
    loss = ProjectionLossSettings().build()
    assert loss(make_context(logits, thin)).total.item() == pytest.approx(2)
    logits[0, :, 1] = 50.0
    assert loss(make_context(logits, thin)).total.item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("value", [-100.0, 0.0, 100.0])
def test_zero_samples_and_extreme_logits(make_context, count, value):
    logits = torch.full((count, 9, 13), value, requires_grad=True)
    loss = ProjectionLossSettings().build()(make_context(logits, [[4, 4, 20, 28]] * count))
    assert loss.total.isfinite()
    loss.total.backward()
    assert logits.grad.isfinite().all()
    if not count:
        assert loss.total.item() == loss.count.item() == 0


def test_float32_under_autocast(make_context):
    logits = torch.randn(1, 8, 8).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ProjectionLossSettings().build()(make_context(logits, [[4, 4, 20, 20]]))
    assert loss.total.dtype == torch.float32
