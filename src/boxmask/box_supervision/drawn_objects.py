"""Which objects self-correction looks at."""

from dataclasses import replace

import torch

from boxmask.box_supervision.weak_loss import LossContext


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
    alone = replace(context, batch=batch, student=student, teacher=teacher)
    alone.share_lab(context)  # the pictures are the same
    return alone
