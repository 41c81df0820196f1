"""Scoring a detector: a detector that knows the truth scores 1, whatever the resizing."""

import warnings

import numpy as np
import pytest
import torch

from boxmask.data.folder import read_data
from boxmask.data.masks import encode_mask
from boxmask.data.synthetic import SyntheticSettings, write_synthetic
from boxmask.detectors.detector import Detector, SampleAssignment
from boxmask.evaluation.scorer import SplitScoring, boxes_around
from boxmask.structures import Detections, MaskSamples


class Oracle(Detector):
    """Gives the true masks of the records in the order that batches come in."""

    def __init__(self, truth):
        super().__init__()
        self.num_classes = 3
        self.truth = truth  # image bytes -> (masks at input size)

    def forward(self, images, valid, frozen=None):
        return [self.truth(image, inside) for image, inside in zip(images, valid, strict=True)]

    def assign(self, outputs, targets):
        return self.assign_every_box(outputs, targets)

    def assign_every_box(self, outputs, targets):
        counts = [len(target) for target in targets]
        index = torch.arange(sum(counts))
        return SampleAssignment(
            position=index,
            image_index=torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)),
            instance_index=index,
            boxes=torch.cat([t.boxes for t in targets]),
            tight=torch.cat([t.tight for t in targets]),
            labels=torch.cat([t.labels for t in targets]),
        )

    def detection_losses(self, outputs, assignment, targets):
        return {}

    def mask_samples(self, outputs, assignment):
        size = [max(m.shape[i] for m in outputs) for i in (1, 2)]
        masks = torch.zeros((len(assignment), *size))
        row = 0
        for image in outputs:
            masks[row : row + len(image), : image.shape[1], : image.shape[2]] = image.float()
            row += len(image)
        frame = torch.tensor([0.0, 0.0, size[1], size[0]]).expand(len(masks), 4)
        return MaskSamples(
            logits=(masks - 0.5) * 40,
            boxes=assignment.boxes,
            tight=assignment.tight,
            labels=assignment.labels,
            image_index=assignment.image_index,
            instance_index=assignment.instance_index,
            frames=frame,
            predicted_boxes=assignment.boxes,
            scores=torch.ones(len(masks)),
        )

    def detections(self, outputs, image_sizes):
        none = torch.zeros((0, 4))
        return [
            Detections(
                boxes=none, scores=none[:, 0], labels=none[:, 0].long(),
                mask_scores=torch.zeros((0, 2, 2)), frames=none, image_size=size,
            )
            for size in image_sizes
        ]  # fmt: skip


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    out = tmp_path_factory.mktemp("shapes")
    write_synthetic(out, SyntheticSettings(num_train=1, num_val=5, image_size=(96, 128)))
    data = read_data(out)
    return data.splits["val"].records, data.class_names


def true_masks_by_picture(records):
    from boxmask.data.masks import decode_segmentation
    from boxmask.data.pictures import read_picture

    known = []
    for record in records:
        picture = torch.from_numpy(read_picture(record.path).copy()).permute(2, 0, 1) / 255
        masks = [decode_segmentation(s, record.image_size) for s in record.segmentations]
        known.append((picture, torch.from_numpy(np.stack(masks))))

    def find(image, inside):
        height, width = int(inside[:, 0].sum()), int(inside[0].sum())
        for picture, masks in known:
            if picture.shape[1:] == (height, width) and torch.allclose(
                picture, image[:, :height, :width], atol=1e-6
            ):
                return masks
        raise AssertionError("a picture that is in no record")

    return find


def test_true_masks_give_label_iou_one(split):
    records, names = split
    scoring = SplitScoring(records=records, class_names=names, image_size=96)
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metrics = scoring(Oracle(true_masks_by_picture(records)), torch.device("cpu"), seen.append)
    assert metrics["label_iou"] == pytest.approx(1.0)
    assert metrics["box_tightness"] == pytest.approx(1.0)
    assert metrics["box_ap"] == 0.0
    assert sorted(result.index for result in seen) == list(range(len(records)))
    assert all(len(r.label_rles) == len(records[r.index]) for r in seen)


def test_masks_are_not_read_when_they_may_not(split):
    records, names = split
    scoring = SplitScoring(records=records, class_names=names, image_size=96, use_masks=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metrics = scoring(Oracle(true_masks_by_picture(records)), torch.device("cpu"))
    assert "label_iou" not in metrics
    assert "fill" in metrics


def rectangle(x1, y1, x2, y2):
    mask = np.zeros((30, 40), dtype=bool)
    mask[y1:y2, x1:x2] = True
    return encode_mask(mask)


def test_boxes_are_those_around_masks_where_both_mean_the_same_object():
    boxes = np.array([[4.2, 5.1, 19, 18], [0, 0, 30, 20], [1, 2, 3, 4]], dtype=np.float32)
    rles = [rectangle(5, 4, 20, 17), rectangle(0, 0, 5, 5), rectangle(0, 0, 0, 0)]
    expected = [[5, 4, 20, 17], boxes[1], boxes[2]]  # one mask is a corner only, one is empty
    np.testing.assert_array_equal(boxes_around(boxes, rles), expected)


def test_no_object_has_no_box():
    assert boxes_around(np.zeros((0, 4), dtype=np.float32), []).shape == (0, 4)
