"""The pairwise term on a CUDA device: a kernel for the sum and one for its gradient.

Two small kernels come first: one packs an image's edges into bits, one notes which tiles of an
object's map have cells of its box. A program of the others has one tile. Where no cell of the tile
or of those around it is in the box, which is most of the map, nothing is read; elsewhere each logit
comes from memory once, and no tensor of neighbours is ever written. The backward pass finds
everything anew, which is cheaper than to write a gradient, read it, and write it scaled. Without a
GPU the same code runs in Triton's interpreter (`TRITON_INTERPRET=1`), which the tests use.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from boxmask.ops.fused import launch

HIGH, WIDE = 8, 64  # cells of a tile
WARPS = 4
SIZES = ("height", "width", "down", "across")
"""What kernels are not compiled anew for: a run has pictures of many sizes."""


def fused_sum(
    logits: Tensor, similar: Tensor, inside: Tensor, image_index: Tensor, *, dilation: int
) -> tuple[Tensor, Tensor]:
    """`pairwise_sum` in fused kernels; never waits for the device."""
    total, count = _FusedSum.apply(logits, similar, inside, image_index, dilation)
    return total, count


class _FusedSum(torch.autograd.Function):
    """Sum and number of the edges."""

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
        batch = len(similar)
        high, wide = (max(side, triton.next_power_of_2(dilation)) for side in (HIGH, WIDE))
        down, across = triton.cdiv(height, high), triton.cdiv(width, wide)
        logits, inside = logits.contiguous(), inside.contiguous().view(torch.uint8)
        edges = logits.new_empty((batch, height, width), dtype=torch.int32)
        tiles = inside.new_empty((samples, down, across))
        # Both rows begin at a multiple of 16 bytes: Triton compiles anew for those that do not.
        sums = logits.new_zeros((2, 4 * max(triton.cdiv(tiles.numel(), 4), 1)))
        sizes = {"height": height, "width": width, "down": down, "across": across}
        sizes |= {"HIGH": high, "WIDE": wide, "num_warps": WARPS}
        given = (logits, edges, inside, image_index.contiguous(), tiles)
        grid = (tiles.numel(),)
        if tiles.numel():
            launch(_note_tiles, grid, inside, tiles, **sizes)
            sizes["DILATION"] = dilation
            similar = similar.contiguous().view(torch.uint8)
            launch(_pack_edges, (batch * down * across,), similar, edges, **sizes)
            launch(_sums, grid, *given, sums[0], sums[1], **sizes)
        ctx.save_for_backward(*given)
        ctx.sizes = sizes
        total, count = sums.sum(dim=1).unbind()
        ctx.mark_non_differentiable(count)
        return total, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyrefly: ignore
        """The gradient of the logits."""
        logits, *_, tiles = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        if tiles.numel():
            given = (*ctx.saved_tensors, grad_outputs[0], gradient)
            launch(_gradient, (tiles.numel(),), *given, **ctx.sizes)
        return gradient, None, None, None, None


@triton.jit
def _tile(height, width, down, across, HIGH: tl.constexpr, WIDE: tl.constexpr):
    """A program's sample, its tile's place, row and column of its cells, which are on the map."""
    program = tl.program_id(0)
    sample = (program // (down * across)).to(tl.int64)
    tile_row = program // across % down
    tile_column = program % across
    row = tile_row * HIGH + tl.arange(0, HIGH)[:, None]
    column = tile_column * WIDE + tl.arange(0, WIDE)[None, :]
    return sample, tile_row, tile_column, row, column, (row < height) & (column < width)


@triton.jit(do_not_specialize=SIZES)
def _note_tiles(
    inside,  # (K, h, w), 0 or 1
    tiles,  # (K, down, across), written: whether any cell of a tile is inside
    height, width, down, across,
    HIGH: tl.constexpr, WIDE: tl.constexpr,
) -> None:  # fmt: skip
    sample, _, _, row, column, on_map = _tile(height, width, down, across, HIGH, WIDE)
    place = sample * height * width + row * width + column
    found = tl.load(inside + place, mask=on_map, other=0)
    tl.store(tiles + tl.program_id(0), tl.max(found.to(tl.int32)))


@triton.jit
def _box_is_near(tiles, tile_row, tile_column, down, across):
    """Whether any cell of the tile or of the eight around it is inside."""
    near = 0
    for place in tl.static_range(9):
        row = place // 3 - 1
        column = place % 3 - 1
        there_is = (tile_row + row >= 0) & (tile_row + row < down)
        there_is = there_is & (tile_column + column >= 0) & (tile_column + column < across)
        other = tl.program_id(0) + row * across + column
        near += tl.load(tiles + other, mask=there_is, other=0).to(tl.int32)
    return near > 0


@triton.jit
def _steps(index, DILATION: tl.constexpr):
    """Cells down and to the right of a neighbour, in the order of NEIGHBORS."""
    place = index + index // 4  # of the nine cells around, the middle one left out
    return (place // 3 - 1) * DILATION, (place % 3 - 1) * DILATION


@triton.jit(do_not_specialize=SIZES)
def _pack_edges(
    similar,  # (B, 8, h, w), 0 or 1
    edges,  # (B, h, w), written: bits of the edges to eight neighbours, and of those back
    height, width, down, across,
    DILATION: tl.constexpr, HIGH: tl.constexpr, WIDE: tl.constexpr,
) -> None:  # fmt: skip
    image, _, _, row, column, on_map = _tile(height, width, down, across, HIGH, WIDE)
    cell = row * width + column
    similar += image * 8 * height * width
    bits = tl.zeros((HIGH, WIDE), tl.int32)
    for index in range(8):
        step_down, step_right = _steps(index, DILATION)
        row_there = (row + step_down >= 0) & (row + step_down < height)
        column_there = (column + step_right >= 0) & (column + step_right < width)
        there_is = on_map & (row_there & column_there)
        other = cell + step_down * width + step_right
        away = tl.load(similar + index * height * width + cell, mask=there_is, other=0)
        back = tl.load(similar + (7 - index) * height * width + other, mask=there_is, other=0)
        bits |= (away.to(tl.int32) << index) | (back.to(tl.int32) << (8 + index))
    tl.store(edges + image * height * width + cell, bits, mask=on_map)


@triton.jit
def _of_sample(logits, edges, inside, image_index, sample, cell, on_map, cells):
    """Where a sample's logits and box start; edges, box and logits of a program's cells."""
    logits += sample * cells
    inside += sample * cells
    edges += tl.load(image_index + sample).to(tl.int64) * cells
    bits = tl.load(edges + cell, mask=on_map, other=0)
    counts = tl.load(inside + cell, mask=on_map, other=0).to(tl.int32)
    return logits, inside, bits, counts, tl.load(logits + cell, mask=on_map, other=0.0)


@triton.jit
def _edge(bits, counts, inside, cell, width, index, DILATION: tl.constexpr):
    """Neighbours in a direction, whether any edge leads there or back, how often these count."""
    step_down, step_right = _steps(index, DILATION)
    other = cell + (step_down * width + step_right)
    away = (bits >> index) & 1
    back = (bits >> (8 + index)) & 1
    counts_there = tl.load(inside + other, mask=back != 0, other=0).to(tl.int32)
    return other, (away | back) != 0, away * counts + back * counts_there


@triton.jit(do_not_specialize=SIZES)
def _sums(
    logits,  # (K, h, w)
    edges,  # (B, h, w), see `_pack_edges`
    inside,  # (K, h, w), 0 or 1
    image_index,  # (K,)
    tiles,  # (K, down, across), see `_note_tiles`
    totals,  # one for each program, written where an edge may count
    counted,  # the same
    height, width, down, across,
    DILATION: tl.constexpr, HIGH: tl.constexpr, WIDE: tl.constexpr,
) -> None:  # fmt: skip
    sample, tile_row, tile_column, row, column, on_map = _tile(
        height, width, down, across, HIGH, WIDE
    )
    if _box_is_near(tiles, tile_row, tile_column, down, across):
        cell = row * width + column
        logits, inside, bits, counts, a = _of_sample(
            logits, edges, inside, image_index, sample, cell, on_map, height * width
        )
        small_a = 1.0 + tl.exp(-tl.abs(a))
        total = tl.zeros_like(a)
        count = tl.zeros_like(a)
        for index in range(4, 8):  # an edge is counted at one of its ends
            other, there_is, weight = _edge(bits, counts, inside, cell, width, index, DILATION)
            b = tl.load(logits + other, mask=there_is, other=0.0)
            # softplus(a) + softplus(b) - softplus(a + b), where softplus(x) is
            # max(x, 0) + log(1 + exp(-|x|)), with one logarithm.
            large = tl.maximum(a, 0.0) + tl.maximum(b, 0.0) - tl.maximum(a + b, 0.0)
            small = small_a * (1.0 + tl.exp(-tl.abs(b))) / (1.0 + tl.exp(-tl.abs(a + b)))
            total += weight.to(a.dtype) * (large + tl.log(small))
            count += weight.to(a.dtype)
        tl.store(totals + tl.program_id(0), tl.sum(total))
        tl.store(counted + tl.program_id(0), tl.sum(count))


@triton.jit
def _sigmoid(value):
    small = tl.exp(-tl.abs(value))  # never overflows
    return tl.where(value >= 0, 1.0, small) / (1.0 + small)


@triton.jit(do_not_specialize=SIZES)
def _gradient(
    logits, edges, inside, image_index, tiles,  # as above
    scale,  # what the sum's gradient is
    gradient,  # (K, h, w), written
    height, width, down, across,
    DILATION: tl.constexpr, HIGH: tl.constexpr, WIDE: tl.constexpr,
) -> None:  # fmt: skip
    sample, tile_row, tile_column, row, column, on_map = _tile(
        height, width, down, across, HIGH, WIDE
    )
    cell = row * width + column
    slope = tl.zeros((HIGH, WIDE), gradient.dtype.element_ty)
    if _box_is_near(tiles, tile_row, tile_column, down, across):
        logits, inside, bits, counts, a = _of_sample(
            logits, edges, inside, image_index, sample, cell, on_map, height * width
        )
        score = _sigmoid(a)
        for index in range(8):
            other, there_is, weight = _edge(bits, counts, inside, cell, width, index, DILATION)
            b = tl.load(logits + other, mask=there_is, other=0.0)
            slope += weight.to(a.dtype) * (score - _sigmoid(a + b))
        slope *= tl.load(scale)
    tl.store(gradient + sample * height * width + cell, slope, mask=on_map)
