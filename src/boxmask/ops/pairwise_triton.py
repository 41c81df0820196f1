"""The pairwise term on a CUDA device: one pass that reads each logit and writes its gradient.

Loss and gradient are found together, so that no tensor of neighbours is ever written. Without a
GPU the same code runs in Triton's interpreter (`TRITON_INTERPRET=1`), which the tests use.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 512  # cells that one program looks at


def fused_sum(
    logits: Tensor, similar: Tensor, inside: Tensor, image_index: Tensor, *, dilation: int
) -> tuple[Tensor, Tensor]:
    """`pairwise_sum` in one kernel; never waits for the device."""
    total, count = _FusedSum.apply(logits, similar, inside, image_index, dilation)
    return total, count


class _FusedSum(torch.autograd.Function):
    """Sum and number of the edges; the gradient is found on the way."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        similar: Tensor,
        inside: Tensor,
        image_index: Tensor,
        dilation: int,
    ) -> tuple[Tensor, Tensor]:
        """See `pairwise_sum`."""
        samples, height, width = logits.shape
        blocks = triton.cdiv(height * width, BLOCK)
        gradient = torch.empty_like(logits, memory_format=torch.contiguous_format)
        sums = logits.new_zeros((2, max(samples * blocks, 1)))
        if samples * blocks:
            _sum_and_gradient[(samples * blocks,)](
                logits.contiguous(),
                similar.contiguous().view(torch.uint8),
                inside.contiguous().view(torch.uint8),
                image_index.contiguous(),
                gradient,
                sums[0],
                sums[1],
                height,
                width,
                blocks,
                DILATION=dilation,  # pyrefly: ignore
                BLOCK=BLOCK,  # pyrefly: ignore
            )
        total, count = sums.sum(dim=1).unbind()
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(count)
        return total, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyrefly: ignore
        """The saved gradient, scaled."""
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0], None, None, None, None


@triton.jit
def _softplus(value):
    return tl.maximum(value, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(value)))


@triton.jit
def _sigmoid(value):
    small = tl.exp(-tl.abs(value))  # never overflows
    return tl.where(value >= 0, 1.0, small) / (1.0 + small)


@triton.jit
def _sum_and_gradient(
    logits,  # (K, h, w)
    similar,  # (B, 8, h, w), 0 or 1
    inside,  # (K, h, w), 0 or 1
    image_index,  # (K,)
    gradient,  # (K, h, w), written
    totals,  # one for each program, written
    counts,  # one for each program, written
    height,
    width,
    blocks,
    DILATION: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    program = tl.program_id(0)
    sample = (program // blocks).to(tl.int64)
    cells = height * width
    cell = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    there_is = cell < cells
    row = cell // width
    column = cell - row * width
    edges = similar + tl.load(image_index + sample).to(tl.int64) * 8 * cells
    logits += sample * cells
    inside += sample * cells
    a = tl.load(logits + cell, mask=there_is, other=0.0)
    counts_here = tl.load(inside + cell, mask=there_is, other=0)
    unary = _softplus(a)
    score = _sigmoid(a)
    slope = tl.zeros_like(a)
    total = tl.zeros_like(a)
    count = tl.zeros_like(a)
    for index in tl.static_range(8):  # neighbours in the order of NEIGHBORS
        place = index + index // 4  # of the nine cells around, the middle one left out
        down = (place // 3 - 1) * DILATION
        right = (place % 3 - 1) * DILATION
        on_map = (row + down >= 0) & (row + down < height)
        on_map = on_map & (column + right >= 0) & (column + right < width) & there_is
        other = cell + down * width + right
        counts_there = tl.load(inside + other, mask=on_map, other=0)
        away = tl.load(edges + index * cells + cell, mask=on_map, other=0)
        back = tl.load(edges + (7 - index) * cells + other, mask=on_map, other=0)
        weight = (away * counts_here + back * counts_there).to(a.dtype)
        b = tl.load(logits + other, mask=on_map, other=0.0)
        slope += weight * (score - _sigmoid(a + b))
        if index >= 4:  # an edge is looked at from both of its ends, and counted at one
            total += weight * (unary + _softplus(b) - _softplus(a + b))
            count += weight
    tl.store(gradient + sample * cells + cell, slope, mask=there_is)
    tl.store(totals + program, tl.sum(total, axis=0))
    tl.store(counts + program, tl.sum(count, axis=0))
