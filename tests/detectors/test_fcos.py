import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boxmask.detectors.fcos import (
    FCOSHead,
    FCOSSettings,
    PointOutputs,
    _pairs_near_centers,
    detection_losses,
    point_targets,
    positive_pairs,
)
from boxmask.ops.points import point_grid
from boxmask.structures import Targets
from references.assignment import point_target

STRIDES = (8, 16, 32, 64, 128)
SETTINGS = FCOSSettings()


def grid_of(height, width):
    sizes = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
    return point_grid(sizes, STRIDES, torch.device("cpu"))


def targets_of(*boxes, labels=None):
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    labels = list(range(len(tensor))) if labels is None else labels
    return Targets.from_boxes(tensor, torch.tensor(labels, dtype=torch.int64))


def at(found, grid, x, y, level=0):
    """Row of the positive at a place, or None."""
    for row, position in enumerate(found.position.tolist()):
        if grid.points[position].tolist() == [x, y] and grid.levels[position] == level:
            return row
    return None


def outputs_of(grid, images=1, classes=3):
    shape = (images, len(grid.points))
    return PointOutputs(
        class_logits=torch.randn(*shape, classes, requires_grad=True),
        ltrb=torch.rand(*shape, 4).requires_grad_(),
        centerness_logits=torch.randn(*shape, requires_grad=True),
        towers=[],
        grid=grid,
    )


boxes_of_image = st.lists(
    st.tuples(st.integers(0, 240), st.integers(0, 180), st.integers(1, 250), st.integers(1, 200)),
    max_size=5,
)


@given(st.lists(boxes_of_image, min_size=1, max_size=2))
def test_equals_a_loop_over_points(images):
    grid = grid_of(192, 256)
    corners = [[(x, y, min(x + w, 256), min(y + h, 192)) for x, y, w, h in one] for one in images]
    found = point_targets(grid, [targets_of(*one) for one in corners], SETTINGS)
    row = offset = 0
    for image, boxes in enumerate(corners):
        for position, (x, y) in enumerate(grid.points.tolist()):
            stride, level = int(grid.strides[position]), int(grid.levels[position])
            expected = point_target(x, y, stride, level, boxes, SETTINGS.center_radius)
            if expected is None:
                assert found.labels[image, position] == -1
                continue
            owner, *ltrb, centerness = expected
            area = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes]
            mine = int(found.instance_index[row]) - offset
            assert area[mine] == area[owner]  # equal areas: either
            assert (found.image_index[row], found.position[row]) == (image, position)
            assert found.labels[image, position] == mine
            if mine == owner:
                target = [value / stride for value in ltrb]
                assert found.ltrb[row].tolist() == pytest.approx(target, abs=1e-5)
                assert found.centerness[row].item() == pytest.approx(centerness, abs=1e-5)
            row += 1
        offset += len(boxes)
    assert row == len(found.position)


@given(boxes_of_image, st.sampled_from([0.7, 1.0, 1.5, 2.5]), st.sampled_from([0.0, 0.25, 4.0]))
def test_no_point_is_missed_near_the_centers(corners, radius, shift):
    """The few cells that are looked at, against all of them; boxes may leave the picture."""
    grid, settings = grid_of(192, 256), FCOSSettings(center_radius=radius)
    boxes = torch.tensor([(x, y, x + w, y + h) for x, y, w, h in corners]).reshape(-1, 4) + shift
    position, index = _pairs_near_centers(grid, boxes, settings)
    found = sorted(zip(position.tolist(), index.tolist(), strict=True))
    assert found == [tuple(one) for one in positive_pairs(grid, boxes, settings).nonzero().tolist()]


def test_target_of_a_known_point():
    grid = grid_of(64, 64)
    found = point_targets(grid, [targets_of([0, 0, 64, 64])], SETTINGS)
    row = at(found, grid, 36, 28)
    assert (found.ltrb[row] * 8).tolist() == [36, 28, 28, 36]
    assert found.centerness[row].item() == pytest.approx(0.777778, abs=1e-6)


