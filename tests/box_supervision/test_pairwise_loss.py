import pytest
import torch

from boxmask.box_supervision.pairwise_loss import PairwiseLossSettings
from boxmask.ops.affinity import lab_at_stride
from references import neighbors as reference


def pictures(batch=2, size=(24, 28)):
    """Pictures of few grey levels in cells of 4 pixels, so that some neighbours are alike."""
    levels = torch.tensor([0.3, 0.31, 0.5, 0.52])
    cells = levels[torch.randint(0, 4, (batch, 1, size[0] // 4, size[1] // 4))]
    return cells.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3).expand(-1, 3, -1, -1)


@pytest.mark.parametrize("dilation", [1, 2])
def test_equals_a_loop(make_context, dilation):
    images = pictures()
    valid = torch.ones(2, 24, 28, dtype=torch.bool)
    valid[1, 16:] = False
    boxes = [[4, 4, 20, 20], [0, 0, 28, 24]]
    image_index = torch.tensor([0, 1])
    logits = torch.randn(2, 6, 7, requires_grad=True)
    loss = PairwiseLossSettings(dilation=dilation).build()(
        make_context(logits, boxes, images=images, valid=valid, image_index=image_index)
    )
    lab = lab_at_stride(images, 4)
    similar = torch.stack(
        [
            (reference.similarity(lab[i], dilation, 2.0) >= 0.3)
            & reference.valid_pairs(valid[i, 2::4, 2::4], dilation, both_ends=True)
            for i in range(2)
        ]
    )
    inside = torch.zeros(2, 6, 7, dtype=torch.bool)
    for row, (x1, y1, x2, y2) in enumerate(boxes):
        inside[row, y1 // 4 : y2 // 4, x1 // 4 : x2 // 4] = True
    slow = logits.detach().double().requires_grad_()
    total, count = reference.pairwise_sum(slow, similar, inside, image_index, dilation)
    assert count > 20
    assert loss.count.item() == count
    assert loss.total.item() == pytest.approx(total.item(), rel=1e-5)
    loss.total.backward()
    total.backward()
    torch.testing.assert_close(logits.grad.double(), slow.grad, rtol=1e-4, atol=1e-5)


def test_threshold_decides_which_edges_teach(make_context):
    images = torch.full((1, 3, 16, 32), 128 / 255)
    images[..., 16:] = 134 / 255
    logits = torch.zeros(1, 4, 8)
    logits[..., 4:] = 5.0
    boxes = [[0, 0, 32, 16]]

    def edges(threshold):
        settings = PairwiseLossSettings(color_threshold=threshold, dilation=1)
        return settings.build()(make_context(logits, boxes, images=images)).count.item()

    across = 2 * (4 + 3 + 3)  # directed edges over the step of six grey levels, likeness 0.3101
    assert edges(0.3) - edges(0.32) == across


def test_edges_of_removed_rows_do_not_teach(make_context):
    valid = torch.ones(1, 32, 32, dtype=torch.bool)
    valid[:, 22:] = False  # the last rows of the picture
    logits = torch.randn(1, 8, 8, requires_grad=True)
    loss = PairwiseLossSettings().build()(make_context(logits, [[0, 0, 32, 32]], valid=valid))
    loss.total.backward()
    assert logits.grad[0, :5].any()
    assert not logits.grad[0, 5:].any()


@pytest.mark.parametrize("size", [(8, 8), (37, 53), (1, 1)])
def test_zero_samples(make_context, size):
    logits = torch.zeros(0, *size, requires_grad=True)
    loss = PairwiseLossSettings().build()(make_context(logits, []))
    assert loss.total.item() == loss.count.item() == 0
    loss.total.backward()


@pytest.mark.parametrize("value", [-100.0, 100.0])
def test_extreme_logits(make_context, value):
    logits = torch.full((1, 9, 13), value)
    logits[:, ::2, ::3] *= -1
    logits.requires_grad_()
    loss = PairwiseLossSettings().build()(make_context(logits, [[0, 0, 52, 36]]))
    loss.total.backward()
    assert loss.total.isfinite()
    assert logits.grad.isfinite().all()


def test_float32_under_autocast(make_context):
    logits = torch.randn(1, 8, 8).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = PairwiseLossSettings().build()(make_context(logits, [[4, 4, 20, 20]]))
    assert loss.total.dtype == torch.float32
