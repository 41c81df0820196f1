import pytest
import torch
from torchvision.ops import box_iou

from boxmask.detectors.fcos import FCOSSettings, PointOutputs
from boxmask.detectors.point_detections import best_points, point_boxes
from boxmask.ops.points import point_grid

CPU = torch.device("cpu")


def outputs_of(classes=3):
    grid = point_grid([(6, 8), (3, 4)], [8, 16], CPU)
    count = len(grid.points)
    return PointOutputs(
        class_logits=torch.randn(2, count, classes) * 2,
        ltrb=torch.rand(2, count, 4) * 3,
        centerness_logits=torch.randn(2, count) * 2,
        towers=[],
        grid=grid,
    )


def slow_detections(outputs, image, size, settings):
    """(score, label, position, box), best first: every step one by one."""
    found = []
    for level in range(2):
        on_level = []
        for position in (outputs.grid.levels == level).nonzero().flatten().tolist():
            x, y = outputs.grid.points[position].tolist()
            stride = float(outputs.grid.strides[position])
            left, top, right, bottom = (outputs.ltrb[image, position] * stride).tolist()
            box = [
                min(max(x - left, 0), size[1]), min(max(y - top, 0), size[0]),
                min(max(x + right, 0), size[1]), min(max(y + bottom, 0), size[0]),
            ]  # fmt: skip
            center = float(outputs.centerness_logits[image, position].sigmoid())
            for label, score in enumerate(outputs.class_logits[image, position].sigmoid().tolist()):
                if score * center > settings.score_threshold:
                    on_level.append(((score * center) ** 0.5, label, position, box))
        found += sorted(on_level, reverse=True)[: settings.num_before_nms]
    kept = []
    for one in sorted(found, reverse=True):
        overlaps = [
            float(box_iou(torch.tensor([one[3]]), torch.tensor([other[3]])))
            for other in kept
            if other[1] == one[1]
        ]
        if not any(overlap > settings.nms_threshold for overlap in overlaps):
            kept.append(one)
    return kept[: settings.max_detections]


@pytest.mark.parametrize(
    "settings",
    [FCOSSettings(), FCOSSettings(nms_threshold=0.1, num_before_nms=9, max_detections=7)],
)
@pytest.mark.parametrize("image", [0, 1])
def test_equals_the_steps_one_by_one(settings, image):
    outputs = outputs_of()
    size = (37, 53)
    position, boxes, scores, labels = best_points(outputs, image, size, settings)
    expected = slow_detections(outputs, image, size, settings)
    assert len(expected) > 5
    assert position.tolist() == [one[2] for one in expected]
    assert labels.tolist() == [one[1] for one in expected]
    assert scores.tolist() == pytest.approx([one[0] for one in expected], abs=1e-5)
    torch.testing.assert_close(boxes, torch.tensor([one[3] for one in expected]))


def test_nothing_found():
    settings = FCOSSettings(score_threshold=0.9999)
    position, boxes, scores, labels = best_points(outputs_of(), 0, (37, 53), settings)
    assert position.shape == scores.shape == labels.shape == (0,)
    assert boxes.shape == (0, 4)


def test_boxes_of_points():
    outputs = outputs_of()
    box = point_boxes(outputs, torch.tensor([1]), torch.tensor([49]))[0]
    left, top, right, bottom = (outputs.ltrb[1, 49] * 16).tolist()
    assert box.tolist() == pytest.approx([24 - left, 8 - top, 24 + right, 8 + bottom], abs=1e-5)
