"""Objects and queries: costs against loops, matches against trying everything."""

import itertools

import pytest
import torch

from boxmask.detectors.query_masks import QueryOutputs
from boxmask.detectors.query_matching import (
    MatchingSettings,
    axis_distances,
    box_sides,
    match,
    match_every_object,
    matching_costs,
)
from boxmask.structures import MaskSamples, Targets
from references.queries import reference_axis_distance, reference_costs


def random_outputs(layers=2, images=1, queries=5, channels=3, size=(6, 8)):
    return QueryOutputs(
        class_logits=torch.randn(layers, images, queries, 4),
        embeddings=torch.randn(layers, images, queries, channels),
        pixels=torch.randn(images, channels, *size),
    )


def test_axis_distances_by_hand():
    projections = torch.tensor([[0.0, 1.0, 1.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    sides = torch.tensor([[False, True, True, False], [True, False, False, False]])
    tight = torch.tensor([True, False])
    found = axis_distances(projections, sides, tight, smoothing=0.5)
    # tight: 1 - 2 * overlap / (sum of squares + cells + 0.5); else: 1 - overlap / (sum + 0.5)
    expected = [[1 - 4 / 4.5, 1.0], [1 - 1 / 3, 1 - 0.5 / 1.5], [1.0, 1.0]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_axis_distances_as_a_loop():
    projections, sides = torch.rand(4, 7), torch.rand(3, 7) < 0.5
    tight = torch.tensor([True, False, True])
    found = axis_distances(projections, sides, tight, smoothing=0.5)
    for query, owner in itertools.product(range(4), range(3)):
        expected = reference_axis_distance(
            projections[query].tolist(), sides[owner].tolist(), bool(tight[owner]), 0.5
        )
        assert found[query, owner].item() == pytest.approx(expected, abs=1e-5)


def test_costs_as_a_loop():
    outputs = random_outputs()
    target = Targets(
        boxes=torch.tensor([[1.0, 2, 20, 15], [4, 4, 30, 22]]),
        labels=torch.tensor([2, 0]),
        tight=torch.tensor([[True, True], [True, False]]),
        masks=None,
        trusted=torch.zeros(2, dtype=torch.bool),
    )
    settings = MatchingSettings(class_cost=3.0, projection_cost=4.0, smoothing=0.7)
    found = matching_costs(outputs, 0, target, settings)
    expected = reference_costs(outputs, target, settings)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-4)


def test_box_sides_are_those_of_mask_samples():
    boxes = torch.tensor([[1.0, 2, 20, 15], [5, 5, 5.5, 6], [0, 0, 32, 24], [2, 3, 2, 3]])
    count = len(boxes)
    samples = MaskSamples(
        logits=torch.zeros(count, 6, 8),
        boxes=boxes,
        tight=torch.ones(count, 2, dtype=torch.bool),
        labels=torch.zeros(count, dtype=torch.int64),
        image_index=torch.zeros(count, dtype=torch.int64),
        instance_index=torch.arange(count),
        frames=torch.tensor([0.0, 0, 32, 24]).expand(count, 4),
        predicted_boxes=boxes,
        scores=torch.ones(count),
    )
    for own, theirs in zip(box_sides(boxes, (6, 8)), samples.box_sides(), strict=True):
        assert torch.equal(own, theirs)


def test_match_by_hand():
    costs = torch.tensor([[1.0, 2.0], [0.0, 5.0], [3.0, 3.0]])
    query, owner = match(costs)
    assert (query.tolist(), owner.tolist()) == ([1, 0], [0, 1])  # 0 + 2


def test_match_is_the_cheapest_of_all():
    costs = torch.randn(5, 3)
    query, owner = match(costs)
    best = min(
        sum(float(costs[chosen, row]) for row, chosen in enumerate(order))
        for order in itertools.permutations(range(5), 3)
    )
    assert float(costs[query, owner].sum()) == pytest.approx(best, abs=1e-5)
    assert owner.tolist() == [0, 1, 2]


def test_more_objects_than_queries():
    costs = torch.randn(3, 8)
    query, owner = match(costs)
    assert len(set(query.tolist())) == len(set(owner.tolist())) == 3
    query, owner = match_every_object(costs)
    assert sorted(owner.tolist()) == list(range(8))
    assert max(query.bincount().tolist()) == 3  # three rounds


def test_nothing_to_match():
    for function in (match, match_every_object):
        query, owner = function(torch.zeros(4, 0))
        assert len(query) == len(owner) == 0


def test_costs_that_are_no_numbers_still_match():
    query, _ = match(torch.tensor([[float("nan"), 1.0], [1.0, float("inf")]]))
    assert query.tolist() == [1, 0]
