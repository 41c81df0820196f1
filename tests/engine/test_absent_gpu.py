"""Steps whose tensors are on a GPU that is not there: none mixes devices, none waits for it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from absent_gpu import absent_gpu, move
from boxmask.benchmark.settings import StepCase
from boxmask.benchmark.whole_steps import drawn_batch
from boxmask.box_supervision.correction_steps import correction_steps, self_correction_of
from boxmask.box_supervision.cut_out import CutOut
from boxmask.box_supervision.pasting import LeastVisible
from boxmask.detectors.given_boxes import masks_for_boxes
from boxmask.engine.teacher import MovingAverage
from boxmask.engine.training_step import TrainingStep
from boxmask.ops import dynamic_mask, fused
from boxmask.recipes.models import build_recipe
from boxmask.structures import Batch

CASE = StepCase(batch=2, size=(96, 128), num_objects=3)


def without_layers(rows: Tensor, layers: tuple[Tensor, ...], image_index: Tensor) -> Tensor:
    """Stands for the head's kernel, which only a GPU can run."""
    assert all(one.device == rows.device for one in (*layers, image_index))
    return rows.new_zeros(len(image_index), rows.shape[2]) + rows.sum()


def one_object() -> CutOut:
    return CutOut(
        picture=torch.zeros((3, 8, 8), dtype=torch.uint8),
        mask=torch.ones((8, 8), dtype=torch.bool),
        corner=(4, 4), label=1, score=0.9,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def no_kernels(monkeypatch):
    monkeypatch.setattr(fused, "_tried", lambda kernels, device: False)
    monkeypatch.setattr(dynamic_mask, "three_layers", without_layers)


# Of Mask2Former's decoder; the wait for its matching's costs, which is no plain copy, is not seen.
WAITS = {"condinst-lite0": 0, "solov2-lite0": 0, "mask2former-lite0": 8}


# A decoder of many operators; what it does with few objects is done with a crowd, too.
SLOW = pytest.param("mask2former-lite0", 3, id="mask2former-lite0-few", marks=pytest.mark.slow)
CASES = [
    pytest.param(model, objects, id=f"{model}-{name}")
    for model in WAITS
    for objects, name in ((0, "none"), (3, "few"), (70, "crowd"))
    if (model, objects) != ("mask2former-lite0", 3)
]


@pytest.mark.parametrize("method", ["boxinst", "sim", "full"])
@pytest.mark.parametrize(("model", "objects"), [*CASES, SLOW])
def test_a_step_mixes_no_devices_and_waits_for_nothing(model, method, objects):
    recipe = build_recipe(model, method, 6, pretrained=False)
    step = TrainingStep(recipe.detector.build(), recipe.build_objective(total_steps=100)).train()
    average = MovingAverage(step.detector, recipe.average_decay)
    correction = self_correction_of(step.objective)
    if correction is not None:
        assert correction.paste_bank is not None
        settings = replace(
            correction.paste_bank.settings, visible=LeastVisible(side=0.0), probability=1.0
        )
        correction.paste_bank.settings = settings
        for _ in range(settings.capacity):
            correction.paste_bank.remember((one_object(), one_object()))
    batch = drawn_batch(replace(CASE, num_objects=objects), seed=0)
    if method == "full":
        batch = with_masks(batch)
    with absent_gpu() as gpu:
        move(step, gpu.device)
        move(average, gpu.device)
        batch = batch.to(gpu.device, non_blocking=True)
        for progress in (0.1, 0.5, 0.9):
            gpu.waits.clear()
            losses, context = step(batch, progress, average.model)
            with_a_mask = any(one.masks is not None for one in context.batch.targets)
            assert with_a_mask == (method == "full" or (method == "sim" and progress == 0.5))
            average.update(step.detector)
            step.objective.update(context)
            told = {**losses, **step.objective.report(), "fill": context.student.mean_fill}
            assert {one.device.type for one in told.values()} == {"cuda"}
            assert gpu.waits.total() <= WAITS[model], gpu.waits


@pytest.mark.parametrize("method", ["boxinst", "sim"])
def test_more_pictures_are_no_more_operators(method):
    """A GPU is fast at large operators; what it is asked for in loops takes the host's time."""
    recipe = build_recipe("condinst-lite0", method, 6, pretrained=False)
    step = TrainingStep(recipe.detector.build(), recipe.build_objective(total_steps=100)).train()
    average = MovingAverage(step.detector, recipe.average_decay)
    operators = []
    with absent_gpu() as gpu:
        move(step, gpu.device)
        move(average, gpu.device)
        for pictures in (7, 2, 7):  # the first step makes what is made once
            batch = drawn_batch(replace(CASE, batch=pictures), seed=0).to(gpu.device)
            gpu.operators = 0
            _, context = step(batch, 0.45, average.model)
            average.update(step.detector)
            step.objective.update(context)
            operators.append(gpu.operators)
    assert operators[1] == operators[2]


@pytest.mark.parametrize(
    "ask",
    [
        lambda numbers: numbers.tolist(),
        lambda numbers: numbers.sum().item(),
        lambda numbers: numbers[numbers > 0],
        lambda numbers: numbers[[0, 1]],
        lambda numbers: numbers[torch.tensor([0, 1])],
        lambda numbers: numbers.new_tensor([1.0, 2.0]),
        lambda numbers: numbers.cpu(),
        lambda numbers: torch.ones(3).to(numbers.device),
        lambda numbers: bool((numbers > 0).any()),
    ],
)
def test_what_waits_is_counted(ask):
    with absent_gpu() as gpu:
        numbers = torch.ones(3, device=gpu.device)
        numbers.mul(2.0).to("cpu", non_blocking=True)
        assert not gpu.waits
        ask(numbers)
        assert gpu.waits


def test_finding_labelling_and_explaining_mix_no_devices():
    recipe = build_recipe("condinst-lite0", "sim", 6, pretrained=False)
    detector, objective = recipe.detector.build().eval(), recipe.build_objective(total_steps=100)
    correction = self_correction_of(objective)
    assert correction is not None
    with absent_gpu() as gpu, torch.no_grad():
        device = gpu.device
        move(detector, device)
        move(objective, device)
        batch = drawn_batch(CASE, seed=0).to(device)
        outputs = detector(batch.images, batch.valid)
        found = detector.detections(outputs, batch.image_sizes)
        assert {one.mask_scores.device.type for one in found} == {"cuda"}
        given = masks_for_boxes(detector, outputs, batch.targets)
        assert given.mask_scores.device.type == "cuda"
        assignment = detector.assign_every_box(outputs, batch.targets)
        steps = correction_steps(correction, batch, detector.mask_samples(outputs, assignment))
        assert steps.correction.masks.foreground.device.type == "cuda"


def with_masks(batch: Batch) -> Batch:
    height, width = batch.images.shape[-2:]
    targets = [
        replace(
            one,
            masks=torch.zeros(len(one), height, width, dtype=torch.bool),
            trusted=torch.ones(len(one), dtype=torch.bool),
        )
        for one in batch.targets
    ]
    return replace(batch, targets=tuple(targets))


def mixed_sum(there, here):
    return there + here


def mixed_index(there, here):
    return here[torch.zeros_like(there, dtype=torch.int64)]


def mixed_mask(there, here):
    return here[there > 0]


def mixed_lists(there, here):
    torch._foreach_lerp_([there], [here], 0.5)


@pytest.mark.parametrize("mixed", [mixed_sum, mixed_index, mixed_mask, mixed_lists])
def test_what_mixes_devices_fails(mixed):
    with absent_gpu() as gpu, pytest.raises(RuntimeError, match="same device"):
        mixed(torch.zeros(3, device=gpu.device), torch.zeros(3))
