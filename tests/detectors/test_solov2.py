import math
from dataclasses import replace

import pytest
import torch

from boxmask.backbones.backbone import BackboneSettings
from boxmask.detectors.grid_cells import GridSettings, cell_middles
from boxmask.detectors.solov2 import SOLOv2Settings
from boxmask.detectors.solov2_layers import with_coordinates

GRID = GridSettings(
    sides=(8, 6, 4, 3, 2),
    size_ranges=((1.0, 24.0), (12.0, 48.0), (24.0, 96.0), (48.0, 192.0), (96.0, 512.0)),
)
SETTINGS = SOLOv2Settings(
    num_classes=3,
    backbone=BackboneSettings(pretrained=False),
    grid=GRID,
    pyramid_channels=32,
    tower_channels=32,
    tower_depth=1,
    branch_channels=16,
    mask_channels=8,
    near_cell=True,
    samples_per_image=8,
)
NUM_CELLS = 64 + 36 + 16 + 9 + 4


@pytest.fixture(scope="module", params=[True, False], ids=["near", "published"])
def detector(request):
    torch.manual_seed(0)
    return replace(SETTINGS, near_cell=request.param).build()


@pytest.fixture(scope="module")
def outputs(detector, pictures):
    with torch.no_grad():
        return detector(*pictures)


def test_outputs(detector, outputs):
    near = 5 if detector.settings.near_cell else 0
    assert outputs.class_logits.shape == (2, NUM_CELLS, 3)
    assert outputs.kernels.shape == (2, NUM_CELLS, 8 + near)
    assert outputs.features.shape == (2, 8, 16, 24)  # stride 4
    assert outputs.image_size == (64, 96)
    assert detector.settings.feature_channels == 8
    # Classes start near the prior.
    assert float(outputs.class_logits.sigmoid().mean()) == pytest.approx(0.01, abs=0.005)


def test_odd_numbers_of_coarse_cells(detector):
    outputs = detector(torch.rand(1, 3, 32, 96), torch.ones(1, 32, 96, dtype=torch.bool))
    assert outputs.features.shape == (1, 8, 8, 24)


def test_coordinates():
    found = with_coordinates(torch.zeros(2, 1, 2, 3))
    assert found.shape == (2, 3, 2, 3)
    assert found[1, 1].tolist() == [[-1, 0, 1], [-1, 0, 1]]
    assert found[1, 2].tolist() == [[-1, -1, -1], [1, 1, 1]]


def test_samples_come_from_cells_around_the_middle(detector, outputs, make_targets):
    targets = [make_targets([2, 2, 40, 50], [50, 5, 90, 60]), make_targets([5, 5, 30, 30])]
    assignment = detector.assign(outputs, targets)
    middles = cell_middles(GRID, outputs.image_size, torch.device("cpu"))[assignment.position]
    own = (assignment.boxes[:, :2] + assignment.boxes[:, 2:]) / 2
    assert set(assignment.instance_index.tolist()) == {0, 1, 2}
    assert ((middles - own).abs() <= torch.tensor([96 / 2, 64 / 2])).all()  # a coarse cell at most
    for image in (0, 1):
        assert 0 < (assignment.image_index == image).sum() <= 8


def test_class_loss_by_hand(detector, outputs, make_targets):
    targets = [make_targets([2, 2, 40, 50], labels=[2]), make_targets()]
    assignment = detector.assign(outputs, targets)
    flat = replace(outputs, class_logits=torch.zeros_like(outputs.class_logits))
    loss = detector.detection_losses(flat, assignment, targets)["loss_class"]
    positives = len(assignment.detection.position)
    assert float(loss.count) == positives > 0
    # At score one half: (1/2)^2 ln 2, times 1/4 at positives and 3/4 elsewhere.
    each = 0.25 * math.log(2)
    expected = each * (0.25 * positives + 0.75 * (2 * NUM_CELLS * 3 - positives))
    assert float(loss.total) == pytest.approx(expected, rel=1e-5)


