"""What is special for Mask R-CNN; the contract of all detectors is tested elsewhere."""

import pytest
import torch

from boxmask.backbones.backbone import BackboneSettings
from boxmask.detectors.mask_rcnn import MaskRCNNSettings
from boxmask.detectors.region_boxes import RegionSettings
from boxmask.detectors.region_proposals import ProposalSettings


@pytest.fixture(scope="module")
def small_settings():
    return MaskRCNNSettings(
        num_classes=3,
        backbone=BackboneSettings(pretrained=False),
        proposals=ProposalSettings(
            anchor_sizes=(8, 16, 32, 64, 128), num_before_nms=100, num_proposals=50
        ),
        regions=RegionSettings(hidden_channels=16, canonical_size=56.0, samples_per_image=240),
        pyramid_channels=16,
        mask_channels=8,
        mask_depth=1,
        mask_cells=7,
        samples_per_image=4,
    )


@pytest.fixture(scope="module")
def detector(small_settings):
    torch.manual_seed(0)
    return small_settings.build()


@pytest.fixture(scope="module")
def outputs(detector, pictures):
    with torch.no_grad():
        return detector(*pictures)


def test_outputs(outputs):
    sizes = [tuple(level.shape) for level in outputs.levels]
    assert sizes == [
        (2, 16, 16, 24), (2, 16, 8, 12), (2, 16, 4, 6), (2, 16, 2, 3), (2, 16, 1, 2),
    ]  # fmt: skip
    assert outputs.image_sizes == ((64, 96), (37, 53))


def test_samples_are_regions_near_their_boxes(detector, outputs, make_targets):
    targets = [make_targets([2, 2, 40, 50], [50, 5, 90, 60]), make_targets([5, 5, 30, 30])]
    assignment = detector.assign(outputs, targets)
    regions = assignment.detection.regions[assignment.position]
    for region, box in zip(regions, assignment.boxes, strict=True):
        corner, opposite = torch.maximum(region[:2], box[:2]), torch.minimum(region[2:], box[2:])
        shared = (opposite - corner).clamp(min=0).prod()
        areas = (region[2:] - region[:2]).prod() + (box[2:] - box[:2]).prod()
        assert shared / (areas - shared) >= 0.5
    labels = assignment.detection.categories[assignment.position] - 1
    assert torch.equal(labels, assignment.labels)
    assert set(assignment.instance_index.tolist()) == {0, 1, 2}
    assert (torch.bincount(assignment.image_index) <= 4).all()


def test_every_box_is_its_own_region(detector, outputs, make_targets):
    boxes = [[0, 0, 96, 64], [10, 10, 60, 50], [10, 10, 60, 50], [1, 1, 1.5, 1.2]]
    assignment = detector.assign_every_box(outputs, [make_targets(*boxes), make_targets()])
    assert assignment.instance_index.tolist() == [0, 1, 2, 3]
    regions = assignment.detection.regions[assignment.position]
    assert regions[:3].tolist() == boxes[:3]
    assert regions[3].tolist() == pytest.approx([0.75, 0.6, 1.75, 1.6])


def test_masks_are_clear_background_outside_their_regions(detector, outputs, make_targets):
    assignment = detector.assign_every_box(outputs, [make_targets([20, 20, 60, 40])] * 2)
    samples = detector.mask_samples(outputs, assignment)
    region = [16, 16, 64, 44]  # one cell, or a tenth of a side, on each side
    logits = samples.logits[0]
    inside = torch.zeros(16, 24, dtype=torch.bool)
    inside[region[1] // 4 : region[3] // 4, region[0] // 4 : region[2] // 4] = True
    assert (logits[~inside] == -6).all()
    assert (logits[inside] != -6).all()
    clipped = samples.logits[1]  # the second picture ends at 53 x 37 pixels
    assert (clipped[:, 13:] == -6).all()
    assert (clipped[9:] == -6).all()
    assert (clipped[4:9, 4:13] != -6).all()


def test_each_class_has_a_mask_of_its_own(detector, outputs, make_targets):
    boxes = [[20, 20, 60, 40]] * 2
    assignment = detector.assign_every_box(
        outputs, [make_targets(*boxes, labels=[0, 2]), make_targets()]
    )
    samples = detector.mask_samples(outputs, assignment)
    assert not torch.allclose(samples.logits[0], samples.logits[1])


def test_tiny_boxes_have_cells_that_can_learn(detector, pictures, make_targets):
    outputs = detector(*pictures)
    corners = [[0, 0, 0.5, 0.5], [95.5, 63.5, 96, 64], [41, 30, 41.2, 30.2]]
    assignment = detector.assign_every_box(outputs, [make_targets(*corners), make_targets()])
    samples = detector.mask_samples(outputs, assignment)
    known = (samples.logits != -6) & samples.box_masks()
    assert known.flatten(1).any(dim=1).all()


def test_teacher_looks_at_the_student_s_regions(detector, small_settings, pictures, make_targets):
    torch.manual_seed(1)
    teacher = small_settings.build().eval()
    targets = [make_targets([2, 2, 40, 50]), make_targets([5, 5, 30, 30])]
    with torch.no_grad():
        assignment = detector.assign(detector(*pictures), targets)
        outputs = teacher.mask_outputs(*pictures)
        samples = teacher.mask_samples(outputs, assignment)
        student = detector.mask_samples(detector.mask_outputs(*pictures), assignment)
    assert outputs.anchors is None
    assert torch.equal(samples.logits == -6, student.logits == -6)
    assert torch.equal(samples.instance_index, assignment.instance_index)


def test_pictures_of_a_batch_do_not_see_each_other(detector, pictures, make_targets):
    images, valid = pictures
    given = [make_targets([2, 2, 40, 50]), make_targets([5, 5, 30, 30])]
    detector.eval()
    with torch.no_grad():
        both = detector(images, valid)
        alone = detector(images[1:], valid[1:])
        first = detector.mask_samples(both, detector.assign_every_box(both, given))
        second = detector.mask_samples(alone, detector.assign_every_box(alone, given[1:]))
    detector.train()
    torch.testing.assert_close(
        both.anchors.proposals[1], alone.anchors.proposals[0], rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(first.logits[1:], second.logits, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(first.predicted_boxes[1:], second.predicted_boxes)


def test_pictures_without_boxes_teach_background(detector, pictures, make_targets):
    outputs = detector(*pictures)
    targets = [make_targets(), make_targets()]
    assignment = detector.assign(outputs, targets)
    losses = detector.detection_losses(outputs, assignment, targets)
    assert set(losses) == {"loss_objectness", "loss_rpn_box", "loss_class", "loss_box"}
    assert losses["loss_class"].total.item() > 0
    assert losses["loss_box"].total.item() == losses["loss_rpn_box"].total.item() == 0
    samples = detector.mask_samples(outputs, assignment)
    detector.zero_grad()
    (sum(loss.total for loss in losses.values()) + samples.logits.sum()).backward()
    learning = [p for p in detector.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learning)


def test_found_masks_cover_regions_around_their_boxes(detector, outputs):
    found = detector.detections(outputs, [(64, 96), (37, 53)])
    for one, (height, width) in zip(found, [(64, 96), (37, 53)], strict=True):
        assert len(one) > 0
        assert one.mask_scores.shape == (len(one), 14, 14)
        assert (one.frames[:, :2] <= one.boxes[:, :2]).all()
        assert (one.frames[:, 2:] >= one.boxes[:, 2:]).all()
        assert (one.frames[:, 2] <= width).all()
        assert (one.frames[:, 3] <= height).all()
        assert (one.scores.diff() <= 0).all()
