"""The dynamic mask head on a CPU: one pass through the first cache, compiled by numba.

For a block of cells and one object after another, all three layers run while the block's numbers
are in the first cache; nothing between the layers is written to memory, and the backward pass finds
it anew. Blocks have a fixed length and the inner loops fixed bounds, so that the compiler turns
them into vector instructions. Compiled code is kept on disk: only the first use waits for it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numba import njit
from numba.core.types import Tuple, float32, void
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from boxmask.ops.compiled import OPTIONS, compiled
from boxmask.ops.threads import do_all, even_parts

HIDDEN = 8  # channels between the layers, as published
ROWS = 19  # inputs of the first layer: up to 16 mask features, x, y, and 1
BLOCK = 256  # cells that are looked at together
_ZERO = np.float32(0)

Array = NDArray[np.float32]


# Parts are written into their callers. As functions of their own they would be compiled twice,
# alone and with a caller that is kept on disk, and the two may differ in the last bits of sums.
_part = njit(inline="always", **OPTIONS)
_2D, _3D = float32[:, ::1], float32[:, :, ::1]
_LAYERS = (_3D, _3D, _3D, _2D, _2D)  # w1, w2, w3, b2, b3


class FusedThreeLayers(torch.autograd.Function):
    """The three layers of all objects of a batch, in float32 on a CPU."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        w1: Tensor,
        w2: Tensor,
        w3: Tensor,
        b2: Tensor,
        b3: Tensor,
        counts: tuple[int, ...],
    ) -> Tensor:
        """Logits (K, P).

        Args:
            ctx: for the backward pass.
            rows: (B, R, P) inputs of each image, at most `ROWS` of them.
            w1: (K, 8, R) first layer of each object.
            w2: (K, 8, 8) second layer, with its biases b2 (K, 8).
            w3: (K, 1, 8) third layer, with its biases b3 (K, 1).
            b2: see w2.
            b3: see w3.
            counts: objects of each image; they add up to K.
        """
        ctx.counts, ctx.size = counts, rows.shape[1:]
        blocks = _in_blocks(rows)  # (B, n, ROWS, BLOCK)
        layers = [_padded_first(w1), *(one.detach().contiguous() for one in (w2, w3, b2, b3))]
        ctx.save_for_backward(blocks, *layers)
        logits = blocks.new_empty((len(w1), rows.shape[2]))
        shares = _shares(counts, torch.get_num_threads())
        _run(_forward, shares, blocks, layers, [(logits[part].numpy(),) for _, part in shares])
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyrefly: ignore
        """Gradients of the six tensors."""
        blocks, *layers = ctx.saved_tensors
        num_rows, num_cells = ctx.size
        shares = _shares(ctx.counts, torch.get_num_threads())
        down = grad_outputs[0].contiguous()
        of_layers = [torch.zeros_like(one) for one in layers]
        # Objects of an image share its inputs: each thread sums up its own gradient of them.
        of_blocks = [torch.zeros_like(blocks[0]) for _ in shares]
        others = [
            (down[part].numpy(), of_share.numpy(), _of_objects(of_layers, part))
            for (_, part), of_share in zip(shares, of_blocks, strict=True)
        ]
        _run(_backward, shares, blocks, layers, others)
        of_rows = torch.zeros_like(blocks)
        for (image, _), one in zip(shares, of_blocks, strict=True):
            of_rows[image] += one
        of_rows = of_rows.transpose(1, 2).flatten(2)[:, :num_rows, :num_cells]
        of_layers[0] = of_layers[0][..., :num_rows]
        return (of_rows, *of_layers, None)


def _in_blocks(rows: Tensor) -> Tensor:
    """(B, n, ROWS, BLOCK) from (B, R, P), with zeros behind the last row and the last cell."""
    num_rows, num_cells = rows.shape[1:]
    spare = -num_cells % BLOCK
    filled = torch.nn.functional.pad(rows.detach(), (0, spare, 0, ROWS - num_rows))
    return filled.unflatten(2, (-1, BLOCK)).transpose(1, 2).contiguous()


