"""What a step reads and no gradient goes through: maps of frozen layers, and the teacher's outputs.

A light model's pass is hundreds of operators, and the host takes longer to ask for them than a GPU
to do them. So where pictures of one size come again the pass is recorded, as a CUDA graph, and then
asked for as a whole.
"""

import math
import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from boxmask.backbones.stages import PartialMaps
from boxmask.detectors.detector import Detector
from boxmask.remarks import Remark

FULL = 0.75  # share of a GPU's memory that steps may take where something is recorded
LARGEST_SHARE = 0.1  # of a GPU's memory that recordings keep to themselves


@dataclass(frozen=True, kw_only=True)
class FixedOutputs:
    """What no gradient goes through.

    Attributes:
        frozen: what those first layers that never learn make of the pictures, or None.
        teacher: outputs of the moving average, see `Detector.mask_outputs`, or None.
    """

    frozen: PartialMaps | None
    teacher: Any


@torch.no_grad()
def fixed_outputs(
    detector: Detector, teacher: Detector | None, images: Tensor, valid: Tensor
) -> FixedOutputs:
    """Finds them, operator by operator.

    Args:
        detector: the model that learns.
        teacher: its moving average; None where nobody asks for it.
        images: (B, 3, H, W) in 0..1.
        valid: (B, H, W) bool, marks no padding.
    """
    frozen = detector.frozen_outputs(images, valid)
    asked = None if teacher is None else teacher.mask_outputs(images, valid, frozen)
    return FixedOutputs(frozen=frozen, teacher=asked)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Work that can be asked for as a whole.

    Attributes:
        outputs: the same tensors each time; without sense until `replay` was called.
        replay: asks for it.
        num_bytes: memory of the device that it keeps to itself, beside that of earlier ones.
    """

    outputs: FixedOutputs
    replay: Callable[[], None]
    num_bytes: int


Recorder = Callable[[Callable[[], FixedOutputs]], Recorded]


class GraphRecorder:
    """Records work as CUDA graphs, all in one pool of memory: they are never at work together."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, work: Callable[[], FixedOutputs]) -> Recorded:
        """Work is done twice: once as it is, so that what is set up at its first use is there."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        now, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(now)
        with torch.cuda.stream(aside):
            work()
        now.wait_stream(aside)
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved()
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads, which copy pictures, may do what a recording may not.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                outputs = work()
        finally:
            torch.cuda.set_stream(now)
        num_bytes = torch.cuda.memory_reserved() - before
        return Recorded(outputs=outputs, replay=graph.replay, num_bytes=num_bytes)


class FixedPass:
    """`fixed_outputs`, which on a GPU are recorded when pictures of a size come a second time.

    What it returns is overwritten by the next call, whatever its pictures: a step is to be over by
    then, with its backward pass, which else says so. Weights may move, but only in place. Nothing
    is recorded for detectors that are not `steady`, that are compiled, without a gradient (there is
    no step then), once recordings have taken `LARGEST_SHARE` of the memory, or where steps have
    taken more than `FULL` of it; where a recording fails, all goes on without.

    Args:
        record: how work is recorded; None for CUDA graphs, on a GPU alone.
    """

    def __init__(self, record: Recorder | None = None) -> None:
        self._record = record or GraphRecorder()
        self._on_gpus_alone = record is None
        self._seen: set[Hashable] = set()
        self._recordings: dict[Hashable, _Recording] = {}
        self._closed = False

    def __call__(
        self, detector: Detector, teacher: Detector | None, images: Tensor, valid: Tensor
    ) -> FixedOutputs:
        """See `fixed_outputs`."""
        if teacher is None or not self._worth(teacher, images):
            return fixed_outputs(detector, teacher, images, valid)
        key = _key(detector, teacher, images)
        found = self._recordings.get(key)
        if found is None and key in self._seen and not self._closed:
            found = self._recorded(detector, teacher, images, valid)
            if found is not None:
                self._recordings[key] = found
        self._seen.add(key)
        if found is None:
            return fixed_outputs(detector, teacher, images, valid)
        for recording in self._recordings.values():  # one's outputs may be in another's way
            torch.autograd.graph.increment_version(recording.tensors)
        return found.of(images, valid)

    def _worth(self, teacher: Detector, images: Tensor) -> bool:
        on_gpu = images.device.type == "cuda" and torch.cuda.is_available()
        return teacher.steady and torch.is_grad_enabled() and (on_gpu or not self._on_gpus_alone)

    def _recorded(
        self, detector: Detector, teacher: Detector, images: Tensor, valid: Tensor
    ) -> "_Recording | None":
        """A recording for pictures of this size; None where it cannot be made."""
        if any(m._compiled_call_impl is not None for m in teacher.modules()):
            self._closed = True
            return None
        total, most = _memory_of(images.device)
        if most > FULL * total:
            self._closed = True
            return None
        images, valid = images.clone(), valid.clone()
        dtype = _precision(images)
        enabled, kind = dtype is not None, images.device.type

        def work() -> FixedOutputs:
            # Rounded weights must be found each time: they move.
            with torch.autocast(kind, dtype, enabled=enabled, cache_enabled=False):
                return fixed_outputs(detector, teacher, images, valid)

        try:
            recorded = self._record(work)
        except RuntimeError as problem:
            self._closed = True
            reason = f"{type(problem).__name__}: {problem}".splitlines()[0]
            warnings.warn(f"the teacher's pass is not recorded: {reason}", Remark, stacklevel=2)
            return None
        made = _Recording(
            images=images, valid=valid, recorded=recorded, tensors=tensors_of(recorded.outputs)
        )
        # The one that goes beyond is kept: while others live, so does the memory of all.
        taken = sum(one.num_bytes for one in (*self._recordings.values(), made))
        self._closed = taken > LARGEST_SHARE * total
        return made


@dataclass(frozen=True, kw_only=True)
class _Recording:
    images: Tensor  # copies, which the recorded work reads
    valid: Tensor
    recorded: Recorded
    tensors: list[Tensor]  # of its outputs

    @property
    def num_bytes(self) -> int:
        return self.recorded.num_bytes + self.images.nbytes + self.valid.nbytes

    def of(self, images: Tensor, valid: Tensor) -> FixedOutputs:
        self.images.copy_(images)
        self.valid.copy_(valid)
        self.recorded.replay()
        return self.recorded.outputs


def _key(detector: Detector, teacher: Detector, images: Tensor) -> Hashable:
    """What a recording holds for: sizes, precision, and where the weights are."""
    places = tuple(next(model.parameters()).data_ptr() for model in (detector, teacher))
    return images.shape, images.stride(), images.dtype, _precision(images), places


def _precision(images: Tensor) -> torch.dtype | None:
    """What products are rounded to on the device of the images; None where they are not."""
    kind = images.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def _memory_of(device: torch.device) -> tuple[float, float]:
    """Bytes in all, without end where nobody counts, and the most that has been in use."""
    if device.type != "cuda":
        return math.inf, 0.0
    total = torch.cuda.get_device_properties(device).total_memory
    return total, torch.cuda.max_memory_allocated(device)


def tensors_of(outputs: Any) -> list[Tensor]:
    """All tensors in data classes, lists and tuples."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if is_dataclass(outputs):
        parts = [getattr(outputs, one.name) for one in fields(outputs)]
    else:
        parts = outputs if isinstance(outputs, list | tuple) else []
    return [tensor for part in parts for tensor in tensors_of(part)]
