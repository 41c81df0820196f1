"""Which objects and which cells self-correction looks at."""

from dataclasses import replace

import torch
from torch import Tensor

from boxmask.box_supervision.weak_loss import LossContext
from boxmask.ops.masks import sample_at_stride
from boxmask.structures import Batch


def drawn_alone(context: LossContext) -> LossContext:
    """The context without those objects that no sample was drawn for.

    In a crowd most objects have none; looking at all of them would cost more than the network.
    """
    targets = context.batch.targets
    lengths = [len(one) for one in targets]
    index = context.student.instance_index
    if sum(lengths) <= len(index):
        return context
    drawn = torch.zeros(sum(lengths), dtype=torch.bool, device=index.device)
    drawn[index] = True
    place = drawn.cumsum(0) - 1  # of each object among the drawn ones
    kept = tuple(one.select(keep) for one, keep in zip(targets, drawn.split(lengths), strict=True))
    student, teacher = (
        None if samples is None else replace(samples, instance_index=place[samples.instance_index])
        for samples in (context.student, context.teacher)
    )
    assert student is not None
    batch = replace(context.batch, targets=kept)
    return replace(context, batch=batch, student=student, teacher=teacher)


def outside_boxes(batch: Batch, size: tuple[int, ...]) -> Tensor:
    """Cells of pictures whose centre is in no box: (B, h, w) bool.

    Corners are counted and summed up, so that a thousand boxes cost no more than one.
    """
    height, width = size
    stride = batch.images.shape[-1] // width
    corners = torch.zeros(
        (len(batch), height + 1, width + 1), dtype=torch.int64, device=batch.valid.device
    )
    for image, targets in enumerate(batch.targets):
        ends = (targets.boxes / stride - 0.5).ceil().long().clamp(min=0)  # first centre inside
        x1, x2 = ends[:, 0].clamp(max=width), ends[:, 2].clamp(max=width)
        y1, y2 = ends[:, 1].clamp(max=height), ends[:, 3].clamp(max=height)
        for y, x, sign in ((y1, x1, 1), (y1, x2, -1), (y2, x1, -1), (y2, x2, 1)):
            corners[image].index_put_((y, x), torch.full_like(x, sign), accumulate=True)
    covering = corners.cumsum(1).cumsum(2)[:, :height, :width]
    return (covering == 0) & sample_at_stride(batch.valid, stride)
