from dataclasses import replace

import pytest
import torch

from boxmask.detectors.fcos import FCOSSettings


@pytest.fixture(scope="module")
def outputs(detector, pictures):
    with torch.no_grad():
        return detector(*pictures)


def test_outputs(outputs):
    assert [tuple(size) for size in outputs.points.grid.sizes] == [
        (8, 12), (4, 6), (2, 3), (1, 2), (1, 1),
    ]  # fmt: skip
    assert outputs.features.shape == (2, 4, 8, 12)


def test_assignment_binds_samples_to_their_boxes(detector, outputs, make_targets):
    targets = [make_targets([2, 2, 40, 50], [50, 5, 90, 60]), make_targets([5, 5, 30, 30])]
    assignment = detector.assign(outputs, targets)
    boxes = torch.cat([target.boxes for target in targets])
    assert torch.equal(assignment.boxes, boxes[assignment.instance_index])
    assert set(assignment.instance_index.tolist()) == {0, 1, 2}
    assert (assignment.image_index.diff() >= 0).all()
    owner_image = torch.tensor([0, 0, 1])
    assert torch.equal(assignment.image_index, owner_image[assignment.instance_index])
    points = outputs.points.grid.points[assignment.position]
    assert ((points > assignment.boxes[:, :2]) & (points < assignment.boxes[:, 2:])).all()
    for image, limit in ((0, 8), (1, 8)):
        assert (assignment.image_index == image).sum() <= limit


def test_assignment_reads_no_masks(detector, outputs, make_targets):
    targets = [make_targets([2, 2, 40, 50]), make_targets()]
    masked = [
        type(one)(
            boxes=one.boxes,
            labels=one.labels,
            tight=one.tight,
            masks=torch.rand(len(one), 64, 96) < 0.5,
            trusted=torch.ones(len(one), dtype=torch.bool),
        )
        for one in targets
    ]
    first, second = detector.assign(outputs, targets), detector.assign(outputs, masked)
    assert torch.equal(first.position, second.position)


def test_mask_samples(detector, outputs, make_targets):
    targets = [make_targets([2, 2, 40, 50]), make_targets([5, 5, 30, 30])]
    assignment = detector.assign(outputs, targets)
    samples = detector.mask_samples(outputs, assignment)
    assert samples.logits.shape == (len(assignment), 16, 24)  # stride 4
    assert samples.frames[0].tolist() == [0, 0, 96, 64]
    assert ((samples.scores >= 0) & (samples.scores <= 1)).all()
    assert torch.equal(samples.instance_index, assignment.instance_index)
    # One sample alone gives the mask it gives beside others.
    alone = detector.heads.mask_logits(
        outputs, assignment.image_index[-1:], assignment.position[-1:]
    )
    torch.testing.assert_close(alone[0], samples.logits[-1], rtol=1e-4, atol=1e-5)


def test_pictures_of_a_batch_do_not_see_each_other(detector, pictures):
    images, valid = pictures
    detector.eval()
    with torch.no_grad():
        both = detector(images, valid)
        second = detector(images[1:], valid[1:])
    detector.train()
    torch.testing.assert_close(both.features[1:], second.features, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        both.points.class_logits[1:], second.points.class_logits, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("given", [[[], []], [[], [[5, 5, 30, 30]]]])
def test_pictures_without_boxes(detector, pictures, make_targets, given):
    outputs = detector(*pictures)
    targets = [make_targets(*boxes) for boxes in given]
    assignment = detector.assign(outputs, targets)
    samples = detector.mask_samples(outputs, assignment)
    losses = detector.detection_losses(outputs, assignment, targets)
    total = sum(loss.total for loss in losses.values()) + samples.logits.sum() * 0
    detector.zero_grad()
    total.backward()
    gradients = [p.grad for p in detector.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    if not any(given):
        assert len(assignment) == len(samples) == 0
        assert samples.logits.shape == (0, 16, 24)


def test_every_box_gets_a_sample(detector, outputs, make_targets):
    crowd = [[x, y, x + 3, y + 2] for x in range(0, 90, 10) for y in range(0, 60, 20)]
    same = [[10, 10, 60, 50]] * 3
    targets = [make_targets(*crowd), make_targets([0, 0, 96, 64], *same, [1, 1, 1.5, 1.2])]
    assignment = detector.assign_every_box(outputs, targets)
    count = sum(len(one) for one in targets)
    assert set(assignment.instance_index.tolist()) == set(range(count))
    samples = detector.mask_samples(outputs, assignment)
    assert samples.logits.isfinite().all()
    nothing = detector.assign_every_box(outputs, [make_targets(), make_targets()])
    assert len(nothing) == 0


def test_detections(detector, outputs):
    loose = FCOSSettings(tower_depth=1, score_threshold=0.0, max_detections=5)
    settings = detector.heads.settings
    try:
        object.__setattr__(settings, "fcos", loose)
        found = detector.detections(outputs, [(64, 96), (37, 53)])
    finally:
        object.__setattr__(settings, "fcos", FCOSSettings(tower_depth=1))
    assert len(found) == 2
    for one, (height, width) in zip(found, [(64, 96), (37, 53)], strict=True):
        assert len(one) <= 5
        assert one.image_size == (height, width)
        assert (one.boxes[:, 2] <= width).all()
        assert (one.boxes[:, 3] <= height).all()
        assert (one.boxes[:, 2:] > one.boxes[:, :2]).all()
        assert (one.scores.diff() <= 0).all()
        assert one.mask_scores.shape == (len(one), 16, 24)


def test_no_detections(detector, outputs):
    found = detector.detections(outputs, [(64, 96), (37, 53)])  # scores start near 0.01
    assert [len(one) for one in found] == [0, 0]
    assert found[0].mask_scores.shape == (0, 16, 24)


def test_masks_are_float32_under_autocast(detector, pictures, make_targets):
    targets = [make_targets([2, 2, 40, 50]), make_targets()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = detector(*pictures)
        samples = detector.mask_samples(outputs, detector.assign(outputs, targets))
    assert samples.logits.dtype == torch.float32
    assert samples.predicted_boxes.dtype == torch.float32
    assert samples.scores.dtype == torch.float32
    assert not samples.scores.requires_grad


def test_same_weights_after_saving(detector, small_settings, pictures):
    other = small_settings.build()
    other.load_state_dict(detector.state_dict())
    detector.eval()
    other.eval()
    with torch.no_grad():
        first, second = detector(*pictures), other(*pictures)
    detector.train()
    assert torch.equal(first.features, second.features)
    assert torch.equal(first.points.ltrb, second.points.ltrb)


def test_fine_masks(small_settings, pictures, make_targets):
    fine = replace(small_settings, fine_masks=True).build()
    outputs = fine(*pictures)
    assert outputs.features.shape == (2, 4, 16, 24)  # stride 4
    assignment = fine.assign(outputs, [make_targets([2, 2, 40, 50]), make_targets()])
    samples = fine.mask_samples(outputs, assignment)
    assert samples.logits.shape == (len(assignment), 16, 24)
    assert samples.frames[0].tolist() == [0, 0, 96, 64]
    samples.logits.square().sum().backward()
    assert fine.backbone.body.conv_stem.weight.grad.isfinite().all()
