"""Which neighbours are tied, and which objects hide in colour, on a CUDA device: three kernels.

Features have many channels, and eight differences of them at each cell would be most of what a
step writes. Here they are summed up where they are read, and only near objects that hide. Without
a GPU the same code runs in Triton's interpreter (`TRITON_INTERPRET=1`), which the tests use.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from boxmask.ops.cells_triton import cells_of_program
from boxmask.ops.contrast import frame_shares, middle_shares
from boxmask.ops.fused import launch
from boxmask.ops.ties import Textures

BLOCK, CHANNELS = 64, 32  # cells of a program, and channels that it looks at together
TILE = (8, 64)  # cells of a box that are marked together
POINTS = 64  # at least as many as a box's middle and its frame have
WARPS = 4


def tied_neighbors(
    lab: Tensor,
    valid: Tensor,
    textures: Textures | None,
    *,
    dilation: int,
    least_similarity: float,
) -> Tensor:
    """See `boxmask.ops.ties.tied_neighbors`; features may have any type and layout."""
    batch, _, height, width = lab.shape
    tied = torch.zeros((batch, 8, height, width), dtype=torch.uint8, device=lab.device)
    valid = valid.contiguous().view(torch.uint8)
    features, hidden, scales = lab, valid, lab  # not looked at
    if textures is not None:
        features, hidden = textures.features, textures.hidden.contiguous().view(torch.uint8)
        scales = inverse_spreads(features, valid)
    channels = features.shape[1]
    blocks = triton.cdiv(height * width, BLOCK)
    launch(
        _tie,
        (batch * blocks,),
        lab.contiguous(),
        valid,
        features,
        hidden,
        scales,
        tied,
        *features.stride(),
        height=height,
        width=width,
        channels=channels,
        DILATION=dilation,
        LEAST=least_similarity,
        COLOR_REACH=1.0 if textures is None else textures.color_reach,
        FEATURE_REACH=1.0 if textures is None else textures.feature_reach,
        TEXTURES=textures is not None,
        blocks=blocks,
        BLOCK=BLOCK,
        CHANNELS=CHANNELS,
        num_warps=WARPS,
    )
    return tied.view(torch.bool)


def inverse_spreads(features: Tensor, valid: Tensor) -> Tensor:
    """What `standardized` multiplies each channel of each picture by: (B, C) float32.

    Args:
        features: (B, C, h, w).
        valid: (B, h, w) uint8, not 0 in cells that count.
    """
    batch, channels, height, width = features.shape
    scales = torch.empty((batch, channels), dtype=torch.float32, device=features.device)
    blocks = triton.cdiv(channels, CHANNELS)
    launch(
        _spread,
        (batch * blocks,),
        features,
        valid,
        scales,
        *features.stride(),
        height=height,
        width=width,
        channels=channels,
        blocks=blocks,
        BLOCK=BLOCK,
        CHANNELS=CHANNELS,
        num_warps=WARPS,
    )
    return scales


def hidden_cells(
    lab: Tensor,
    outside: Tensor,
    boxes: Tensor,
    image_index: Tensor,
    stride: int,
    hidden_below: float,
) -> Tensor:
    """See `boxmask.ops.ties.hidden_cells`; boxes (N, 4) of image after image."""
    batch, _, height, width = lab.shape
    hidden = torch.zeros((batch, height, width), dtype=torch.uint8, device=lab.device)
    middle, frame = middle_shares(lab.device), frame_shares(lab.device)
    launch(
        _hide,
        (len(boxes),),
        lab.contiguous(),
        outside.contiguous().view(torch.uint8),
        boxes.float().contiguous(),
        image_index,
        middle,
        frame,
        hidden,
        height=height,
        width=width,
        STRIDE=stride,
        BELOW=hidden_below,
        INNER=len(middle),
        AROUND=len(frame),
        POINTS=POINTS,
        ROWS=TILE[0],
        COLUMNS=TILE[1],
        num_warps=WARPS,
    )
    return hidden.view(torch.bool)


@triton.jit
def _distance(lab, one, other, cells, there):
    """Of the colours of cells."""
    a = tl.load(lab + one, mask=there, other=0.0) - tl.load(lab + other, mask=there, other=0.0)
    one += cells
    other += cells
    b = tl.load(lab + one, mask=there, other=0.0) - tl.load(lab + other, mask=there, other=0.0)
    one += cells
    other += cells
    c = tl.load(lab + one, mask=there, other=0.0) - tl.load(lab + other, mask=there, other=0.0)
    return tl.sqrt(a * a + b * b + c * c)


@triton.jit
def _features(features, y, x, there, channel, channels, step_c, step_y, step_x):
    """(BLOCK, CHANNELS) of cells; 0 where there is none."""
    place = y.to(tl.int64) * step_y + x.to(tl.int64) * step_x
    pointers = features + place[:, None] + channel.to(tl.int64)[None, :] * step_c
    exists = there[:, None] & (channel < channels)[None, :]
    return tl.load(pointers, mask=exists, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=("step_b", "step_y", "height", "width", "blocks"))
def _spread(
    features,  # (B, C, h, w), of any strides
    valid,  # (B, h, w), 0 or 1
    scales,  # (B, C), written
    step_b, step_c, step_y, step_x,
    height, width, channels, blocks,
    BLOCK: tl.constexpr, CHANNELS: tl.constexpr,
) -> None:  # fmt: skip
    image = (tl.program_id(0) // blocks).to(tl.int64)
    channel = (tl.program_id(0) % blocks) * CHANNELS + tl.arange(0, CHANNELS)
    features += image * step_b
    cells = height * width
    valid += image * cells
    total = tl.zeros((BLOCK, CHANNELS), tl.float32)
    number = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, cells, BLOCK):
        cell = start + tl.arange(0, BLOCK)
        counts = tl.load(valid + cell, mask=cell < cells, other=0) != 0
        total += _features(
            features, cell // width, cell % width, counts, channel, channels, step_c, step_y, step_x
        )
        number += counts.to(tl.float32)
    count = tl.maximum(tl.sum(number, axis=0), 1.0)
    mean = tl.sum(total, axis=0) / count
    squares = tl.zeros((BLOCK, CHANNELS), tl.float32)
    for start in range(0, cells, BLOCK):
        cell = start + tl.arange(0, BLOCK)
        counts = tl.load(valid + cell, mask=cell < cells, other=0) != 0
        values = _features(
            features, cell // width, cell % width, counts, channel, channels, step_c, step_y, step_x
        )
        centered = tl.where(counts[:, None], values - mean[None, :], 0.0)
        squares += centered * centered
    variance = tl.sum(squares, axis=0) / count
    scale = 1.0 / tl.maximum(tl.sqrt(variance * channels), 1e-6)
    tl.store(scales + image * channels + channel, scale, mask=channel < channels)


@triton.jit(do_not_specialize=("step_b", "step_y", "height", "width", "blocks"))
def _tie(
    lab,  # (B, 3, h, w)
    valid,  # (B, h, w), 0 or 1
    features,  # (B, C, h, w), of any strides
    hidden,  # (B, h, w), 0 or 1
    scales,  # (B, C)
    tied,  # (B, 8, h, w), written
    step_b, step_c, step_y, step_x,
    height, width, channels, blocks,
    DILATION: tl.constexpr, LEAST: tl.constexpr,
    COLOR_REACH: tl.constexpr, FEATURE_REACH: tl.constexpr, TEXTURES: tl.constexpr,
    BLOCK: tl.constexpr, CHANNELS: tl.constexpr,
) -> None:  # fmt: skip
    image, cell, exists, y, x = cells_of_program(height, width, blocks, BLOCK)
    cells = height * width
    lab += image * 3 * cells
    valid += image * cells
    hidden += image * cells
    tied += image * 8 * cells
    features += image * step_b
    scales += image * channels
    own_valid = tl.load(valid + cell, mask=exists, other=0) != 0
    own_hidden = tl.load(hidden + cell, mask=exists, other=0) != 0
    for number in tl.static_range(4):  # the other four look at the same pairs
        y_other = y + (number // 3 - 1) * DILATION
        x_other = x + (number % 3 - 1) * DILATION
        there = exists & (y_other >= 0) & (x_other >= 0) & (x_other < width)
        other = y_other * width + x_other
        pair = own_valid & (tl.load(valid + other, mask=there, other=0) != 0)
        distance = _distance(lab, cell, other, cells, there)
        tie = pair & (tl.exp(distance * -0.5) >= LEAST)
        if TEXTURES:
            hides = own_hidden | (tl.load(hidden + other, mask=there, other=0) != 0)
            asked = hides & pair
            squares = tl.zeros((BLOCK,), tl.float32)
            last = tl.max(asked.to(tl.int32), axis=0) * channels  # 0 where nobody asks
            for first in range(0, last, CHANNELS):
                channel = first + tl.arange(0, CHANNELS)
                scale = tl.load(scales + channel, mask=channel < channels, other=0.0)
                here = _features(
                    features, y, x, asked, channel, channels, step_c, step_y, step_x
                )  # fmt: skip
                beside = _features(
                    features, y_other, x_other, asked, channel, channels, step_c, step_y, step_x
                )
                difference = (here - beside) * scale[None, :]
                squares += tl.sum(difference * difference, axis=1)
            apart = distance / COLOR_REACH + tl.sqrt(squares) / FEATURE_REACH
            tie = tl.where(hides, pair & (apart < 1.0), tie)
        tl.store(tied + number * cells + cell, tie.to(tl.uint8), mask=there)
        tl.store(tied + (7 - number) * cells + other, tie.to(tl.uint8), mask=there)


@triton.jit
def _points(shares, box, count, STRIDE: tl.constexpr, MARGIN: tl.constexpr, POINTS: tl.constexpr):
    """Row and column of the cells at shares (count, 2) of a box's sides, as floats."""
    point = tl.arange(0, POINTS)
    across = tl.load(shares + 2 * point, mask=point < count, other=0.0)
    down = tl.load(shares + 2 * point + 1, mask=point < count, other=0.0)
    x1, y1 = tl.load(box), tl.load(box + 1)
    x2, y2 = tl.load(box + 2), tl.load(box + 3)
    beyond_x = (across > 1.0).to(tl.float32) - (across < 0.0).to(tl.float32)
    beyond_y = (down > 1.0).to(tl.float32) - (down < 0.0).to(tl.float32)
    column = tl.floor((x1 + across * (x2 - x1) + beyond_x * MARGIN) / STRIDE)
    row = tl.floor((y1 + down * (y2 - y1) + beyond_y * MARGIN) / STRIDE)
    return row, column


