from dataclasses import replace

import pytest
import torch

from boxmask.box_supervision.pairwise_loss import AppearanceGate, PairwiseLossSettings
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


EVERY_OBJECT = torch.inf


def gated(context, features, **settings):
    """Edges of a context whose backbone has such frozen features."""
    loss = PairwiseLossSettings(dilation=1, gate=AppearanceGate(**settings)).build()
    return loss.similar(replace(context, appearance=features), 4)


def test_the_gate_equals_a_loop(make_context):
    images, valid = pictures(), torch.ones(2, 24, 28, dtype=torch.bool)
    valid[1, 16:] = False
    context = make_context(
        torch.zeros(2, 6, 7),
        [[0, 0, 28, 24]] * 2,
        images=images,
        valid=valid,
        image_index=torch.tensor([0, 1]),
    )
    features = torch.randn(2, 5, 6, 7) * torch.tensor([1.0, 5, 0.1, 2, 9])[:, None, None] + 3
    found = gated(context, features, color_reach=15, feature_reach=2, hidden_below=EVERY_OBJECT)
    lab = lab_at_stride(images, 4)
    for i in range(2):
        counts = valid[i, 2::4, 2::4]
        rows = features[i][:, counts]  # (5, n)
        unit = (features[i] - rows.mean(1)[:, None, None]) / (
            rows.std(1, correction=0)[:, None, None] * 5**0.5
        )
        slow = torch.zeros(8, 6, 7, dtype=torch.bool)
        for y, x, index, v, u in reference.neighbor_pairs(6, 7, 1):
            far = (lab[i, :, y, x] - lab[i, :, v, u]).norm() / 15
            far += (unit[:, y, x] - unit[:, v, u]).norm() / 2
            slow[index, y, x] = bool(counts[y, x]) and bool(counts[v, u]) and bool(far < 1)
        assert slow.sum() > 20
        assert torch.equal(found[i], slow)


RIGHT = reference.OFFSETS.index((0, 1))


def test_unlike_textures_of_one_colour_are_not_tied(make_context):
    context = make_context(torch.zeros(1, 4, 8), [[0, 0, 32, 16]])  # a grey picture
    features = torch.zeros(1, 3, 4, 8)
    tied = gated(context, features, hidden_below=EVERY_OBJECT)
    features[..., 4:] = 1.0
    apart = gated(context, features, hidden_below=EVERY_OBJECT)
    assert tied[0, RIGHT, 0].tolist() == [True] * 7 + [False]
    assert apart[0, RIGHT, 0].tolist() == [True] * 3 + [False] + [True] * 3 + [False]


def test_colours_decide_where_they_show_the_object(make_context):
    images = torch.full((1, 3, 32, 64), 0.5)
    images[..., 8:24, 8:24] = 0.9  # plain to see; the other is not there to the eye
    boxes = [[8, 8, 24, 24], [40, 8, 56, 24]]
    context = make_context(torch.zeros(2, 8, 16), boxes, images=images)
    features = torch.eye(8 * 16).reshape(1, -1, 8, 16)  # ties nothing
    found = gated(context, features)
    by_colour = PairwiseLossSettings(dilation=1).build().similar(context, 4)
    assert torch.equal(found[..., :9], by_colour[..., :9])
    assert by_colour[0, RIGHT, 2:6, 10:14].all()
    assert not found[0, RIGHT, 2:6, 9:14].any()  # from one cell left of the hidden box
    opposite = reference.OFFSETS.index((0, -1))
    assert torch.equal(found[0, RIGHT, :, :-1], found[0, opposite, :, 1:])


@pytest.mark.parametrize("size", [(8, 16), (2, 4)])
def test_features_of_other_strides_are_brought_to_the_grid(make_context, size):
    context = make_context(torch.zeros(1, 4, 8), [[0, 0, 32, 16]])
    features = torch.zeros(1, 3, *size)
    features[..., size[1] // 2 :] = 1.0
    row = gated(context, features, feature_reach=0.8, hidden_below=EVERY_OBJECT)[
        0, RIGHT, 0
    ].tolist()
    assert not row[3]
    assert row[0]
    assert row[6]


def test_without_frozen_layers_colours_decide(make_context):
    context = make_context(torch.zeros(1, 6, 7), [[0, 0, 28, 24]], images=pictures())
    gate = PairwiseLossSettings(gate=AppearanceGate(hidden_below=EVERY_OBJECT)).build()
    assert torch.equal(gate.similar(context, 4), PairwiseLossSettings().build().similar(context, 4))
