"""The loss that the docs write in 30 lines works on every architecture."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pytest
import torch
from hosts import NAMES, batch_of, recipe_of, targets_of

from boxmask.engine.training_step import TrainingStep

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture(scope="module")
def example():
    """What the page's first block of Python defines."""
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    defined = {"__name__": "example"}
    exec(compile(code, str(PAGE), "exec"), defined)
    return defined


def test_it_is_short(example):
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    body = code[code.index("@dataclass") : code.index("def with_coverage")]
    assert len([line for line in body.splitlines() if line.strip()]) <= 30


@pytest.mark.parametrize("name", NAMES)
def test_it_teaches_every_architecture(example, name):
    torch.manual_seed(0)
    recipe = example["with_coverage"](recipe_of(name))
    detector = recipe.detector.build().train()
    step = TrainingStep(detector, recipe.build_objective(1000))
    losses, context = step(batch_of([targets_of([2, 2, 40, 50]), targets_of()]), 0.9)
    samples = context.student
    scores = samples.logits.detach().sigmoid()
    boxes = samples.box_masks()
    by_hand = [max(0.3 - float(scores[k][boxes[k]].mean()), 0.0) * 0.5 for k in range(len(samples))]
    expected = sum(by_hand) / len(by_hand)
    assert float(losses["loss_coverage"].detach()) == pytest.approx(expected, abs=1e-5)
    example["CoverageLossSettings"](share=1.0).build()(context).total.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in detector.parameters())
