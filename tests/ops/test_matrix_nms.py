import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boxmask.ops.matrix_nms import matrix_nms
from references import cells as reference


def lowered(masks, scores, labels, sigma=2.0):
    width = len(masks[0]) if masks else 1
    masks = torch.tensor(masks, dtype=torch.bool).reshape(len(scores), 1, width)
    scores = torch.tensor(scores, dtype=torch.float32)
    return matrix_nms(masks, scores, torch.tensor(labels, dtype=torch.int64), sigma=sigma).tolist()


@pytest.mark.parametrize(
    ("second", "label", "expected"),
    [
        ([1, 1, 0, 0], 0, 0.108268),  # the same mask: times exp(-2)
        ([1, 0, 0, 0], 0, 0.485225),  # IoU one half: times exp(-1/2)
        ([0, 0, 1, 1], 0, 0.8),
        ([1, 1, 0, 0], 1, 0.8),  # another class
    ],
)
def test_two_masks(second, label, expected):
    found = lowered([[1, 1, 0, 0], second], [0.9, 0.8], [0, label])
    assert found == pytest.approx([0.9, expected], abs=1e-6)


def test_a_double_takes_away_less():
    # The second is a double of the first; the third overlaps the second alone, by a third.
    masks = [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    found = lowered(masks, [0.9, 0.8, 0.7], [0, 0, 0])
    assert found == pytest.approx([0.9, 0.8 * math.exp(-2 / 9), 0.7])


def test_nothing_and_empty_masks():
    assert lowered([], [], []) == []
    assert lowered([[0, 0], [0, 0]], [0.9, 0.8], [0, 0]) == pytest.approx([0.9, 0.8])


@given(st.data())
def test_equals_reference(data):
    count = data.draw(st.integers(1, 6))
    bit = st.booleans()
    masks = data.draw(
        st.lists(st.lists(bit, min_size=6, max_size=6), min_size=count, max_size=count)
    )
    labels = data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    scores = [1 - row / 10 for row in range(count)]
    expected = reference.matrix_nms(masks, scores, labels, 1.5)
    assert lowered(masks, scores, labels, 1.5) == pytest.approx(expected, abs=1e-5)
