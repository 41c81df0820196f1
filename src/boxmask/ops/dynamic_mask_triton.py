"""The dynamic mask head on a CUDA device: one fused kernel for each direction.

A program holds a block of cells of one picture and lets all of the picture's objects pass: the
inputs are read once, nothing between the layers is written to memory, and the backward pass finds
it anew. Without a GPU the same code runs in Triton's interpreter (`TRITON_INTERPRET=1`), which the
tests use.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

HIDDEN = 8  # channels between the layers, as published
# Matrix products want sides of 16 or more; what is beyond the true sides counts as zero.
HIDDEN_SIDE, ROWS_SIDE = 16, 32
MOST_ROWS = ROWS_SIDE  # inputs of the first layer that the kernels can take
BLOCK = 64  # cells that one program looks at


class FusedThreeLayers(torch.autograd.Function):
    """The three layers of all objects of a batch, in float32."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        w1: Tensor,
        w2: Tensor,
        w3: Tensor,
        b2: Tensor,
        b3: Tensor,
        starts: Tensor,
    ) -> Tensor:
        """Logits (K, P).

        Arguments as for `dynamic_mask_cpu.FusedThreeLayers`, with up to `MOST_ROWS` inputs; instead
        of counts, starts (B + 1,) int64 are the number of the first object of each image, and K.
        """
        inputs = tuple(one.contiguous() for one in (rows, w1, w2, w3, b2, b3))
        ctx.save_for_backward(*inputs, starts)
        batch, num_rows, cells = rows.shape
        logits = rows.new_empty((len(w1), cells))
        if logits.numel():
            given = (*inputs, starts, logits, num_rows, cells, BLOCK, HIDDEN_SIDE, ROWS_SIDE)
            _forward[(triton.cdiv(cells, BLOCK), batch)](*given)  # pyrefly: ignore
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyrefly: ignore
        """Gradients of the six tensors."""
        *inputs, starts = ctx.saved_tensors
        gradients = tuple(torch.zeros_like(one) for one in inputs)
        batch, num_rows, cells = inputs[0].shape
        if grad_outputs[0].numel():
            given = (*inputs, starts, grad_outputs[0].contiguous(), *gradients)
            given = (*given, num_rows, cells, BLOCK, HIDDEN_SIDE, ROWS_SIDE)
            _backward[(triton.cdiv(cells, BLOCK), batch)](*given)  # pyrefly: ignore
        return (*gradients, None)


@triton.jit
def _relu(values):
    return tl.where(values <= 0, 0.0, values)  # a NaN stays a NaN: training looks for them


@triton.jit
def _hidden(tile, w1, w2, b2, each, num_rows, HIDDEN_SIDE: tl.constexpr, ROWS_SIDE: tl.constexpr):
    """Both hidden layers (HIDDEN_SIDE, BLOCK) of an object, and the weights they took."""
    out = tl.arange(0, HIDDEN_SIDE)
    row = tl.arange(0, ROWS_SIDE)
    known = out < 8
    first_weights = tl.load(
        w1 + (each * 8 + out[:, None]) * num_rows + row[None, :],
        mask=known[:, None] & (row < num_rows)[None, :],
        other=0.0,
    )
    second_weights = tl.load(
        w2 + each * 64 + out[:, None] * 8 + out[None, :],
        mask=known[:, None] & known[None, :],
        other=0.0,
    )
    bias = tl.load(b2 + each * 8 + out, mask=known, other=0.0)
    first = _relu(tl.dot(first_weights, tile, input_precision="ieee"))
    second = tl.dot(second_weights, first, input_precision="ieee") + bias[:, None]
    return first, _relu(second), first_weights, second_weights


@triton.jit
def _inputs(
    rows, num_rows, cells,
    BLOCK: tl.constexpr, ROWS_SIDE: tl.constexpr,
):  # fmt: skip
    """A program's image, cells (BLOCK,), inputs (ROWS_SIDE, BLOCK), their places, which exist."""
    image = tl.program_id(1).to(tl.int64)
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    row = tl.arange(0, ROWS_SIDE)
    places = (image * num_rows + row[:, None]) * cells + cell[None, :]
    there_is = (row < num_rows)[:, None] & (cell < cells)[None, :]
    return image, cell, tl.load(rows + places, mask=there_is, other=0.0), places, there_is


@triton.jit
def _forward(
    rows, w1, w2, w3, b2, b3, starts, logits, num_rows, cells,
    BLOCK: tl.constexpr, HIDDEN_SIDE: tl.constexpr, ROWS_SIDE: tl.constexpr,
) -> None:  # fmt: skip
    image, cell, tile, _places, _there_is = _inputs(rows, num_rows, cells, BLOCK, ROWS_SIDE)
    out = tl.arange(0, HIDDEN_SIDE)
    for each in range(tl.load(starts + image), tl.load(starts + image + 1)):
        _, second, _, _ = _hidden(tile, w1, w2, b2, each, num_rows, HIDDEN_SIDE, ROWS_SIDE)
        weights = tl.load(w3 + each * 8 + out, mask=out < 8, other=0.0)
        found = tl.sum(weights[:, None] * second, axis=0) + tl.load(b3 + each)
        tl.store(logits + each * cells + cell, found, mask=cell < cells)


@triton.jit
def _backward(
    rows, w1, w2, w3, b2, b3, starts, down, of_rows, of_w1, of_w2, of_w3, of_b2, of_b3,
    num_rows, cells,
    BLOCK: tl.constexpr, HIDDEN_SIDE: tl.constexpr, ROWS_SIDE: tl.constexpr,
) -> None:  # fmt: skip
    image, cell, tile, places, there_is = _inputs(rows, num_rows, cells, BLOCK, ROWS_SIDE)
    row = tl.arange(0, ROWS_SIDE)
    out = tl.arange(0, HIDDEN_SIDE)
    known = out < 8
    of_tile = tl.zeros_like(tile)
    for each in range(tl.load(starts + image), tl.load(starts + image + 1)):
        first, second, first_weights, second_weights = _hidden(
            tile, w1, w2, b2, each, num_rows, HIDDEN_SIDE, ROWS_SIDE
        )
        last = tl.load(w3 + each * 8 + out, mask=known, other=0.0)
        of_logit = tl.load(down + each * cells + cell, mask=cell < cells, other=0.0)
        tl.atomic_add(of_b3 + each, tl.sum(of_logit, axis=0))
        tl.atomic_add(
            of_w3 + each * 8 + out, tl.sum(second * of_logit[None, :], axis=1), mask=known
        )
        of_second = tl.where(second > 0, last[:, None] * of_logit[None, :], 0.0)
        tl.atomic_add(of_b2 + each * 8 + out, tl.sum(of_second, axis=1), mask=known)
        tl.atomic_add(
            of_w2 + each * 64 + out[:, None] * 8 + out[None, :],
            tl.dot(of_second, tl.trans(first), input_precision="ieee"),
            mask=known[:, None] & known[None, :],
        )
        of_first = tl.dot(tl.trans(second_weights), of_second, input_precision="ieee")
        of_first = tl.where(first > 0, of_first, 0.0)
        tl.atomic_add(
            of_w1 + (each * 8 + out[:, None]) * num_rows + row[None, :],
            tl.dot(of_first, tl.trans(tile), input_precision="ieee"),
            mask=known[:, None] & (row < num_rows)[None, :],
        )
        of_tile += tl.dot(tl.trans(first_weights), of_first, input_precision="ieee")
    tl.store(of_rows + places, of_tile, mask=there_is)
