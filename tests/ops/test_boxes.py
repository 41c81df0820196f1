import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou, generalized_box_iou

from boxmask.ops.boxes import (
    centerness,
    covered_shares,
    decode_ltrb,
    encode_ltrb,
    giou_of_ltrb,
    paired_iou,
)


def random_boxes(count, generator):
    corner = torch.rand(count, 2, generator=generator) * 50
    return torch.cat([corner, corner + torch.rand(count, 2, generator=generator) * 40 + 0.1], dim=1)


def test_coding_there_and_back():
    generator = torch.Generator().manual_seed(1)
    points, boxes = torch.rand(20, 2, generator=generator) * 60, random_boxes(20, generator)
    torch.testing.assert_close(decode_ltrb(points, encode_ltrb(points, boxes)), boxes)


def test_distances_and_centerness_by_hand():
    box = torch.tensor([0.0, 0, 64, 64])
    middle = encode_ltrb(torch.tensor([32.0, 32.0]), box)
    assert middle.tolist() == [32, 32, 32, 32]
    assert centerness(middle).item() == 1
    beside = encode_ltrb(torch.tensor([36.0, 28.0]), box)
    assert beside.tolist() == [36, 28, 28, 36]
    assert centerness(beside).item() == pytest.approx(0.777778, abs=1e-6)


def test_centerness_on_a_side_and_of_nothing():
    assert centerness(torch.tensor([0.0, 5, 10, 5])).item() == 0
    assert centerness(torch.zeros(4)).isfinite()
    assert centerness(torch.zeros(0, 4)).shape == (0,)


@given(st.integers(0, 10**6))
def test_giou_equals_torchvision(seed):
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(5, 4, generator=generator, dtype=torch.float64) * 10
    second = torch.rand(5, 4, generator=generator, dtype=torch.float64) * 10
    points = torch.zeros(5, 2, dtype=torch.float64)
    expected = generalized_box_iou(decode_ltrb(points, first), decode_ltrb(points, second))
    torch.testing.assert_close(giou_of_ltrb(first, second), expected.diagonal())


def test_published_smoothing():
    first, second = torch.ones(1, 4), torch.full((1, 4), 2.0)
    assert giou_of_ltrb(first, second).item() == pytest.approx(4 / 16)
    smoothed = giou_of_ltrb(first, second, smoothing=1.0).item()
    assert smoothed == pytest.approx(5 / 17)


def test_giou_of_empty_predictions_has_finite_gradients():
    predicted = torch.zeros(1, 4, requires_grad=True)
    giou_of_ltrb(predicted, torch.ones(1, 4)).sum().backward()
    assert predicted.grad.isfinite().all()
    assert giou_of_ltrb(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)


@given(st.integers(0, 10**6))
def test_paired_iou_equals_torchvision(seed):
    generator = torch.Generator().manual_seed(seed)
    first, second = random_boxes(6, generator), random_boxes(6, generator)
    torch.testing.assert_close(paired_iou(first, second), box_iou(first, second).diagonal())


def test_paired_iou_of_boxes_without_area():
    empty = torch.zeros(1, 4)
    assert paired_iou(empty, empty).item() == 0
    upside_down = torch.tensor([[5.0, 5.0, 1.0, 1.0]])
    assert not math.isnan(paired_iou(upside_down, torch.tensor([[0.0, 0, 9, 9]])).item())


def test_covered_shares_by_hand():
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 40], [5, 5, 6, 6]])
    shares = covered_shares(boxes, torch.tensor([[5.0, 0, 25, 30]]))
    assert shares.tolist() == [0.5, 0.25, 1]
    assert covered_shares(boxes[:0], boxes[:1]).shape == (0,)
