from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boxmask.detectors.grid_cells import (
    GridSettings,
    cell_levels,
    cell_middles,
    cell_pairs,
    cell_targets,
    cells_of_every_box,
)
from boxmask.structures import Targets
from references.cells import may_explain

ONE_GRID = GridSettings(sides=(40,), size_ranges=((1.0, 2048.0),))


def places(settings, box, image_size):
    """(level, row, column) of all cells that may explain a box."""
    pairs = cell_pairs(settings, torch.tensor([box], dtype=torch.float32), image_size)[:, 0]
    found, offset = [], 0
    for level, side in enumerate(settings.sides):
        here = pairs[offset : offset + side * side].reshape(side, side).nonzero().tolist()
        found += [(level, row, column) for row, column in here]
        offset += side * side
    return found


def test_a_middle_between_cells_is_in_the_second():
    # 0.5 / 0.025 is less than 20 for a computer.
    assert places(ONE_GRID, [392, 392, 408, 408], (800, 800)) == [
        (0, 19, 19), (0, 19, 20), (0, 20, 19), (0, 20, 20),
    ]  # fmt: skip
    # A tenth of 8 pixels to both sides of (404, 408) stays within one cell.
    assert places(ONE_GRID, [400, 404, 408, 412], (800, 800)) == [(0, 20, 20)]


def test_no_farther_than_one_cell():
    # A fifth of 400 pixels is two cells to both sides; rows have twice the height here.
    found = places(ONE_GRID, [210, 10, 610, 410], (1600, 800))
    assert {row for _, row, _ in found} == {4, 5, 6}
    assert {column for _, _, column in found} == {19, 20, 21}


def test_an_object_may_be_on_two_levels():
    levels = {level for level, _, _ in places(GridSettings(), [100, 100, 160, 160], (800, 800))}
    assert levels == {0, 1}  # 60 is in (1, 96) and in (48, 192)


@pytest.mark.parametrize(
    ("box", "level"), [([5, 5, 5.5, 5.2], 0), ([7, 7, 7, 7], 0), ([0, 0, 4000, 3000], 4)]
)
def test_no_box_is_too_small_or_too_large(box, level):
    found = places(GridSettings(), box, (3008, 4000))
    assert found
    assert {cell[0] for cell in found} == {level}


def test_a_middle_beyond_the_image_counts_as_on_its_edge():
    assert (0, 39, 39) in places(ONE_GRID, [90, 90, 130, 130], (96, 96))


def test_smallest_box_wins_and_labelling_asks_for_both():
    boxes = torch.tensor([[10.0, 10, 50, 50], [20.0, 20, 40, 40], [20.0, 20, 40, 40]])
    one = Targets.from_boxes(boxes, torch.tensor([0, 1, 2]))
    none = one.select(torch.zeros(3, dtype=torch.bool))
    settings = GridSettings(sides=(4,), size_ranges=((1.0, 64.0),))
    found = cell_targets(settings, [none, one], (80, 80))
    # The middle (30, 30) is in cell (1, 1); the regions, 4 and 8 pixels wide, stay inside.
    assert found.position.tolist() == [5]
    assert found.instance_index.tolist() == [1]
    assert found.image_index.tolist() == [1]
    assert found.labels[1, 5] == 1
    assert (found.labels >= 0).sum() == 1
    image_index, position, instance = cells_of_every_box(settings, [none, one], (80, 80))
    assert position.tolist() == [5, 5, 5]
    assert sorted(instance.tolist()) == [0, 1, 2]
    assert image_index.tolist() == [1, 1, 1]


def test_labelling_leaves_shared_cells_to_their_owner():
    boxes = torch.tensor([[0.0, 0, 80, 80], [41.0, 41, 59, 59]])
    targets = [Targets.from_boxes(boxes, torch.tensor([0, 1]))]
    settings = GridSettings(sides=(4,), size_ranges=((1.0, 80.0),))
    # The large box reaches from 32 to 48 pixels, cells 1 and 2; the small one is in cell (2, 2).
    for found in (
        cells_of_every_box(settings, targets, (80, 80))[1:],
        (
            vars(cell_targets(settings, targets, (80, 80)))[n]
            for n in ("position", "instance_index")
        ),
    ):
        position, instance = found
        assert position.tolist() == [5, 6, 9, 10]
        assert instance.tolist() == [0, 0, 0, 1]


def test_nothing():
    none = Targets.from_boxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    found = cell_targets(GridSettings(), [none, none], (64, 96))
    assert found.labels.shape == (2, 3872)
    assert len(found.position) == 0
    assert all(len(part) == 0 for part in cells_of_every_box(GridSettings(), [none], (64, 96)))


def test_middles_and_levels():
    settings = GridSettings(sides=(2, 1), size_ranges=((1.0, 8.0), (8.0, 64.0)))
    middles = cell_middles(settings, (32, 64), torch.device("cpu"))
    assert middles.tolist() == [[16, 8], [48, 8], [16, 24], [48, 24], [32, 16]]
    assert cell_levels(settings, torch.device("cpu")).tolist() == [0, 0, 0, 0, 1]


def test_settings_say_what_is_wrong():
    with pytest.raises(ValueError, match="one for each of 2 grids, got 1"):
        GridSettings(sides=(4, 2), size_ranges=((1.0, 8.0),))
    with pytest.raises(ValueError, match="gap"):
        replace(GridSettings(), sides=(4, 2), size_ranges=((1.0, 8.0), (9.0, 64.0)))


@given(st.data())
def test_pairs_equal_reference(data):
    quarter = st.integers(0, 4 * 96)
    x1, x2 = sorted(data.draw(st.tuples(quarter, quarter)))
    y1, y2 = sorted(data.draw(st.tuples(quarter, quarter)))
    box = [x1 / 4, y1 / 4, x2 / 4, y2 / 4]
    settings = GridSettings(
        sides=(7, 4), size_ranges=((2.0, 24.0), (12.0, 48.0)), center_share=0.25
    )
    size = (64, 96)
    expected = [
        (level, row, column)
        for level, side in enumerate(settings.sides)
        for row in range(side)
        for column in range(side)
        if may_explain(
            (row, column), box, side, settings.size_ranges[level], 0.25, size, (2.0, 48.0)
        )
    ]
    assert places(settings, box, size) == expected