def _padded_first(w1: Tensor) -> Tensor:
    return torch.nn.functional.pad(w1.detach(), (0, ROWS - w1.shape[2])).contiguous()


def _shares(counts: Sequence[int], threads: int) -> list[tuple[int, slice]]:
    """Images and runs of their objects, none empty: up to `threads` for each image."""
    shares, first = [], 0
    for image, count in enumerate(counts):
        shares += [
            (image, slice(first + part.start, first + part.stop))
            for part in even_parts(count, threads)
        ]
        first += count
    return shares


def _run(
    kernel: Callable[..., None],
    shares: Sequence[tuple[int, slice]],
    blocks: Tensor,
    layers: Sequence[Tensor],
    others: Sequence[tuple[Any, ...]],
) -> None:
    """Runs a kernel for all shares side by side.

    Args:
        kernel: `_forward` or `_backward`.
        shares: images and runs of their objects.
        blocks: (B, n, ROWS, BLOCK) of all images.
        layers: w1, w2, w3, b2, b3 of all K objects.
        others: the kernel's further arguments, one tuple a share.
    """
    work = compiled(kernel, _SIGNATURES[kernel])
    do_all(
        [
            partial(work, blocks[image].numpy(), _of_objects(layers, part), *more)
            for (image, part), more in zip(shares, others, strict=True)
        ]
    )


def _of_objects(tensors: Sequence[Tensor], part: slice) -> tuple[Array, ...]:
    """Rows of some objects, as arrays that share their memory."""
    return tuple(one[part].numpy() for one in tensors)


@_part
def _hidden(rows: Array, w1: Array, w2: Array, b2: Array, first: Array, second: Array) -> None:
    """Both hidden layers (8, BLOCK) of one object on a block (ROWS, BLOCK)."""
    for out in range(HIDDEN):
        for cell in range(BLOCK):
            total = _ZERO
            for row in range(ROWS):
                total += w1[out, row] * rows[row, cell]
            first[out, cell] = _ZERO if total <= _ZERO else total
    for out in range(HIDDEN):
        bias = b2[out]
        for cell in range(BLOCK):
            total = bias
            for into in range(HIDDEN):
                total += w2[out, into] * first[into, cell]
            second[out, cell] = _ZERO if total <= _ZERO else total


def _forward(blocks: Array, layers: tuple[Array, ...], logits: Array) -> None:
    """Fills logits (k, P) of k objects from the blocks (n, ROWS, BLOCK) of their image."""
    w1, w2, w3, b2, b3 = layers
    first = np.empty((HIDDEN, BLOCK), np.float32)
    second = np.empty((HIDDEN, BLOCK), np.float32)
    found = np.empty(BLOCK, np.float32)
    for block in range(len(blocks)):
        start = block * BLOCK
        cells = min(BLOCK, logits.shape[1] - start)
        for each in range(len(w1)):
            _hidden(blocks[block], w1[each], w2[each], b2[each], first, second)
            weights, bias = w3[each, 0], b3[each, 0]
            for cell in range(BLOCK):
                total = bias
                for into in range(HIDDEN):
                    total += weights[into] * second[into, cell]
                found[cell] = total
            logits[each, start : start + cells] = found[:cells]


def _backward(
    blocks: Array,
    layers: tuple[Array, ...],
    down: Array,
    of_blocks: Array,
    of_layers: tuple[Array, ...],
) -> None:
    """Adds the gradients of k objects to arrays of the inputs' shapes.

    Layers are w1, w2, w3, b2, b3; down is (k, P).
    """
    w1, w2, w3, b2, _ = layers
    of_w1, of_w2, of_w3, of_b2, of_b3 = of_layers
    first = np.empty((HIDDEN, BLOCK), np.float32)
    second = np.empty((HIDDEN, BLOCK), np.float32)
    down_first = np.empty((HIDDEN, BLOCK), np.float32)
    down_second = np.empty((HIDDEN, BLOCK), np.float32)
    down_here = np.zeros(BLOCK, np.float32)
    for block in range(len(blocks)):
        start = block * BLOCK
        cells = min(BLOCK, down.shape[1] - start)
        down_here[cells:] = _ZERO
        for each in range(len(w1)):
            _hidden(blocks[block], w1[each], w2[each], b2[each], first, second)
            down_here[:cells] = down[each, start : start + cells]
            _third_backward(
                down_here, w3[each, 0], second, down_second,
                of_w3[each, 0], of_b2[each], of_b3[each],
            )  # fmt: skip
            _through(w2[each], down_second, down_first)
            for into in range(HIDDEN):
                for cell in range(BLOCK):
                    if first[into, cell] <= _ZERO:
                        down_first[into, cell] = _ZERO
            _outer(down_second, first, of_w2[each])
            _outer(down_first, blocks[block], of_w1[each])
            _through_and_add(w1[each], down_first, of_blocks[block])


