"""Whether the fused kernels for GPUs can be used."""

import warnings
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from boxmask.remarks import Remark

# The oldest NVIDIA architecture that Triton still compiles for.
OLDEST = (7, 5)
# Between both forms of values and gradients, relative to the largest of them or to 1.
LARGEST_DIFFERENCE = 1e-3


def fused_kernels_run(device: torch.device) -> bool:
    """Whether Triton's kernels compile for a device and agree with the plain forms there.

    They are tried once on a few numbers: a machine without a C compiler, which Triton needs, or
    one on which a kernel is wrong, trains with the plain forms and is told so.
    """
    return device.type == "cuda" and find_spec("triton") is not None and _tried(device)


def launch(kernel: Any, grid: tuple[int, ...], *given: Tensor | int, **sizes: float) -> None:
    """Starts a Triton kernel: as many programs as the grid says, all with the same arguments."""
    kernel[grid](*given, **sizes)


@lru_cache
def _tried(device: torch.device) -> bool:
    if torch.version.cuda is not None and torch.cuda.get_device_capability(device) < OLDEST:
        return False
    # The first call may come from labelling, without gradients, or from a step in bf16.
    exactly = torch.autocast(device.type, enabled=False)
    try:
        with torch.inference_mode(mode=False), torch.enable_grad(), exactly:
            difference = max(form(device) for form in _DIFFERENCES)
    except Exception as problem:
        found = f"{type(problem).__name__}: {problem}".splitlines()[0]
    else:
        if difference < LARGEST_DIFFERENCE:
            return True
        found = f"results differ by {difference:.1e}"
    warnings.warn(f"training without fused kernels on {device}: {found}", Remark, stacklevel=2)
    return False


def _difference_of_pairs(device: torch.device) -> float:
    """Largest difference between both forms of the pairwise term."""
    from boxmask.ops.pairwise import dense_sum
    from boxmask.ops.pairwise_triton import fused_sum

    random = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 24, 31, generator=random).to(device)
    similar = (torch.rand(2, 8, 24, 31, generator=random) < 0.5).to(device)
    inside = (torch.rand(3, 24, 31, generator=random) < 0.6).to(device)
    image_index = torch.tensor([0, 1, 1], device=device)
    found: list[tuple[Tensor, ...]] = []
    for form in (fused_sum, dense_sum):
        leaf = logits.clone().requires_grad_()
        total, count = form(leaf, similar, inside, image_index, dilation=2)
        found.append((total / count, count, *torch.autograd.grad(total / count, [leaf])))
    return _largest_difference(found)


def _difference_of_masks(device: torch.device) -> float:
    """Largest difference between both forms of the dynamic mask head."""
    from boxmask.ops.dynamic_mask import HIDDEN, ThreeLayers
    from boxmask.ops.dynamic_mask_triton import FusedThreeLayers

    random = torch.Generator().manual_seed(0)
    shapes = [(1, 11, 150), (3, HIDDEN, 11), (3, HIDDEN, HIDDEN), (3, 1, HIDDEN), (3, HIDDEN)]
    inputs = [torch.randn(*shape, generator=random).to(device) for shape in (*shapes, (3, 1))]
    found: list[tuple[Tensor, ...]] = []
    for fused in (True, False):
        rows, *layers = leaves = [one.clone().requires_grad_() for one in inputs]
        logits = (
            FusedThreeLayers.apply(rows, *layers, torch.tensor([0, 3], device=device))
            if fused
            else ThreeLayers.apply(rows[0], *layers)
        )
        assert isinstance(logits, Tensor)
        found.append((logits, *torch.autograd.grad(logits.square().mean(), leaves)))
    return _largest_difference(found)


def _difference_of_shares(device: torch.device) -> float:
    """Largest difference between both forms of the assignment's steps."""
    from boxmask.ops.sinkhorn_triton import scaled

    random = torch.Generator().manual_seed(0)
    shares = torch.rand(2, 37, 5, generator=random, dtype=torch.float64).to(device)
    mass = shares.sum(dim=1) * 2
    by_row = torch.ones_like(shares[..., :1])
    for _ in range(3):
        by_column = mass[..., None] / (shares.mT @ by_row)
        by_row = 1 / (shares @ by_column)
    found = scaled(shares, mass, 3, 1e-100)
    return _largest_difference([found, (by_row[..., 0], by_column[..., 0])])


def _difference_of_colors(device: torch.device) -> float:
    """Largest difference between both forms of the question after colours."""
    from boxmask.ops.color_model import fused_comparison, plain_comparison

    random = torch.Generator().manual_seed(0)
    lab = (torch.rand(2, 3, 24, 31, generator=random) * 20).to(device)
    mask = torch.rand(3, 24, 31, generator=random).to(device)
    outside = (torch.rand(2, 24, 31, generator=random) < 0.5).to(device)
    boxes = torch.rand(3, 4, generator=random).to(device) * 9
    boxes[:, 2:] += boxes[:, :2] + 2
    given = mask, outside, lab, torch.tensor([0, 1, 1], device=device), boxes
    return _largest_difference([fused_comparison(*given), plain_comparison(*given)])


_DIFFERENCES = (
    _difference_of_pairs, _difference_of_masks, _difference_of_shares, _difference_of_colors,
)  # fmt: skip


def _largest_difference(found: list[tuple[Tensor, ...]]) -> float:
    """Infinite where a number is a NaN, which would pass as smaller or larger as it comes."""
    differences = torch.stack(
        [(a - b).abs().max() / b.abs().max().clamp(min=1) for a, b in zip(*found, strict=True)]
    )
    return float(differences.detach().nan_to_num(nan=torch.inf).max())
