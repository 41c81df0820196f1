"""The dynamic mask head on a CUDA device: one fused kernel for each direction.

A program holds a block of cells of one picture and lets a share of the picture's objects pass. Its
inputs are read once, nothing between the layers is written to memory, and the backward pass finds
it anew. Forward, a thread computes its own cells with all channels in registers. Backward, weights
gather over cells, which is a matrix product: two objects' sixteen channels fill its side, and
tensor cores make it in three parts, which keeps float32's precision. Without a GPU the same code
runs in Triton's interpreter (`TRITON_INTERPRET=1`), which the tests use.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from boxmask.ops.fused import launch

HIDDEN = 8  # channels between the layers, as published
PAIR = 2 * HIDDEN  # least side of a matrix product on tensor cores
BLOCK, WARPS = 256, 2  # cells that one program looks at, forward
BACKWARD_BLOCK, BACKWARD_WARPS = 64, 2
PROGRAMS = 2048  # that keep a large device busy
LEAST_OBJECTS = 4  # for which reading a program's inputs is worth it


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

        Arguments as for `dynamic_mask_cpu.FusedThreeLayers`; instead of counts, starts (B + 1,)
        int64 are the number of the first object of each image, and K.
        """
        inputs = tuple(one.contiguous() for one in (rows, w1, w2, w3, b2, b3))
        ctx.save_for_backward(*inputs, starts)
        num_rows, cells = rows.shape[1:]
        logits = rows.new_empty((len(w1), cells))
        if logits.numel():
            grid = _programs(rows, len(w1), BLOCK)
            sizes = {"NUM_ROWS": num_rows, "BLOCK": BLOCK, "num_warps": WARPS}
            launch(_forward, grid, *inputs, starts, logits, cells, **sizes)
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyrefly: ignore
        """Gradients of the six tensors."""
        *inputs, starts = ctx.saved_tensors
        gradients = tuple(torch.zeros_like(one) for one in inputs)
        num_rows, cells = inputs[0].shape[1:]
        if grad_outputs[0].numel():
            grid = _programs(inputs[0], len(inputs[1]), BACKWARD_BLOCK)
            given = (*inputs, starts, grad_outputs[0].contiguous(), *gradients, num_rows, cells)
            side = max(triton.next_power_of_2(num_rows), PAIR)
            sizes = {"BLOCK": BACKWARD_BLOCK, "ROWS_SIDE": side}
            sizes |= {"num_warps": BACKWARD_WARPS, "num_stages": 1}
            launch(_backward, grid, *given, **sizes)
        return (*gradients, None)


def _programs(rows: Tensor, count: int, block: int) -> tuple[int, int, int]:
    """Blocks of cells, images, shares of an image's objects."""
    batch, _, cells = rows.shape
    blocks = triton.cdiv(cells, block)
    wanted = triton.cdiv(PROGRAMS, blocks * batch)
    most = count // (LEAST_OBJECTS * batch)  # how many objects an image has is not known here
    return blocks, batch, max(min(wanted, most), 1)


@triton.jit
def _relu(values):
    return tl.where(values <= 0, 0.0, values)  # a NaN stays a NaN: training looks for them


@triton.jit
def _layer(inputs, weights, NUM_INPUTS: tl.constexpr, NUM_OUTPUTS: tl.constexpr):
    """A layer's channels, each (BLOCK,), from those before it; without bias."""
    outputs = ()
    for channel in tl.static_range(NUM_OUTPUTS):
        of_channel = weights + channel * NUM_INPUTS
        value = inputs[0] * tl.load(of_channel)
        for index in tl.static_range(1, NUM_INPUTS):
            value += inputs[index] * tl.load(of_channel + index)
        outputs = outputs + (value,)
    return outputs


