"""Thin lines that touch all sides are a resting point of BoxInst's terms; the guard leads out."""

from dataclasses import replace

import pytest
import torch

from boxmask.box_supervision.objective import Objective
from boxmask.box_supervision.weak_loss import LossContext
from boxmask.recipes.box_losses import boxinst_losses
from boxmask.recipes.box_settings import BoxInstSettings
from boxmask.structures import Batch, MaskSamples, Targets

BOX = torch.tensor([[16.0, 16, 80, 80]])


def disc():
    """A noisy picture (1, 3, 96, 96) of a light disc on dark ground."""
    random = torch.Generator().manual_seed(0)
    down, across = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    inside = (down - 48).square() + (across - 48).square() < 32**2
    picture = torch.where(inside, 0.8, 0.2).expand(1, 3, 96, 96)
    return (picture + 0.15 * torch.randn(picture.shape, generator=random)).clamp(0, 1)


def context_of(logits, progress):
    image = torch.zeros(1, dtype=torch.int64)
    batch = Batch(
        images=disc(),
        valid=torch.ones(1, 96, 96, dtype=torch.bool),
        targets=(Targets.from_boxes(BOX, image),),
        image_sizes=((96, 96),),
        scales=torch.ones(1, 2),
        indices=(0,),
    )
    student = MaskSamples(
        logits=logits,
        boxes=BOX,
        tight=torch.ones(1, 2, dtype=torch.bool),
        labels=image,
        image_index=image,
        instance_index=image,
        frames=torch.tensor([[0.0, 0, 96, 96]]),
        predicted_boxes=BOX,
        scores=torch.ones(1),
    )
    return LossContext(batch=batch, student=student, teacher=None, progress=progress)


def fill_after_learning(guard_fill):
    """Share of the box that a mask covers which began as a thin cross and learned for 200 steps."""
    losses, terms = boxinst_losses(BoxInstSettings(guard_fill=guard_fill))
    objective = Objective(
        {name: settings.build() for name, settings in losses.items()},
        {name: term.stretched(0.04) for name, term in terms.items()},
    )
    logits = torch.full((1, 24, 24), -5.0)
    logits[0, 12, 4:20] = logits[0, 4:20, 12] = 5.0
    logits.requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for step in range(200):
        context = context_of(logits, progress=0.1 + step / 500)
        losses = objective.reduce(objective(context), context.progress)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        objective.update(replace(context, student=replace(context.student, logits=logits.detach())))
    return (logits[0, 4:20, 4:20] > 0).float().mean().item()


def test_thin_lines_stay_without_the_guard_and_become_a_disc_with_it():
    assert fill_after_learning(0.0) < 0.2
    assert fill_after_learning(0.3) == pytest.approx(torch.pi / 4, abs=0.06)