@pytest.mark.parametrize(
    ("size", "level"), [(64, 0), (112, 0), (200, 1), (400, 2), (900, 3), (1100, 4)]
)
def test_levels_by_size(size, level):
    grid = grid_of(1152, 1152)
    low = (1152 - size) / 2
    found = point_targets(grid, [targets_of([low, low, low + size, low + size])], SETTINGS)
    nearest = (grid.points[found.position] - 576).square().sum(dim=1).argmin()
    assert level in grid.levels[found.position].tolist()
    assert grid.levels[found.position[nearest]] == level


def test_smaller_box_wins():
    grid = grid_of(128, 128)
    found = point_targets(grid, [targets_of([14, 14, 106, 106], [44, 44, 76, 76])], SETTINGS)
    row = at(found, grid, 60, 60)
    assert found.instance_index[row] == 1
    assert found.labels[0, found.position[row]] == 1


def test_center_sampling():
    grid = grid_of(64, 64)
    found = point_targets(grid, [targets_of([0, 0, 62, 62])], SETTINGS)  # middle (31, 31)
    assert at(found, grid, 36, 28) is not None
    assert at(found, grid, 44, 28) is None  # 13 pixels from the middle, the radius is 12


def test_instances_count_over_the_batch():
    grid = grid_of(64, 64)
    found = point_targets(
        grid,
        [targets_of(), targets_of([0, 0, 30, 30]), targets_of([0, 0, 40, 40], [8, 8, 24, 24])],
        SETTINGS,
    )
    assert set(found.image_index.tolist()) == {1, 2}
    assert set(found.instance_index[found.image_index == 1].tolist()) == {0}
    assert set(found.instance_index[found.image_index == 2].tolist()) <= {1, 2}
    assert (found.image_index.diff() >= 0).all()


def test_focal_and_centerness_losses_by_hand():
    grid = grid_of(32, 32)
    outputs = outputs_of(grid, classes=2)
    found = point_targets(grid, [targets_of([2, 2, 30, 30], labels=[1])], SETTINGS)
    losses = detection_losses(outputs, found, SETTINGS)
    focal = 0.0
    for position, label in enumerate(found.labels[0].tolist()):
        for one, logit in enumerate(outputs.class_logits[0, position].tolist()):
            score = 1 / (1 + math.exp(-logit))
            if one == label:
                focal -= 0.25 * (1 - score) ** 2 * math.log(score)
            else:
                focal -= 0.75 * score**2 * math.log(1 - score)
    assert losses["loss_class"].total.item() == pytest.approx(focal, rel=1e-5)
    assert losses["loss_class"].count.item() == len(found.position)
    center = 0.0
    for position, target in zip(found.position.tolist(), found.centerness.tolist(), strict=True):
        score = 1 / (1 + math.exp(-outputs.centerness_logits[0, position].item()))
        center -= target * math.log(score) + (1 - target) * math.log(1 - score)
    assert losses["loss_centerness"].total.item() == pytest.approx(center, rel=1e-5)
    assert losses["loss_box"].count.item() == pytest.approx(found.centerness.sum().item())


def test_perfect_boxes_cost_nothing():
    grid = grid_of(64, 64)
    outputs = outputs_of(grid)
    found = point_targets(grid, [targets_of([5, 7, 50, 60])], SETTINGS)
    with torch.no_grad():
        outputs.ltrb[0, found.position] = found.ltrb
    losses = detection_losses(outputs, found, SETTINGS)
    assert losses["loss_box"].total.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("tight", [(True, True), (False, True), (True, False), (False, False)])
