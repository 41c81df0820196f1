"""A step on a GPU never makes the host wait, as CUDA itself counts; see also `test_absent_gpu`."""

import pytest
import torch

from boxmask.benchmark.settings import StepCase
from boxmask.benchmark.whole_steps import drawn_batch
from boxmask.engine.teacher import MovingAverage
from boxmask.engine.training_step import TrainingStep
from boxmask.recipes.models import build_recipe


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["boxinst", "sim"])
def test_waits_on_a_gpu(method, recwarn):
    device = torch.device("cuda")
    for pictures, objects in ((2, 2), (5, 20)):
        recipe = build_recipe("condinst-lite0", method, 6, pretrained=False)
        detector = recipe.detector.build().to(device)
        step = TrainingStep(detector, recipe.build_objective(total_steps=100)).to(device).train()
        average = MovingAverage(detector, recipe.average_decay).to(device)
        case = StepCase(batch=pictures, size=(96, 128), num_objects=objects)
        for number in range(3):  # the first makes what is made once, the second records
            batch = drawn_batch(case, seed=number).to(device)
            recwarn.clear()
            torch.cuda.set_sync_debug_mode("warn")
            losses, context = step(batch, 0.5, average.model)
            torch.stack(list(losses.values())).sum().backward()
            average.update(detector)
            step.objective.update(context)
            torch.cuda.set_sync_debug_mode("default")
        assert not [w for w in recwarn if "synchronizing" in str(w.message)]