def test_right_classes_cost_nothing(detector, outputs, make_targets):
    targets = [make_targets([2, 2, 40, 50], labels=[2]), make_targets()]
    assignment = detector.assign(outputs, targets)
    logits = torch.full_like(outputs.class_logits, -20.0)
    logits[0, assignment.detection.position, 2] = 20.0
    loss = detector.detection_losses(replace(outputs, class_logits=logits), assignment, targets)
    assert float(loss["loss_class"].total) == pytest.approx(0, abs=1e-6)


def test_a_kernel_draws_the_mask_it_describes(detector, outputs, make_targets):
    targets = [make_targets([20, 10, 70, 50]), make_targets()]
    assignment = detector.assign(outputs, targets)
    kernels = torch.zeros_like(outputs.kernels)
    kernels[0, assignment.position, 1] = 1.0  # the second feature, whose map is drawn here
    features = torch.zeros_like(outputs.features)
    features[0, 1] = -1.0
    features[0, 1, 3:12, 5:17] = 2.0
    drawn = replace(
        outputs, kernels=kernels, features=features,
        class_logits=torch.zeros_like(outputs.class_logits),
    )  # fmt: skip
    samples = detector.mask_samples(drawn, assignment)
    assert torch.equal(samples.logits[0], features[0, 1])
    assert samples.predicted_boxes[0].tolist() == [20, 12, 68, 48]
    # Class score one half times the mean score of the foreground.
    assert float(samples.scores[0]) == pytest.approx(0.5 / (1 + math.exp(-2)))
    teacher = detector.mask_samples(replace(drawn, class_logits=None), assignment)
    assert float(teacher.scores[0]) == pytest.approx(1 / (1 + math.exp(-2)))


def test_a_teacher_needs_no_classes(detector, pictures, make_targets):
    detector.eval()
    with torch.no_grad():
        whole, part = detector(*pictures), detector.mask_outputs(*pictures)
    detector.train()
    assert part.class_logits is None
    assert torch.equal(whole.kernels, part.kernels)
    assert torch.equal(whole.features, part.features)


def test_a_mask_does_not_depend_on_its_company(detector, outputs):
    image_index, position = torch.tensor([0, 0, 1]), torch.tensor([3, 70, 128])
    together = detector.mask_logits(outputs, image_index, position, [2, 1])
    for row, counts in enumerate(([1, 0], [1, 0], [0, 1])):
        one = slice(row, row + 1)
        alone = detector.mask_logits(outputs, image_index[one], position[one], counts)
        torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-5)


def test_crowd_of_equal_boxes(detector, outputs, make_targets):
    targets = [make_targets(*[[10, 10, 60, 50]] * 300), make_targets()]
    trained = detector.assign(outputs, targets)
    assert set(trained.instance_index.tolist()) == {0}  # the first among equals
    asked = detector.assign_every_box(outputs, targets)
    assert asked.instance_index.tolist() == list(range(300))  # one sample for each


def test_detections_find_a_drawn_object(detector, outputs):
    class_logits = torch.full_like(outputs.class_logits, -20.0)
    class_logits[1, 9, 2] = 3.0
    kernels = torch.zeros_like(outputs.kernels)
    kernels[1, 9, 0] = 10.0
    features = torch.full_like(outputs.features, -1.0)
    features[1, 0, 2:6, 4:20] = 1.0  # reaches beyond the picture's 53 columns
    drawn = replace(outputs, class_logits=class_logits, kernels=kernels, features=features)
    first, second = detector.detections(drawn, [(64, 96), (37, 53)])
    assert len(first) == 0
    assert second.boxes.tolist() == [[16, 8, 53, 24]]
    assert second.labels.tolist() == [2]
    expected = 1 / (1 + math.exp(-3)) / (1 + math.exp(-10))
    assert second.scores.tolist() == pytest.approx([expected])
