"""Which cells look like an object on a CUDA device: one kernel, which writes no pair of cells.

A program has a few of the cells of a box that are asked, and looks at all cells that tell the
object's colours and those around it, a few at a time. Without a GPU the same code runs in Triton's
interpreter (`TRITON_INTERPRET=1`), which the tests use.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from boxmask.ops.fused import launch

BLOCK, CHUNK = 32, 64  # cells that are asked, and that tell, at a time
WARPS = 4


def compared_colors(
    mask: Tensor,
    outside: Tensor,
    lab: Tensor,
    image_index: Tensor,
    boxes: Tensor,
    around: Tensor,
    reach: Tensor,
    *,
    counts: tuple[int, int, int],
    color_spread: float,
    least_share: float,
) -> tuple[Tensor, Tensor]:
    """Shares of like cells in the object and outside all boxes, as one ratio.

    Args:
        mask: (N, h, w) float32, how much each cell counts for its object.
        outside: (B, h, w) bool, cells that tell the colours around.
        lab: (B, 3, h, w) float32 colours.
        image_index: (N,) picture of each object.
        boxes: (N, 4) float32, in cells, in which cells are asked and tell the object's colours.
        around: (N, 4) float32, in which cells tell those around.
        reach: (N,) float32 standard deviation of places, in cells.
        counts: rows of cells in a box that are asked, that tell, and that tell in what is around.
        color_spread: standard deviation of colours.
        least_share: added to all shares.

    Returns:
        (N, asked * asked) ratio of both shares, and (N, 2) mean weights of cells that tell.
    """
    number, height, width = mask.shape
    asked, of_object, of_others = counts
    ratios = mask.new_empty((number, asked * asked))
    means = mask.new_empty((number, 2))
    given = (mask, outside.view(torch.uint8), lab, image_index, boxes, around, reach)
    blocks = triton.cdiv(asked * asked, BLOCK)
    launch(
        _compare,
        (number * blocks,),
        *(one.contiguous() for one in given),
        ratios,
        means,
        height=height,
        width=width,
        SPREAD=color_spread,
        LEAST=least_share,
        ASKED=asked,
        OF_OBJECT=of_object,
        OF_OTHERS=of_others,
        BLOCKS=blocks,
        BLOCK=BLOCK,
        CHUNK=CHUNK,
        num_warps=WARPS,
    )
    return ratios, means


@triton.jit
def _places(box, place, height, width, COUNT: tl.constexpr):
    """Row and column of cells at even distances in a box, whether they are on the map, index."""
    x1, y1 = tl.load(box), tl.load(box + 1)
    x2, y2 = tl.load(box + 2), tl.load(box + 3)
    row = tl.floor(y1 + ((place // COUNT).to(tl.float32) + 0.5) / COUNT * (y2 - y1))
    column = tl.floor(x1 + ((place % COUNT).to(tl.float32) + 0.5) / COUNT * (x2 - x1))
    there = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    y = tl.minimum(tl.maximum(row, 0.0), height - 1.0).to(tl.int32)
    x = tl.minimum(tl.maximum(column, 0.0), width - 1.0).to(tl.int32)
    return row, column, there, y * width + x


@triton.jit
def _colors(lab, index, cells, exists, SPREAD: tl.constexpr):
    """The three colours of cells, in units of their spread."""
    first = tl.load(lab + index, mask=exists, other=0.0) / SPREAD
    second = tl.load(lab + cells + index, mask=exists, other=0.0) / SPREAD
    third = tl.load(lab + 2 * cells + index, mask=exists, other=0.0) / SPREAD
    return first, second, third


@triton.jit
def _alike(
    row, column, first, second, third,  # (BLOCK,) of the cells that are asked
    box, weights, lab, reach, height, width,
    COUNT: tl.constexpr, SPREAD: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Weights of like cells near by, of all cells near by, how often asked, mean weight."""
    alike = tl.zeros((BLOCK,), tl.float32)
    near_by = tl.zeros((BLOCK,), tl.float32)
    itself = tl.zeros((BLOCK,), tl.float32)
    every = tl.zeros((CHUNK,), tl.float32)
    for start in range(0, COUNT * COUNT, CHUNK):
        place = start + tl.arange(0, CHUNK)
        exists = place < COUNT * COUNT
        y, x, there, index = _places(box, place, height, width, COUNT)
        weight = tl.load(weights + index, mask=exists & there, other=0).to(tl.float32)
        a, b, c = _colors(lab, index, height * width, exists, SPREAD)
        down = (row[:, None] - y[None, :]) / reach
        across = (column[:, None] - x[None, :]) / reach
        near = weight[None, :] * tl.exp((down * down + across * across) * -0.5)
        a, b, c = first[:, None] - a[None, :], second[:, None] - b[None, :], third[:, None] - c
        alike += tl.sum(near * tl.exp((a * a + b * b + c * c) * -0.5), axis=1)
        near_by += tl.sum(near, axis=1)
        same = (row[:, None] == y[None, :]) & (column[:, None] == x[None, :]) & exists[None, :]
        itself += tl.sum(same.to(tl.float32), axis=1)
        every += weight
    return alike, near_by, itself, tl.sum(every, axis=0) / (COUNT * COUNT)


@triton.jit(do_not_specialize=("height", "width"))
def _compare(
    mask,  # (N, h, w)
    outside,  # (B, h, w), 0 or 1
    lab,  # (B, 3, h, w)
    image_index,  # (N,)
    boxes,  # (N, 4)
    around,  # (N, 4)
    reach,  # (N,)
    ratios,  # (N, ASKED * ASKED), written
    means,  # (N, 2), written
    height, width,
    SPREAD: tl.constexpr, LEAST: tl.constexpr,
    ASKED: tl.constexpr, OF_OBJECT: tl.constexpr, OF_OTHERS: tl.constexpr,
    BLOCKS: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr,
) -> None:  # fmt: skip
    number = (tl.program_id(0) // BLOCKS).to(tl.int64)
    block = tl.program_id(0) % BLOCKS
    cells = height * width
    image = tl.load(image_index + number).to(tl.int64)
    mask += number * cells
    outside += image * cells
    lab += image * 3 * cells
    boxes += number * 4
    around += number * 4
    far = tl.load(reach + number)
    place = block * BLOCK + tl.arange(0, BLOCK)
    exists = place < ASKED * ASKED
    row, column, _, index = _places(boxes, place, height, width, ASKED)
    first, second, third = _colors(lab, index, cells, exists, SPREAD)
    alike, near_by, itself, mean = _alike(
        row, column, first, second, third, boxes, mask, lab, far, height, width,
        OF_OBJECT, SPREAD, BLOCK, CHUNK,
    )  # fmt: skip
    itself *= tl.load(mask + index, mask=exists, other=0.0)  # a cell does not speak for itself
    alike = tl.maximum(alike - itself, 0.0) / (tl.maximum(near_by - itself, 0.0) + LEAST)
    others, near_others, _, mean_others = _alike(
        row, column, first, second, third, around, outside, lab, far, height, width,
        OF_OTHERS, SPREAD, BLOCK, CHUNK,
    )  # fmt: skip
    ratio = (alike + LEAST) / (others / (near_others + LEAST) + LEAST)
    tl.store(ratios + number * ASKED * ASKED + place, ratio, mask=exists)
    if block == 0:
        tl.store(means + number * 2, mean)
        tl.store(means + number * 2 + 1, mean_others)
