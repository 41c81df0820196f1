"""Small objects, boxes and pictures, written down by hand."""

import torch

from boxmask.box_supervision.cut_out import CutOut
from boxmask.structures import Batch, Targets


def block(x, y, width=6, height=6, label=1, score=0.9, color=200):
    return CutOut(
        picture=torch.full((3, height, width), color, dtype=torch.uint8),
        mask=torch.ones((height, width), dtype=torch.bool),
        corner=(x, y), label=label, score=score,
    )  # fmt: skip


def boxes_only(*boxes):
    rows = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Targets.from_boxes(rows, torch.zeros(len(rows), dtype=torch.int64))


def batch_of(targets, height=20, width=24):
    images = torch.zeros((len(targets), 3, height, width))
    return Batch(
        images=images,
        valid=torch.ones((len(targets), height, width), dtype=torch.bool),
        targets=tuple(targets),
        image_sizes=((height, width),) * len(targets),
        scales=torch.ones(len(targets), 2),
        indices=tuple(range(len(targets))),
    )
