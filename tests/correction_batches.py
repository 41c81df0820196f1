"""Batches, samples and losses for tests of self-correction."""

import torch

from boxmask.box_supervision.self_correction_loss import SelfCorrectionSettings
from boxmask.box_supervision.weak_loss import LossContext
from boxmask.structures import Batch, MaskSamples, Targets

HEIGHT, WIDTH, CELL = 16, 20, 4


def batch_with(*boxes_of_images):
    targets = []
    for boxes in boxes_of_images:
        rows = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        targets.append(Targets.from_boxes(rows, torch.zeros(len(rows), dtype=torch.int64)))
    count = len(targets)
    size = (HEIGHT * CELL, WIDTH * CELL)
    return Batch(
        # Their own numbers: a batch that is made where tests are collected finds any.
        images=torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0)),
        valid=torch.ones(count, *size, dtype=torch.bool),
        targets=tuple(targets),
        image_sizes=(size,) * count,
        scales=torch.ones(count, 2),
        indices=tuple(range(count)),
    )


def samples_for(batch, repeats=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.cat([t.boxes for t in batch.targets])
    image = torch.arange(len(batch)).repeat_interleave(
        torch.tensor([len(t) for t in batch.targets])
    )
    logits = torch.randn(len(boxes), HEIGHT, WIDTH, generator=generator) * 4
    features = torch.randn(len(batch), 8, HEIGHT // 2, WIDTH // 2, generator=generator)
    index = torch.arange(len(boxes)).repeat_interleave(repeats)
    frame = torch.tensor([0.0, 0.0, WIDTH * CELL, HEIGHT * CELL])
    return MaskSamples(
        logits=logits[index].requires_grad_(True),
        boxes=boxes[index],
        tight=torch.ones(len(index), 2, dtype=torch.bool),
        labels=torch.zeros(len(index), dtype=torch.int64),
        image_index=image[index],
        instance_index=index,
        frames=frame.expand(len(index), 4),
        predicted_boxes=boxes[index],
        scores=torch.ones(len(index)),
        features=features,
    )


def context_for(batch, *, progress=0.5, repeats=1):
    student, teacher = samples_for(batch, repeats), samples_for(batch, repeats, seed=1)
    return LossContext(batch=batch, student=student, teacher=teacher, progress=progress)


BATCH = batch_with([[4, 4, 40, 50]], [[8, 8, 60, 60], [30, 10, 76, 40]])


def build(**settings):
    return SelfCorrectionSettings(num_classes=2, channels=8, **settings).build()