@_part
def _third_backward(
    down: Array,
    w3: Array,
    second: Array,
    down_second: Array,
    of_w3: Array,
    of_b2: Array,
    of_b3: Array,
) -> None:
    """Through the third layer and the ReLU before it."""
    total = _ZERO
    for cell in range(BLOCK):
        total += down[cell]
    of_b3[0] += total
    for out in range(HIDDEN):
        weight, total, total_bias = w3[out], _ZERO, _ZERO
        for cell in range(BLOCK):
            total += down[cell] * second[out, cell]
            passed = _ZERO if second[out, cell] <= _ZERO else weight * down[cell]
            down_second[out, cell] = passed
            total_bias += passed
        of_w3[out] += total
        of_b2[out] += total_bias


# The loops over the eight hidden channels stand written out below: as loops, their sums would
# not stay in registers.


@_part
def _through(weights: Array, down: Array, up: Array) -> None:
    """`up` (8, BLOCK) = weights (8, 8) transposed times down (8, BLOCK)."""
    for row in range(HIDDEN):
        a, b, c, d = weights[0, row], weights[1, row], weights[2, row], weights[3, row]
        e, f, g, h = weights[4, row], weights[5, row], weights[6, row], weights[7, row]
        for cell in range(BLOCK):
            up[row, cell] = (
                a * down[0, cell] + b * down[1, cell] + c * down[2, cell] + d * down[3, cell]
            ) + (e * down[4, cell] + f * down[5, cell] + g * down[6, cell] + h * down[7, cell])


@_part
def _through_and_add(weights: Array, down: Array, up: Array) -> None:
    """`up` (ROWS, BLOCK) += weights (8, ROWS) transposed times down (8, BLOCK)."""
    for row in range(ROWS):
        a, b, c, d = weights[0, row], weights[1, row], weights[2, row], weights[3, row]
        e, f, g, h = weights[4, row], weights[5, row], weights[6, row], weights[7, row]
        for cell in range(BLOCK):
            up[row, cell] += (
                a * down[0, cell] + b * down[1, cell] + c * down[2, cell] + d * down[3, cell]
            ) + (e * down[4, cell] + f * down[5, cell] + g * down[6, cell] + h * down[7, cell])


@_part
def _outer(down: Array, inputs: Array, of_weights: Array) -> None:
    """`of_weights` (8, n) += down (8, BLOCK) times inputs (n, BLOCK) transposed."""
    for row in range(len(inputs)):
        a = b = c = d = e = f = g = h = _ZERO
        for cell in range(BLOCK):
            value = inputs[row, cell]
            a += down[0, cell] * value
            b += down[1, cell] * value
            c += down[2, cell] * value
            d += down[3, cell] * value
            e += down[4, cell] * value
            f += down[5, cell] * value
            g += down[6, cell] * value
            h += down[7, cell] * value
        of_weights[0, row] += a
        of_weights[1, row] += b
        of_weights[2, row] += c
        of_weights[3, row] += d
        of_weights[4, row] += e
        of_weights[5, row] += f
        of_weights[6, row] += g
        of_weights[7, row] += h


_SIGNATURES = {
    _forward: void(_3D, Tuple(_LAYERS), _2D),
    _backward: void(_3D, Tuple(_LAYERS), _2D, _3D, Tuple(_LAYERS)),
}
