"""Which objects self-correction looks at."""

from dataclasses import replace

import torch

from boxmask.box_supervision.weak_loss import LossContext
from boxmask.waitless import send


def drawn_alone(context: LossContext) -> LossContext:
    """The context without those objects that no sample was drawn for.

    In a crowd most objects have none; looking at all of them would cost more than the network.
    """
    targets = context.batch.targets
    lengths = [len(one) for one in targets]
    if sum(lengths) <= len(context.student):
        return context
    index = context.student.instances_on_host
    drawn = torch.zeros(sum(lengths), dtype=torch.bool)
    drawn[index] = True
    place = (drawn.cumsum(0) - 1)[index]  # of each sample's object among the drawn ones
    kept = tuple(
        one.select(keep.nonzero().squeeze(-1))
        for one, keep in zip(targets, drawn.split(lengths), strict=True)
    )
    sent = send(place, context.student.logits.device)
    student, teacher = (
        None if samples is None else replace(samples, instance_index=sent, host_index=place)
        for samples in (context.student, context.teacher)
    )
    assert student is not None
    batch = replace(context.batch, targets=kept)
    batch.remember(replace(context.batch.host, targets=tuple(one.host for one in kept)))
    alone = replace(context, batch=batch, student=student, teacher=teacher)
    alone.share_lab(context)  # the pictures are the same
    return alone
