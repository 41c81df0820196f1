"""A step asks the device for few numbers, and for no more with more pictures and objects."""

import collections
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import boxmask
from boxmask.benchmark.settings import StepCase
from boxmask.benchmark.whole_steps import drawn_batch
from boxmask.box_supervision.self_correction_loss import SelfCorrectionLoss
from boxmask.engine.teacher import MovingAverage
from boxmask.engine.training_step import TrainingStep
from boxmask.recipes.models import build_recipe

PACKAGE = Path(boxmask.__file__).parent
# Operators whose result has a size that only the device knows, or that give the host a number.
ASKING = {
    "aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2",
    "aten::unique_dim", "aten::bincount", "aten::repeat_interleave.Tensor", "aten::equal",
}  # fmt: skip
INDEXING = {"aten::index.Tensor", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
# Both directions: copies from the host wait as well.
COPYING = {"tensor", "as_tensor", "new_tensor", "tolist", "cpu", "numpy", "cuda"}
# Lists of edges or objects that only a CPU looks at, and what is on the host already.
CPU_ALONE = {"ops/pairwise.py listed_sum", "ops/dynamic_mask.py three_layers",
             "ops/guided_filter.py _near_parts", "ops/groups.py numbered_values",
             "box_supervision/pairwise_loss.py similar",
             "box_supervision/collapse_guard_loss.py forward",
             "box_supervision/cut_out.py _numbers",
             "box_supervision/cut_out.py _trimmed"}  # fmt: skip
# For the positive points and those of them that train masks; and for the prototypes' pixels, their
# classes, after ten steps of the optimal transport (noise needs no more) whether it is done, and
# twice for the objects that are cut out.
WAITS = {"boxinst": 2, "sim": 7}


class _Operators(TorchDispatchMode):
    def __init__(self, seen: collections.Counter[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.name()
        by_mask = name in INDEXING and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if by_mask or (name in ASKING and kwargs.get("output_size") is None):
            self.seen[_caller()] += 1
        return func(*args, **kwargs)


class _Copies(TorchFunctionMode):
    def __init__(self, seen: collections.Counter[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in COPYING:
            self.seen[_caller()] += 1
        return func(*args, **(kwargs or {}))


def _caller() -> str:
    """Which function of the package asks."""
    frames = traceback.extract_stack()
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)]
    if not ours:
        return "elsewhere"
    return f"{Path(ours[-1].filename).relative_to(PACKAGE).as_posix()} {ours[-1].name}"


def waits_of_step(method: str, pictures: int, objects: int) -> collections.Counter[str]:
    """Where one step waits, when prototypes are found and objects are remembered."""
    torch.manual_seed(0)
    recipe = build_recipe("condinst-lite0", method, 6, pretrained=False)
    detector = recipe.detector.build()
    step = TrainingStep(detector, recipe.build_objective(total_steps=100)).train()
    average = MovingAverage(detector, recipe.average_decay)
    for loss in step.objective.modules():
        if isinstance(loss, SelfCorrectionLoss):
            loss.bank.updates.fill_(1)  # the first pixels of a class are looked at once
            assert loss.paste_bank is not None
            # Noise has no objects: whatever the masks say is foreground and may be pasted.
            low = replace(loss.settings.pseudo, low=0.1, lowest_high=0.1, highest_high=0.2)
            loss.settings = replace(loss.settings, pseudo=low)
            loss.paste_bank.settings = replace(loss.paste_bank.settings, least_fit=0.0)
    case = StepCase(batch=pictures, size=(96, 128), num_objects=objects)
    seen: collections.Counter[str] = collections.Counter()
    for number in range(2):
        batch = drawn_batch(case, seed=number)
        seen.clear()  # the first step makes what is made once
        with _Operators(seen), _Copies(seen):
            losses, context = step(batch, 0.5, average.model)
            torch.stack(list(losses.values())).sum().backward()
            average.update(detector)
            step.objective.update(context)
    if method == "sim":  # all parts were at work
        assert seen["box_supervision/cut_out.py cut_out"]
        assert seen["prototypes/sinkhorn.py sinkhorn"]
    return seen


def on_cpu_alone(place: str) -> bool:
    return place in CPU_ALONE or place.startswith("ops/dynamic_mask_cpu.py ")


@pytest.mark.parametrize("method", ["boxinst", "sim"])
def test_waits_are_few_and_grow_with_nothing(method):
    small, large = (
        {place: n for place, n in waits_of_step(method, *size).items() if not on_cpu_alone(place)}
        for size in ((2, 6), (5, 20))
    )
    assert small == large
    assert sum(large.values()) == WAITS[method], large


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", ["boxinst", "sim"])
def test_waits_on_a_gpu(method, recwarn):
    """As CUDA itself counts them."""
    counts = []
    device = torch.device("cuda")
    for pictures, objects in ((2, 2), (5, 20)):
        recipe = build_recipe("condinst-lite0", method, 6, pretrained=False)
        detector = recipe.detector.build().to(device)
        step = TrainingStep(detector, recipe.build_objective(total_steps=100)).to(device).train()
        average = MovingAverage(detector, recipe.average_decay).to(device)
        case = StepCase(batch=pictures, size=(96, 128), num_objects=objects)
        for number in range(2):
            batch = drawn_batch(case, seed=number).to(device)
            recwarn.clear()
            torch.cuda.set_sync_debug_mode("warn")
            losses, context = step(batch, 0.5, average.model)
            torch.stack(list(losses.values())).sum().backward()
            average.update(detector)
            step.objective.update(context)
            torch.cuda.set_sync_debug_mode("default")
        counts.append(len([w for w in recwarn if "synchronizing" in str(w.message)]))
    assert max(counts) <= 2 * WAITS[method]  # CUDA may count one more than once
