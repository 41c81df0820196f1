"""Small tensors of known numbers."""

import math

import pytest
import torch

from boxmask.waitless import Fetched, constants, numbered, scalar, send

CPU = torch.device("cpu")


def test_numbers_of_groups():
    assert numbered([2, 0, 3], CPU).tolist() == [0, 0, 2, 2, 2]
    assert numbered([], CPU).tolist() == []
    assert numbered([0], CPU).dtype == torch.int64


def test_a_scalar_is_like_its_model():
    made = scalar(3, torch.zeros(2, dtype=torch.float64))
    assert made.shape == ()
    assert made.dtype == torch.float64
    assert made.item() == 3


def test_constants_are_made_once_and_serve_training_after_inference():
    with torch.inference_mode():
        first = constants((1.0, math.inf), CPU)
    assert constants((1.0, math.inf), CPU) is first
    assert first.tolist() == [1.0, math.inf]
    weight = torch.ones(2, requires_grad=True)
    (weight * constants((2.0, 3.0), CPU)).sum().backward()
    assert weight.grad.tolist() == [2.0, 3.0]
    assert not first.is_inference()


def test_what_is_fetched_is_what_was_sent():
    values = torch.arange(6).reshape(2, 3)
    assert send(values, CPU) is values
    whole, part = Fetched(values, values[0] > 0).get()
    assert torch.equal(whole, values)
    assert part.tolist() == [False, True, True]


@pytest.mark.gpu
def test_numbers_come_back_from_a_gpu():
    sent = send(torch.arange(1000.0), "cuda")
    (back,) = Fetched(sent * 2).get()
    assert torch.equal(back, torch.arange(1000.0) * 2)
