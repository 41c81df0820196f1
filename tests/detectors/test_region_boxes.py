import math
from dataclasses import replace

import pytest
import torch

from boxmask.detectors.region_boxes import RegionHead, RegionSettings

SETTINGS = RegionSettings(hidden_channels=8, cells=2, canonical_size=40.0, samples_per_image=16)


@pytest.fixture
def head():
    torch.manual_seed(0)
    return RegionHead(2, 3, SETTINGS)


@pytest.fixture
def levels():
    return [torch.rand(2, 2, 64 // stride, 96 // stride) for stride in (4, 8, 16, 32)]


@pytest.fixture
def proposals():
    first = torch.tensor([[12.0, 10, 42, 40], [60, 40, 90, 60], [10, 10, 26, 26]])
    return [first, torch.tensor([[5.0, 5, 30, 30]])]


def test_drawn_regions_by_hand(head, proposals, make_targets):
    targets = [make_targets([10, 10, 40, 40], labels=[2]), make_targets()]
    drawn = head.draw(proposals, targets)
    # IoU 0.875, 0 and 0.28 with the given box, which is a region itself.
    assert drawn.regions.tolist() == [
        [12, 10, 42, 40], [60, 40, 90, 60], [10, 10, 26, 26], [10, 10, 40, 40], [5, 5, 30, 30],
    ]  # fmt: skip
    assert drawn.image_index.tolist() == [0, 0, 0, 0, 1]
    assert drawn.categories.tolist() == [3, 0, 0, 3, 0]
    assert drawn.deltas[0].tolist() == pytest.approx([10 * -2 / 30, 0, 0, 0])
    assert drawn.deltas[3].tolist() == [0, 0, 0, 0]


def test_objects_count_on_from_picture_to_picture(head, proposals, make_targets):
    targets = [make_targets([10, 10, 40, 40]), make_targets([50, 5, 60, 20], [5, 5, 30, 31])]
    drawn = head.draw(proposals, targets)
    objects = drawn.categories > 0
    assert drawn.instance_index[objects].tolist() == [0, 0, 2, 1, 2]
    assert drawn.image_index[objects].tolist() == [0, 0, 1, 1, 1]


def test_no_more_regions_are_drawn_than_set(head, make_targets):
    crowd = [[x, y, x + 9, y + 9] for x in range(0, 80, 10) for y in range(0, 50, 10)]
    drawn = head.draw([torch.rand(50, 4).cumsum(dim=1) * 20] * 2, [make_targets(*crowd)] * 2)
    assert torch.bincount(drawn.image_index).tolist() == [16, 16]
    assert (drawn.categories > 0).sum() == 8  # a quarter of each picture's


def test_given_boxes_are_regions(head, make_targets):
    targets = [make_targets(), make_targets([1, 1, 1.5, 30], [1, 2, 3, 4], labels=[0, 2])]
    given = head.given(targets)
    assert given.regions.tolist() == [[0.75, 1, 1.75, 30], [1, 2, 3, 4]]
    assert given.image_index.tolist() == [1, 1]
    assert given.categories.tolist() == [1, 3]
    assert len(head.given([make_targets(), make_targets()]).regions) == 0


def test_losses_by_hand(head, levels, proposals, make_targets):
    for parameter in head.heads.box_predictor.parameters():
        torch.nn.init.zeros_(parameter)
    targets = [make_targets([10, 10, 40, 40], labels=[2]), make_targets()]
    losses = head.losses(levels, head.draw(proposals, targets), targets)
    assert losses["loss_class"].total.item() == pytest.approx(5 * math.log(4))
    shift = 20 / 30
    assert losses["loss_box"].total.item() == pytest.approx(shift - 1 / 18)
    assert float(losses["loss_class"].count) == float(losses["loss_box"].count) == 5


@pytest.mark.parametrize("tight", [(True, True), (False, True), (False, False)])
def test_ends_that_are_not_known_teach_nothing(head, levels, proposals, make_targets, tight):
    for parameter in head.heads.box_predictor.parameters():
        torch.nn.init.zeros_(parameter)
    given = make_targets([12, 13, 41, 39], labels=[1])
    targets = [replace(given, tight=torch.tensor([tight])), make_targets()]
    losses = head.losses(levels, head.draw(proposals, targets), targets)
    losses["loss_box"].total.backward()
    gradient = head.heads.box_predictor.bbox_pred.bias.grad.reshape(4, 4)[2]
    assert (gradient[:2] != 0).tolist() == (gradient[2:] != 0).tolist() == [*tight]


def test_losses_read_the_object_s_own_class(head, levels, proposals, make_targets):
    targets = [make_targets([10, 10, 40, 40], labels=[1]), make_targets()]
    head.losses(levels, head.draw(proposals, targets), targets)["loss_box"].total.backward()
    gradient = head.heads.box_predictor.bbox_pred.bias.grad.reshape(4, 4)
    assert gradient.abs().sum(dim=1).nonzero().squeeze(-1).tolist() == [2]


def test_explained_boxes_by_hand(head, levels):
    predictor = head.heads.box_predictor
    for parameter in predictor.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        predictor.cls_score.bias[3] = math.log(5)  # class 2 has 5 of 8
        predictor.bbox_pred.bias[12] = 10 * 0.5  # and moves by half its width to the right
        predictor.bbox_pred.bias[15] = 5 * math.log(2)  # and doubles its height
    regions = torch.tensor([[10.0, 10, 30, 20], [10, 10, 30, 20]])
    boxes, scores = head.explain(levels, regions, torch.tensor([0, 1]), labels=torch.tensor([2, 0]))
    assert boxes[0].tolist() == pytest.approx([20, 5, 40, 25])
    assert boxes[1].tolist() == pytest.approx([10, 10, 30, 20])
    assert scores.tolist() == pytest.approx([5 / 8, 1 / 8])
    assert not boxes.requires_grad
    assert not scores.requires_grad


def test_found_labels_start_at_zero(head, levels, proposals):
    predictor = head.heads.box_predictor
    for parameter in predictor.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        predictor.cls_score.bias[2] = 9.0
    found = head.find(levels, proposals, [(64, 96), (20, 20)])
    boxes, scores, labels = found[1]
    assert boxes.tolist() == [[5, 5, 20, 20]]
    assert labels.tolist() == [1]
    assert scores.item() == pytest.approx(math.exp(9) / (math.exp(9) + 3))
    assert sorted(found[0][0][:, 0].tolist()) == [10, 12, 60]
