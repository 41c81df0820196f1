import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boxmask.detectors.fcos import FCOSSettings, positive_pairs
from boxmask.detectors.sample_choice import (
    best_of_each_object,
    points_of_objects,
    with_every_object,
)
from boxmask.ops.points import point_grid
from references import assignment as reference


def choose(images, instances, scores, per_image, **options):
    """`images` of each point; objects that no point names belong to the last image named."""
    image_of = dict(zip(instances, images, strict=True))
    counts, image = [0] * (max(images, default=0) + 1), 0
    for one in range(max(instances, default=-1) + 1):
        image = image_of.get(one, image)
        counts[image] += 1
    index = torch.tensor(instances, dtype=torch.int64)
    kept, owners = best_of_each_object(
        index,
        torch.tensor(scores),
        points_of_objects(index, sum(counts)),
        counts,
        per_image,
        **options,
    )
    assert owners.tolist() == index[kept].tolist()
    return kept.tolist()


@st.composite
def points(draw):
    """Points of objects numbered image after image, in mixed order within an image."""
    images, instances, offset = [], [], 0
    for image in range(draw(st.integers(1, 3))):
        count = draw(st.integers(0, 4))
        if count:
            owners = draw(st.lists(st.integers(0, count - 1), max_size=12))
            images += [image] * len(owners)
            instances += [owner + offset for owner in owners]
        offset += count
    scores = draw(st.permutations([row / 64 for row in range(len(images))]))
    return images, instances, scores


@given(points(), st.integers(4, 9))
def test_equals_a_loop(case, per_image):
    images, instances, scores = case
    kept = choose(images, instances, scores, per_image)
    assert sorted(kept) == sorted(
        reference.best_of_each_object(images, instances, scores, per_image)
    )
    order = [(instances[row], -scores[row]) for row in kept]
    assert order == sorted(order)  # object after object, best first


def test_share_of_each_object():
    def kept_of(objects):
        instances = [one for one in range(objects) for _ in range(30)]
        kept = choose([0] * len(instances), instances, torch.rand(len(instances)).tolist(), 64)
        return [instances[row] for row in kept]

    assert kept_of(3) == [0] * 21 + [1] * 21 + [2] * 21
    assert sorted(set(kept_of(40))) == list(range(40))
    assert len(kept_of(40)) == 40


def test_a_crowd_is_cut_to_the_cap():
    images, instances = [0] * 100 + [1] * 2, [*range(100), 100, 101]
    kept = choose(images, instances, [0.5] * 102, 64)
    assert len([row for row in kept if row < 100]) == 64
    assert kept[-2:] == [100, 101]
    assert len(choose(images, instances, [0.5] * 102, 64, cap_objects=False)) == 102


def test_objects_without_points_take_no_share():
    kept = choose([0] * 6, [0] * 3 + [5] * 3, [0.1, 0.2, 0.3, 0.6, 0.5, 0.4], 4)
    assert kept == [2, 1, 3, 4]


def test_images_without_points():
    assert choose([1, 3], [0, 7], [0.5, 0.5], 4) == [0, 1]


def test_nothing_to_choose():
    assert choose([], [], [], 64) == []


@given(
    st.lists(
        st.tuples(st.floats(0, 190), st.floats(0, 120), st.floats(0.01, 200), st.floats(0.01, 130)),
        max_size=6,
    )
)
def test_every_object_gets_a_point(corners):
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    grid = point_grid(sizes, (8, 16, 32, 64, 128), torch.device("cpu"))
    boxes = torch.tensor(
        [[x, y, min(x + w, 192), min(y + h, 128)] for x, y, w, h in corners]
    ).reshape(-1, 4)
    pairs = positive_pairs(grid, boxes, FCOSSettings())
    complete = with_every_object(pairs, grid, boxes)
    assert complete.any(dim=0).all()
    had = pairs.any(dim=0)
    assert torch.equal(complete[:, had], pairs[:, had])
    assert (complete[:, ~had].sum(dim=0) == 1).all()


@pytest.mark.parametrize(
    ("box", "place", "level"),
    [
        ([9, 9, 10, 10], [12, 12], 0),  # too small to hold a point
        ([0, 60, 192, 62], [80, 56], 1),
    ],
)
def test_added_point_is_the_nearest_of_its_level(box, place, level):
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    grid = point_grid(sizes, (8, 16, 32, 64, 128), torch.device("cpu"))
    boxes = torch.tensor([box], dtype=torch.float32)
    none = torch.zeros(len(grid.points), 1, dtype=torch.bool)
    position = with_every_object(none, grid, boxes).nonzero()[0, 0]
    assert grid.levels[position] == level
    distance = (grid.points[position] - torch.tensor(place)).norm()
    middle = (boxes[0, :2] + boxes[0, 2:]) / 2
    assert (grid.points[position] - middle).norm() <= (torch.tensor(place) - middle).norm() + 1e-4
    assert distance.item() <= 16
