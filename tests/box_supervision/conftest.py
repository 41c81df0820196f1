"""Batches and mask samples for weak losses, made by hand."""

import pytest
import torch

from boxmask.box_supervision.weak_loss import LossContext
from boxmask.structures import Batch, MaskSamples, Targets

STRIDE = 4


@pytest.fixture
def make_context():
    """Makes the context of samples with given logits, one object each, in image 0 if not told."""

    def make(logits, boxes, *, images=None, valid=None, targets=None, tight=None, image_index=None):
        count, height, width = logits.shape
        boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        size = (height * STRIDE, width * STRIDE)
        if images is None:
            images = torch.full((1, 3, *size), 0.5)
        if valid is None:
            valid = torch.ones((len(images), *size), dtype=torch.bool)
        if image_index is None:
            image_index = torch.zeros(len(boxes), dtype=torch.int64)
        if targets is None:
            labels = torch.zeros(len(boxes), dtype=torch.int64)
            everything = Targets.from_boxes(boxes, labels)
            targets = tuple(everything.select(image_index == i) for i in range(len(images)))
        batch = Batch(
            images=images,
            valid=valid,
            targets=targets,
            image_sizes=(size,) * len(images),
            scales=torch.ones(len(images), 2),
            indices=tuple(range(len(images))),
        )
        student = MaskSamples(
            logits=logits,
            boxes=boxes,
            tight=torch.ones(count, 2, dtype=torch.bool) if tight is None else tight,
            labels=torch.zeros(count, dtype=torch.int64),
            image_index=image_index,
            instance_index=torch.arange(count),
            frames=torch.tensor([0.0, 0, size[1], size[0]]).expand(count, 4),
            predicted_boxes=boxes,
            scores=torch.ones(count),
        )
        return LossContext(batch=batch, student=student, teacher=None, progress=0.5)

    return make