def test_ends_that_are_not_known_teach_nothing(tight):
    grid = grid_of(64, 64)
    outputs = outputs_of(grid)
    known = targets_of([4, 6, 30, 30], [34, 32, 60, 58])
    doubted = replace(known, tight=torch.tensor([[True, True], tight]))
    found = point_targets(grid, [doubted], SETTINGS)
    losses = detection_losses(outputs, found, SETTINGS)
    box = torch.stack([losses["loss_box"].total, losses["loss_centerness"].total]).sum()
    of_ltrb, of_center = torch.autograd.grad(box, [outputs.ltrb, outputs.centerness_logits])
    here = found.position[found.instance_index == 1]
    other = found.position[found.instance_index == 0]
    taught = of_ltrb[0, here].unflatten(-1, (2, 2)).abs().sum(dim=(0, 1)) > 0  # along x and y
    assert taught.tolist() == [*tight]
    assert bool((of_center[0, here] != 0).all()) == all(tight)
    assert bool((of_ltrb[0, other] != 0).any(dim=1).all())
    assert bool((of_center[0, other] != 0).all())
    counted = found.instance_index == 0 if not any(tight) else torch.ones_like(found.position) > 0
    assert losses["loss_box"].count.item() == pytest.approx(found.centerness[counted].sum().item())


def test_a_box_that_fits_where_its_ends_are_known_costs_nothing():
    grid = grid_of(64, 64)
    outputs = outputs_of(grid)
    targets = replace(targets_of([5, 7, 50, 60]), tight=torch.tensor([[False, True]]))
    found = point_targets(grid, [targets], SETTINGS)
    with torch.no_grad():
        outputs.ltrb[0, found.position, 1::2] = found.ltrb[:, 1::2]
    losses = detection_losses(outputs, found, SETTINGS)
    assert losses["loss_box"].total.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("value", [0.0, 100.0, -100.0])
def test_no_objects_and_extreme_logits(value):
    grid = grid_of(37, 53)
    outputs = outputs_of(grid, images=2)
    with torch.no_grad():
        outputs.class_logits.fill_(value)
        outputs.centerness_logits.fill_(value)
        outputs.ltrb.zero_()
    for targets in ([targets_of(), targets_of()], [targets_of(), targets_of([3, 3, 40, 30])]):
        found = point_targets(grid, targets, SETTINGS)
        losses = detection_losses(outputs, found, SETTINGS)
        total = torch.stack([loss.total for loss in losses.values()]).sum()
        gradients = torch.autograd.grad(
            total, [outputs.class_logits, outputs.ltrb, outputs.centerness_logits]
        )
        assert total.isfinite()
        assert all(gradient.isfinite().all() for gradient in gradients)
        if not len(found.position):
            assert losses["loss_box"].total.item() == losses["loss_centerness"].total.item() == 0


def test_losses_are_float32_under_autocast():
    grid = grid_of(64, 64)
    head = FCOSHead(64, 3, 5, FCOSSettings(tower_depth=1))
    levels = [torch.rand(1, 64, *size) for size in grid.sizes]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = head(levels, grid)
        assert outputs.class_logits.dtype == torch.bfloat16
        found = point_targets(grid, [targets_of([3, 3, 40, 50])], SETTINGS)
        losses = detection_losses(outputs, found, SETTINGS)
    assert {loss.total.dtype for loss in losses.values()} == {torch.float32}


def test_head_shapes_and_first_scores():
    grid = grid_of(64, 96)
    head = FCOSHead(32, 5, 5, FCOSSettings(tower_depth=2))
    assert head.cls_logits.bias[0].item() == pytest.approx(-4.59512, abs=1e-5)
    outputs = head([torch.zeros(2, 32, *size) for size in grid.sizes], grid)
    points = len(grid.points)
    assert outputs.class_logits.shape == (2, points, 5)
    assert outputs.ltrb.shape == (2, points, 4)
    assert outputs.centerness_logits.shape == (2, points)
    assert (outputs.ltrb >= 0).all()
    assert outputs.class_logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.05)


def test_points_come_row_after_row():
    """The point list of the head and the grid must mean the same cells."""
    grid = grid_of(64, 96)
    head = FCOSHead(32, 1, 5, FCOSSettings(tower_depth=0))
    levels = [torch.randn(1, 32, *size) for size in grid.sizes]
    outputs = head(levels, grid)
    maps = head.ctrness(levels[1])[0, 0]
    on_level = outputs.centerness_logits[0, grid.levels == 1]
    torch.testing.assert_close(on_level.reshape(maps.shape), maps)
    places = grid.points[grid.levels == 1].reshape(*maps.shape, 2)
    assert places[2, 1].tolist() == [24, 40]
