"""Whether the fused kernels for GPUs can be used."""

import warnings
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor

from boxmask.remarks import Remark

# The oldest NVIDIA architecture that Triton still compiles for.
OLDEST = (7, 5)
# Between both forms of values and gradients, relative to the largest of them or to 1.
LARGEST_DIFFERENCE = 1e-3


Kernels = Literal["pairs", "masks", "shares", "colors", "ties", "distances", "filters"]
"""Of the pairwise term, the dynamic mask head, the assignment to prototypes, the question after
colours, ties of neighbours, distances from pseudo masks, and the guided filter."""


def fused_kernels_run(kernels: Kernels, device: torch.device) -> bool:
    """Whether some of Triton's kernels compile for a device and agree with the plain form there.

    They are tried once on a few numbers: a machine without a C compiler, which Triton needs, or
    one on which a kernel is wrong, trains with the plain form and is told so.
    """
    return device.type == "cuda" and _tried(kernels, device)


def launch(kernel: Any, grid: tuple[int, ...], *given: Tensor | int, **sizes: float) -> None:
    """Starts a Triton kernel: as many programs as the grid says, all with the same arguments."""
    kernel[grid](*given, **sizes)


@lru_cache
def _tried(kernels: Kernels, device: torch.device) -> bool:
    if find_spec("triton") is None:
        return False
    if torch.version.cuda is not None and torch.cuda.get_device_capability(device) < OLDEST:
        return False
    from boxmask.ops.fused_trials import DIFFERENCES

    # The first call may come from labelling, without gradients, or from a step in bf16.
    exactly = torch.autocast(device.type, enabled=False)
    try:
        with torch.inference_mode(mode=False), torch.enable_grad(), exactly:
            difference = DIFFERENCES[kernels](device)
    except Exception as problem:
        found = f"{type(problem).__name__}: {problem}".splitlines()[0]
    else:
        if difference < LARGEST_DIFFERENCE:
            return True
        found = f"results differ by {difference:.1e}"
    what = f"the fused kernels of {kernels} on {device}"
    warnings.warn(f"training without {what}: {found}", Remark, stacklevel=2)
    return False