@triton.jit
def _forward(
    rows, w1, w2, w3, b2, b3, starts, logits, cells,
    NUM_ROWS: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inputs = ()
    for row in tl.static_range(NUM_ROWS):
        place = (image * NUM_ROWS + row) * cells + cell
        inputs = inputs + (tl.load(rows + place, mask=cell < cells, other=0.0),)
    begin = tl.load(starts + image) + tl.program_id(2)
    for each in range(begin, tl.load(starts + image + 1), tl.num_programs(2)):
        first = ()
        found = _layer(inputs, w1 + each * 8 * NUM_ROWS, NUM_ROWS, 8)  # pyrefly: ignore
        for channel in tl.static_range(8):
            first = first + (_relu(found[channel]),)
        found = _layer(first, w2 + each * 64, 8, 8)  # pyrefly: ignore
        second = ()
        for channel in tl.static_range(8):
            second = second + (_relu(found[channel] + tl.load(b2 + each * 8 + channel)),)
        found = _layer(second, w3 + each * 8, 8, 1)  # pyrefly: ignore
        tl.store(logits + each * cells + cell, found[0] + tl.load(b3 + each), mask=cell < cells)


@triton.jit
def _add(places, values, there_is):
    tl.atomic_add(places, values, mask=there_is, sem="relaxed")  # in any order


@triton.jit
def _halves(values):
    """Numbers as sums of two that tensor cores take: ten bits, and the next."""
    high = (values.to(tl.uint32, bitcast=True) & 0xFFFFE000).to(tl.float32, bitcast=True)
    return high, values - high


@triton.jit
def _product(a_high, a_low, b_high, b_low):
    """In float32 but for the last bits: the two low parts' product is below them."""
    small = tl.dot(a_low, b_high, input_precision="tf32")
    small = tl.dot(a_high, b_low, small, input_precision="tf32")
    return tl.dot(a_high, b_high, small, input_precision="tf32")


@triton.jit
def _inputs(
    rows, starts, num_rows, cells,
    BLOCK: tl.constexpr, ROWS_SIDE: tl.constexpr,
):  # fmt: skip
    """A program's first object and image's end, cells, places of its inputs, which there are."""
    image = tl.program_id(1).to(tl.int64)
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    row = tl.arange(0, ROWS_SIDE)
    places = (image * num_rows + row[:, None]) * cells + cell[None, :]
    there_is = (row < num_rows)[:, None] & (cell < cells)[None, :]
    first = tl.load(starts + image) + 2 * tl.program_id(2)
    return first, tl.load(starts + image + 1), cell, places, there_is


@triton.jit
def _weights(each, end, num_rows, ROWS_SIDE: tl.constexpr):
    """Channels of two objects; places of both layers' weights; which of all these there are.

    A number that is not finite spreads from one object to the other.
    """
    out = tl.arange(0, 16)
    row = tl.arange(0, ROWS_SIDE)
    channel = each * 8 + out  # of all objects one after the other
    known = channel < end * 8
    of_first = channel[:, None] * num_rows + row[None, :]
    of_second = channel[:, None] * 8 + (out % 8)[None, :]
    first_known = known[:, None] & (row < num_rows)[None, :]
    # Each object has its own square on the diagonal.
    second_known = known[:, None] & (out[:, None] // 8 == out[None, :] // 8)
    return channel, known, of_first, first_known, of_second, second_known


@triton.jit
def _hidden(high, low, first_weights, second_weights, bias):
    """Both hidden layers (PAIR, BLOCK) of two objects."""
    w_high, w_low = _halves(first_weights)
    first = _relu(_product(w_high, w_low, high, low))
    w_high, w_low = _halves(second_weights)
    first_high, first_low = _halves(first)
    second = _product(w_high, w_low, first_high, first_low)
    return first, _relu(second + bias[:, None])


@triton.jit
def _backward(
    rows, w1, w2, w3, b2, b3, starts, down, of_rows, of_w1, of_w2, of_w3, of_b2, of_b3,
    num_rows, cells,
    BLOCK: tl.constexpr, ROWS_SIDE: tl.constexpr,
) -> None:  # fmt: skip
    begin, end, cell, places, there_is = _inputs(rows, starts, num_rows, cells, BLOCK, ROWS_SIDE)
    high, low = _halves(tl.load(rows + places, mask=there_is, other=0.0))
    of_tile = tl.zeros_like(high)
    out = tl.arange(0, 16)
    for each in range(begin, end, 2 * tl.num_programs(2)):
        channel, known, of_first, first_known, of_second, second_known = _weights(
            each, end, num_rows, ROWS_SIDE
        )
        first_weights = tl.load(w1 + of_first, mask=first_known, other=0.0)
        second_weights = tl.load(w2 + of_second, mask=second_known, other=0.0)
        bias = tl.load(b2 + channel, mask=known, other=0.0)
        first, second = _hidden(high, low, first_weights, second_weights, bias)
        # An object's gradient stands beside each of its eight channels.
        whose = each + out // 8
        of_logit = tl.load(
            down + whose[:, None] * cells + cell[None, :],
            mask=known[:, None] & (cell < cells)[None, :],
            other=0.0,
        )
        last = tl.load(w3 + channel, mask=known, other=0.0)
        _add(of_b3 + whose, tl.sum(of_logit, axis=1), known & (out % 8 == 0))
        _add(of_w3 + channel, tl.sum(second * of_logit, axis=1), known)
        before_second = tl.where(second > 0, last[:, None] * of_logit, 0.0)
        _add(of_b2 + channel, tl.sum(before_second, axis=1), known)
        second_high, second_low = _halves(before_second)
        first_high, first_low = _halves(first)
        squares = _product(second_high, second_low, tl.trans(first_high), tl.trans(first_low))
        _add(of_w2 + of_second, squares, second_known)
        w_high, w_low = _halves(tl.trans(second_weights))
        before_first = _product(w_high, w_low, second_high, second_low)
        before_first = tl.where(first > 0, before_first, 0.0)
        first_high, first_low = _halves(before_first)
        oblongs = _product(first_high, first_low, tl.trans(high), tl.trans(low))
        _add(of_w1 + of_first, oblongs, first_known)
        w_high, w_low = _halves(tl.trans(first_weights))
        of_tile += _product(w_high, w_low, first_high, first_low)
    if tl.num_programs(2) > 1:
        _add(of_rows + places, of_tile, there_is)
    else:
        tl.store(of_rows + places, of_tile, mask=there_is)
