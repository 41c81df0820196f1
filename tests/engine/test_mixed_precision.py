"""Weak losses see the same under mixed precision: colours and pseudo masks are not rounded."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from boxmask.benchmark.settings import StepCase
from boxmask.benchmark.whole_steps import drawn_batch
from boxmask.box_supervision.correction_steps import self_correction_of
from boxmask.engine.teacher import MovingAverage
from boxmask.engine.training_step import TrainingStep
from boxmask.recipes.models import build_recipe

CASE = StepCase(batch=2, size=(96, 128), num_objects=4)


@pytest.mark.parametrize("method", ["boxinst", "sim"])
@pytest.mark.parametrize("progress", [0.1, 0.4])  # at 0.4 neighbours and pseudo masks count
def test_weak_losses_of_the_same_masks_are_the_same(method, progress):
    torch.manual_seed(0)
    recipe = build_recipe("condinst-lite0", method, 6, pretrained=False)
    detector = recipe.detector.build()
    step = TrainingStep(detector, recipe.build_objective(total_steps=100)).train()
    average = MovingAverage(detector, recipe.average_decay)
    correction = self_correction_of(step.objective)
    if correction is not None:  # noise has no sure objects to find prototypes in
        vectors = correction.bank.vectors
        vectors.copy_(F.normalize(torch.randn_like(vectors), dim=-1))
        correction.bank.updates.fill_(1)
    batch = drawn_batch(CASE, seed=0)
    batch = replace(batch, images=batch.images * 0.2 + 0.4)  # some neighbours are alike
    with torch.no_grad():
        _, context = step(batch, progress, average.model)
    found = []
    for enabled in (False, True):
        fresh = replace(context, progress=progress)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses = step.objective(fresh)
        found.append({name: (loss.total, loss.count) for name, loss in losses.items()})
    assert found[0] == found[1]
    assert found[0]["loss_pairwise"][1] > 0
    if correction is not None and progress > 0.3:
        assert found[0]["loss_pseudo"][1] > 0