@triton.jit
def _first_cell(end, most, STRIDE: tl.constexpr):
    """The first cell whose centre lies beyond the end of a box, in 0..most."""
    return tl.minimum(tl.maximum(tl.ceil(end / STRIDE - 0.5).to(tl.int32), 0), most)


@triton.jit(do_not_specialize=("height", "width"))
def _hide(
    lab,  # (B, 3, h, w)
    outside,  # (B, h, w), 0 or 1
    boxes,  # (N, 4)
    image_index,  # (N,)
    middle,  # (INNER, 2)
    frame,  # (AROUND, 2)
    hidden,  # (B, h, w), written where an object hides
    height, width,
    STRIDE: tl.constexpr, BELOW: tl.constexpr, INNER: tl.constexpr, AROUND: tl.constexpr,
    POINTS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    number = tl.program_id(0)
    image = tl.load(image_index + number).to(tl.int64)
    cells = height * width
    box = boxes + number * 4
    lab += image * 3 * cells
    outside += image * cells
    hidden += image * cells
    point = tl.arange(0, POINTS)
    row, column = _points(middle, box, INNER, STRIDE, 0.0, POINTS)  # pyrefly: ignore
    y = tl.minimum(tl.maximum(row, 0.0), height - 1.0).to(tl.int32)
    x = tl.minimum(tl.maximum(column, 0.0), width - 1.0).to(tl.int32)
    inner = y * width + x
    row, column = _points(frame, box, AROUND, STRIDE, STRIDE, POINTS)
    counts = (row >= 0) & (row < height) & (column >= 0) & (column < width) & (point < AROUND)
    around = tl.where(counts, row * width + column, 0.0).to(tl.int32)
    counts &= tl.load(outside + around, mask=counts, other=0) != 0
    one, other = inner[:, None], around[None, :]
    both = (point < INNER)[:, None] & counts[None, :]
    distance = tl.where(both, _distance(lab, one, other, cells, both), float("inf"))
    nearest = tl.min(distance, axis=1)  # of each point of the middle
    nearest = tl.where(point < INNER, nearest, float("inf"))
    before = (nearest[None, :] < nearest[:, None]) | (
        (nearest[None, :] == nearest[:, None]) & (point[None, :] < point[:, None])
    )
    rank = tl.sum(before.to(tl.int32), axis=1)
    hides = tl.max(((rank == (INNER - 1) // 2) & (nearest <= BELOW)).to(tl.int32), axis=0)
    top, left = (
        _first_cell(tl.load(box + 1), height, STRIDE),
        _first_cell(tl.load(box), width, STRIDE),
    )
    bottom = _first_cell(tl.load(box + 3), height, STRIDE)
    right = _first_cell(tl.load(box + 2), width, STRIDE)
    bottom = tl.where(hides != 0, bottom, top)  # nothing to mark
    for first_row in range(top, bottom, ROWS):
        for first_column in range(left, right, COLUMNS):
            rows = first_row + tl.arange(0, ROWS)
            columns = first_column + tl.arange(0, COLUMNS)
            inside = (rows < bottom)[:, None] & (columns < right)[None, :]
            marks = tl.full((ROWS, COLUMNS), 1, tl.uint8)
            tl.store(hidden + rows[:, None] * width + columns[None, :], marks, mask=inside)
