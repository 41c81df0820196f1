import math
from dataclasses import replace

import pytest
import torch
from torchvision.ops import box_iou

from boxmask.detectors.region_proposals import (
    ProposalNetwork,
    ProposalOutputs,
    ProposalSettings,
    sized_boxes,
    tight_axes,
)

SETTINGS = ProposalSettings(
    anchor_sizes=(8, 16, 32, 64, 128),
    aspect_ratios=(1.0,),
    samples_per_image=10_000,
    num_before_nms=20,
    num_proposals=15,
)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ProposalNetwork(4, SETTINGS)


@pytest.fixture(scope="module")
def levels():
    """P2 to P6 of two pictures of 64 x 96 pixels."""
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 4, *size, generator=generator) for size in sizes]


def silent(anchors, num_images):
    """Outputs that say nothing of any anchor."""
    shape = (num_images, len(anchors))
    return ProposalOutputs(
        objectness=torch.zeros(shape, requires_grad=True),
        deltas=torch.zeros(*shape, 4, requires_grad=True),
        anchors=anchors,
        proposals=(),
    )


def test_anchors_by_hand(network, levels):
    anchors = network(levels, [(64, 96), (64, 96)]).anchors
    assert len(anchors) == 16 * 24 + 8 * 12 + 4 * 6 + 2 * 3 + 2
    assert anchors[0].tolist() == [-4, -4, 4, 4]
    assert anchors[25].tolist() == [0, 0, 8, 8]  # second row and column of P2
    assert anchors[16 * 24 + 1].tolist() == [0, -8, 16, 8]
    assert anchors[-1].tolist() == [0, -64, 128, 64]  # 64 pixels right of the first, though H is 64


def test_anchors_stay_exact_under_autocast(network, levels):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(levels, [(64, 96), (64, 96)])
    assert outputs.anchors.dtype == outputs.proposals[0].dtype == torch.float32
    assert outputs.objectness.dtype == outputs.deltas.dtype == torch.float32


def test_proposals_lie_in_their_pictures(network, levels):
    outputs = network(levels, [(64, 96), (37, 53)])
    for boxes, (height, width) in zip(outputs.proposals, [(64, 96), (37, 53)], strict=True):
        assert 0 < len(boxes) <= 15
        assert not boxes.requires_grad
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= width).all()
        assert (boxes[:, 3] <= height).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_losses_match_a_slow_reference(network, levels, make_targets):
    given = [[10.0, 8, 44, 36], [60, 20, 79, 42]]
    anchors = network(levels, [(64, 96)] * 2).anchors
    losses = network.losses(silent(anchors, 2), [make_targets(*given), make_targets()])
    quality = box_iou(anchors, torch.tensor(given)).tolist()
    best = [max(row[column] for row in quality) for column in range(2)]
    learn, boxes = len(anchors), 0.0  # every anchor of the picture without boxes
    for anchor, row in zip(anchors.tolist(), quality, strict=True):
        is_best = any(row[column] == best[column] for column in range(2))
        if max(row) >= 0.7 or is_best:
            learn += 1
            boxes += smooth_l1(coded(given[row.index(max(row))], anchor))
        elif max(row) < 0.3:
            learn += 1
    assert float(losses["loss_objectness"].count) == learn
    assert float(losses["loss_rpn_box"].count) == learn
    assert losses["loss_objectness"].total.item() == pytest.approx(learn * math.log(2), rel=1e-5)
    assert losses["loss_rpn_box"].total.item() == pytest.approx(boxes, rel=1e-4)


def test_ends_that_are_not_known_teach_nothing(network, levels, make_targets):
    outputs = network(levels, [(64, 96)] * 2)
    first = make_targets([10.0, 8, 44, 36], [60, 20, 79, 42])
    cases = {
        (): [0, 1, 2, 3],  # all tight
        (0,): [0, 1, 2, 3],  # along x the first is not: the second still teaches
        (0, 1): [1, 3],
    }
    totals = []
    for loose, taught in cases.items():
        tight = torch.ones(2, 2, dtype=torch.bool)
        tight[list(loose), 0] = False
        loss = network.losses(outputs, [replace(first, tight=tight), make_targets()])
        (gradient,) = torch.autograd.grad(
            loss["loss_rpn_box"].total, outputs.deltas, retain_graph=True
        )
        assert gradient.abs().sum(dim=(0, 1)).nonzero().squeeze(-1).tolist() == taught
        totals.append(loss["loss_rpn_box"].total.item())
    assert totals[0] > totals[1] > totals[2] > 0


def test_tight_axes_by_hand(make_targets):
    boxes = [[0.0, 0, 9, 9], [10, 10, 30, 30], [10, 10, 30, 30]]
    loose = torch.tensor([[True, True], [True, False], [True, True]])
    targets = [make_targets(), replace(make_targets(*boxes), tight=loose), make_targets(boxes[0])]
    matched = torch.zeros(3, 2, 4)
    matched[1], matched[2, 0] = torch.tensor([boxes[0], boxes[2]]), torch.tensor(boxes[0])
    foreground = torch.tensor([[False, False], [True, True], [True, False]])
    found = tight_axes(matched, foreground, targets)
    assert found.tolist() == [[True, True], [True, False], [True, True]]
    assert tight_axes(matched, foreground & False, targets).shape == (0, 2)


def coded(box, anchor):
    """Shift in sides of the anchor, and logarithm of the sides' ratio."""
    sides = [anchor[2] - anchor[0], anchor[3] - anchor[1]]
    shift = [(box[i] + box[i + 2] - anchor[i] - anchor[i + 2]) / 2 / sides[i] for i in (0, 1)]
    return shift + [math.log((box[i + 2] - box[i]) / sides[i]) for i in (0, 1)]


def smooth_l1(values, beta=1 / 9):
    return sum(v * v / 2 / beta if abs(v) < beta else abs(v) - beta / 2 for v in values)


def test_no_more_anchors_learn_than_set(levels, make_targets):
    few = ProposalNetwork(4, ProposalSettings(anchor_sizes=(8, 16, 32, 64, 128)))
    outputs = few(levels, [(64, 96)] * 2)
    crowd = [[x, y, x + 9, y + 9] for x in range(0, 80, 4) for y in range(0, 50, 4)]
    losses = few.losses(outputs, [make_targets(*crowd), make_targets()])
    assert float(losses["loss_objectness"].count) == 512


def test_boxes_thinner_than_a_pixel_are_learnt(network, levels, make_targets):
    outputs = network(levels, [(64, 96)] * 2)
    losses = network.losses(outputs, [make_targets([5, 5, 5, 20], [9, 9, 9, 9]), make_targets()])
    assert all(loss.total.isfinite() for loss in losses.values())
    sized = sized_boxes(torch.tensor([[5.0, 5, 5, 20], [1, 2, 3, 4]]))
    assert sized.tolist() == [[4.5, 5, 5.5, 20], [1, 2, 3, 4]]
