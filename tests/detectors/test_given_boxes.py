import math
from dataclasses import replace

import pytest
import torch

from boxmask.box_supervision.shape_prior_loss import ellipse_radius
from boxmask.detectors.given_boxes import each_box_mask, masks_for_boxes, sample_weights
from boxmask.structures import MaskSamples


def samples_of(boxes, predicted, scores, instance_index):
    count = len(boxes)
    return MaskSamples(
        logits=torch.zeros(count, 4, 4),
        boxes=torch.tensor(boxes, dtype=torch.float32),
        tight=torch.ones(count, 2, dtype=torch.bool),
        labels=torch.zeros(count, dtype=torch.int64),
        image_index=torch.zeros(count, dtype=torch.int64),
        instance_index=torch.tensor(instance_index),
        frames=torch.tensor([[0.0, 0, 16, 16]]).expand(count, 4),
        predicted_boxes=torch.tensor(predicted, dtype=torch.float32),
        scores=torch.tensor(scores),
    )


def test_weights_by_hand():
    given = [[0, 0, 10, 10]] * 2
    predicted = [[0, 0, 10, 9], [0, 0, 10, 5]]  # IoU 0.9 and 0.5
    weights = sample_weights(samples_of(given, predicted, [0.6, 0.6], [0, 0]), 1)
    assert weights.tolist() == pytest.approx([0.880797, 0.119203], abs=1e-5)
    weights = sample_weights(samples_of(given, predicted, [0.2, 0.6], [0, 0]), 1)
    ratio = 0.2 / 0.6 * math.exp(5 * 0.4)
    assert weights.tolist() == pytest.approx([ratio / (1 + ratio), 1 / (1 + ratio)], abs=1e-5)


def test_weights_of_each_object_sum_to_one():
    boxes = [[0, 0, 10, 10]] * 5
    samples = samples_of(
        boxes, torch.rand(5, 4).tolist(), [0.0, 0.1, 0.9, 0.3, 0.5], [0, 0, 2, 1, 2]
    )
    weights = sample_weights(samples, 3)
    sums = torch.zeros(3).index_add_(0, samples.instance_index, weights)
    assert sums.tolist() == pytest.approx([1, 1, 1])
    assert weights[3].item() == pytest.approx(1)


def test_one_mask_for_each_box(detector, pictures, make_targets):
    detector.eval()
    outputs = detector(*pictures)
    crowd = [[x, y, x + 4, y + 3] for x in range(0, 80, 8) for y in range(0, 56, 8)]
    targets = [make_targets(*crowd), make_targets([5, 5, 40, 30], [5, 5, 40, 30])]
    found = masks_for_boxes(detector, outputs, targets)
    count = len(crowd) + 2
    assert found.mask_scores.shape == (count, 16, 24)
    assert found.frames.shape == (count, 4)
    assert ((found.mask_scores >= 0) & (found.mask_scores <= 1 + 1e-5)).all()
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()
    assert not found.mask_scores.requires_grad
    torch.testing.assert_close(found.mask_scores[-1], found.mask_scores[-2])
    detector.train()


@pytest.mark.parametrize("given", [[[], []], [[], [[5, 5, 40, 30]]]])
def test_pictures_without_boxes(detector, pictures, make_targets, given):
    outputs = detector(*pictures)
    found = masks_for_boxes(detector, outputs, [make_targets(*boxes) for boxes in given])
    count = sum(map(len, given))
    assert found.mask_scores.shape == (count, 16, 24)
    assert found.confidence.shape == (count,)


def test_order_of_pictures_does_not_matter(detector, pictures, make_targets):
    images, valid = pictures
    targets = [make_targets([3, 3, 50, 40]), make_targets([5, 5, 40, 30], [20, 2, 50, 35])]
    detector.eval()
    first = masks_for_boxes(detector, detector(images, valid), targets)
    second = masks_for_boxes(detector, detector(images.flip(0), valid.flip(0)), targets[::-1])
    detector.train()
    torch.testing.assert_close(
        first.mask_scores, second.mask_scores[[2, 0, 1]], rtol=1e-3, atol=1e-4
    )
    torch.testing.assert_close(first.confidence, second.confidence[[2, 0, 1]], rtol=1e-3, atol=1e-4)


def test_parts_of_a_crowd_give_the_same_masks(detector, pictures, make_targets, monkeypatch):
    """Neighbours in other parts have their claims too."""
    outputs = detector(*pictures)
    plain = detector.mask_samples

    def ellipses(outputs, assignment):
        samples = plain(outputs, assignment)
        return replace(samples, logits=3 * (1.5 - ellipse_radius(samples)))

    monkeypatch.setattr(detector, "mask_samples", ellipses)
    crowd = [[x, y, x + 24, y + 18] for x in range(0, 60, 12) for y in range(0, 40, 12)]
    targets = [make_targets(*crowd), make_targets([5, 5, 40, 30])]
    whole = list(each_box_mask(detector, outputs, targets))
    parts = list(each_box_mask(detector, outputs, targets, together=4))
    assert any((one.mask_scores < 0.5).any() for one in whole)
    assert len(whole) == len(parts) == len(crowd) + 1
    order = sorted(parts, key=lambda one: (one.image, one.position))
    for one, other in zip(whole, order, strict=True):
        assert (one.image, one.position) == (other.image, other.position)
        torch.testing.assert_close(one.mask_scores, other.mask_scores)


def test_where_boxes_of_a_class_overlap_one_object_owns_a_cell(
    detector, pictures, make_targets, monkeypatch
):
    left, right = [0, 0, 56, 64], [40, 0, 96, 64]
    rows = torch.full((2, 16, 24), -4.0)
    rows[0, :, :12], rows[0, :, 12:14] = 4.0, 1.0  # the left object leaks into the right one
    rows[1, :, 12:] = 4.0
    outputs = detector(*pictures)
    plain = detector.mask_samples

    def drawn(outputs, assignment):
        samples = plain(outputs, assignment)
        return replace(samples, logits=rows[samples.instance_index])

    monkeypatch.setattr(detector, "mask_samples", drawn)
    alike = replace(make_targets(left, right), labels=torch.tensor([1, 1]))
    targets = [alike, make_targets()]
    found = masks_for_boxes(detector, outputs, targets).mask_scores > 0.5
    assert torch.equal(found[0], rows[0] > 2)
    assert torch.equal(found[1], rows[1] > 2)
    other = replace(targets[0], labels=torch.tensor([0, 1]))  # classes may share cells
    shared = masks_for_boxes(detector, outputs, [other, targets[1]]).mask_scores > 0.5
    assert torch.equal(shared[0], rows[0] > 0)
