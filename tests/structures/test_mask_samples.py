from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boxmask.structures import MaskSamples


def samples_of(boxes, size=(8, 10), stride=4, frames=None):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    count = len(boxes)
    frame = torch.tensor([0.0, 0, size[1] * stride, size[0] * stride]).expand(count, 4)
    return MaskSamples(
        logits=torch.zeros(count, *size),
        boxes=boxes,
        tight=torch.ones(count, 2, dtype=torch.bool),
        labels=torch.zeros(count, dtype=torch.int64),
        image_index=torch.zeros(count, dtype=torch.int64),
        instance_index=torch.arange(count),
        frames=frame if frames is None else torch.tensor(frames),
        predicted_boxes=boxes,
        scores=torch.ones(count),
    )


def test_cell_centers():
    x, y = samples_of([[0, 0, 8, 8]], size=(2, 3)).cell_centers()
    assert x.tolist() == [[2, 6, 10]]
    assert y.tolist() == [[2, 6]]


def test_cells_whose_middle_is_inside():
    columns, rows = samples_of([[2, 5.9, 14, 18.1]]).box_sides()
    assert columns[0].nonzero().flatten().tolist() == [0, 1, 2]  # middles 2, 6, 10; 14 is outside
    assert rows[0].nonzero().flatten().tolist() == [1, 2, 3, 4]
    masks = samples_of([[2, 5.9, 14, 18.1]]).box_masks()
    assert masks.shape == (1, 8, 10)
    assert masks.sum() == 12


@pytest.mark.parametrize(
    ("box", "column", "row"),
    [
        ([7, 0, 8.5, 40], 1, None),  # between the middles 6 and 10, nearer to 6
        ([8.2, 0, 9.8, 40], 2, None),
        ([0, 15, 40, 15.5], None, 3),
        ([39.9, 31.9, 40, 32], 9, 7),  # in the last corner
        ([5, 5, 5, 5], 1, 1),  # without area
    ],
)
def test_thin_boxes_keep_the_nearest_cell(box, column, row):
    columns, rows = samples_of([box]).box_sides()
    if column is not None:
        assert columns[0].nonzero().flatten().tolist() == [column]
    if row is not None:
        assert rows[0].nonzero().flatten().tolist() == [row]


@given(st.lists(st.floats(0, 40), min_size=4, max_size=4))
def test_no_box_is_without_a_target(values):
    x1, x2 = sorted(values[:2])
    y1, y2 = sorted(min(value, 32.0) for value in values[2:])
    columns, rows = samples_of([[x1, y1, x2, y2]]).box_sides()
    for sides, low, high in ((columns[0], x1, x2), (rows[0], y1, y2)):
        cells = [cell for cell in range(len(sides)) if low <= cell * 4 + 2 < high]
        found = sides.nonzero().flatten().tolist()
        assert found == cells or (not cells and len(found) == 1)


def test_regions_of_interest():
    samples = samples_of([[10, 10, 20, 20]], size=(4, 4), frames=[[8.0, 8, 24, 24]])
    columns, rows = samples.box_sides()
    assert columns.tolist() == rows.tolist() == [[True, True, True, False]]


def test_no_samples():
    columns, rows = samples_of([]).box_sides()
    assert columns.shape == (0, 10)
    assert rows.shape == (0, 8)
    assert samples_of([]).box_masks().shape == (0, 8, 10)


def test_select_and_checks():
    samples = samples_of([[0, 0, 8, 8], [4, 4, 9, 9]])
    assert len(samples) == 2
    assert samples.select(torch.tensor([1])).boxes.tolist() == [[4, 4, 9, 9]]
    with pytest.raises(ValueError, match=r"logits: expected \(K, h, w\)"):
        replace(samples, logits=torch.zeros(2, 1, 8, 10))
    with pytest.raises(ValueError, match="tight: expected the length of logits"):
        replace(samples, tight=samples.tight[:1])
    with pytest.raises(ValueError, match="frames: expected shape"):
        replace(samples, frames=torch.zeros(2, 2))


def test_mean_fill_equals_a_loop():
    boxes = [[4, 4, 24, 20], [0, 0, 32, 8]]
    samples = replace(samples_of(boxes), logits=torch.randn(2, 8, 10))
    scores = [
        torch.sigmoid(samples.logits[index, row, column]).item()
        for index, (x1, y1, x2, y2) in enumerate(boxes)
        for row in range(8)
        for column in range(10)
        if x1 <= column * 4 + 2 < x2 and y1 <= row * 4 + 2 < y2
    ]
    assert samples.mean_fill.item() == pytest.approx(sum(scores) / len(scores), abs=1e-6)
    assert samples_of([]).mean_fill.item() == 0


def test_other_logits_have_another_fill():
    samples = samples_of([[4, 4, 24, 20]])
    assert samples.mean_fill.item() == 0.5
    assert replace(samples, logits=samples.logits + 50).mean_fill.item() == 1


def test_instances_on_the_host_follow_a_choice_of_the_host():
    plain = samples_of([[0, 0, 8, 8]] * 3)
    samples = replace(plain, host_index=torch.tensor([0, 1, 1]))
    assert plain.instances_on_host.tolist() == [0, 1, 2]
    assert samples.select(torch.tensor([2, 0])).instances_on_host.tolist() == [1, 0]
