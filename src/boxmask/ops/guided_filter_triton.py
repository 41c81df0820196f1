"""The guided filter on a CUDA device: one kernel for the guide, two for what is filtered.

Windows are summed up where they are read, cell by cell. Without a GPU the same code runs in
Triton's interpreter (`TRITON_INTERPRET=1`), which the tests use.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from boxmask.ops.cells_triton import cells_of_program
from boxmask.ops.fused import launch

BLOCK, WARPS = 128, 4  # cells of a program
CELLS_TOGETHER = 2**22  # of whole maps that are filtered at a time: bounds the memory of crowds
LINEAR = 5  # maps of a window's linear function: three slopes, height, mean of the mask


def guide_maps(colors: Tensor, valid: Tensor, radius: int, smoothness: float) -> Tensor:
    """What `ColorGuide` has beside colours, valid, scale, means and inverse: (B, 11, h, w) float32.

    Args:
        colors: (B, 3, h, w) in 0..1.
        valid: (B, h, w) bool.
        radius: cells from the middle of a window to its side.
        smoothness: variance of colours below which a window counts as plain.
    """
    batch, _, height, width = colors.shape
    maps = torch.empty((batch, 11, height, width), dtype=torch.float32, device=colors.device)
    blocks = triton.cdiv(height * width, BLOCK)
    launch(
        _guide, (batch * blocks,), colors.float().contiguous(),
        valid.contiguous().view(torch.uint8), maps, height, width,
        SMOOTHNESS=smoothness, RADIUS=radius, blocks=blocks, BLOCK=BLOCK, num_warps=WARPS,
    )  # fmt: skip
    return maps


def filtered_maps(
    maps: Tensor,
    image_index: Tensor,
    colors: Tensor,
    guide: Tensor,
    *,
    radius: int,
    no_border: float,
) -> tuple[Tensor, Tensor]:
    """Filtered maps (N, h, w), and (N, 2) squared errors at borders, with and without colours.

    Args:
        maps: (N, h, w) float32 in 0..1.
        image_index: (N,) picture of each map.
        colors: (B, 3, h, w) in 0..1.
        guide: (B, 11, h, w), what `guide_maps` made of these colours.
        radius: as the guide's.
        no_border: mean of a map in a window that is as good as 0; one less is as good as 1.
    """
    number, height, width = maps.shape
    blocks = triton.cdiv(height * width, BLOCK)
    maps, colors = maps.contiguous(), colors.float().contiguous()
    found, errors = torch.empty_like(maps), maps.new_empty((number, blocks, 2))
    together = max(CELLS_TOGETHER // max(height * width, 1), 1)
    linear = maps.new_empty((min(together, number), LINEAR, height, width))
    sizes = {"RADIUS": radius, "blocks": blocks, "BLOCK": BLOCK, "num_warps": WARPS}
    for start in range(0, number, together):
        part = slice(start, start + together)
        grid = (len(maps[part]) * blocks,)
        given = maps[part], image_index[part], colors, guide, linear
        launch(_fit, grid, *given, height, width, **sizes)
        launch(
            _join, grid, *given, found[part], errors[part], height, width,
            NO_BORDER=no_border, **sizes,
        )  # fmt: skip
    return found, errors.sum(dim=1)


@triton.jit
def _neighbor(y, x, step, height, width, exists, RADIUS: tl.constexpr):
    """Place of a cell of the window, which is on the map or counts as 0."""
    row = y + step // (2 * RADIUS + 1) - RADIUS
    column = x + step % (2 * RADIUS + 1) - RADIUS
    there = exists & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return row * width + column, there


@triton.jit(do_not_specialize=("height", "width", "blocks"))
def _guide(
    colors,  # (B, 3, h, w)
    valid,  # (B, h, w), 0 or 1
    maps,  # (B, 11, h, w), written: valid, scale, three means, six of the inverse
    height, width, blocks,
    SMOOTHNESS: tl.constexpr, RADIUS: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    image, cell, exists, y, x = cells_of_program(height, width, blocks, BLOCK)
    cells = height * width
    colors += image * 3 * cells
    valid += image * cells
    maps += image * 11 * cells + cell
    count = tl.zeros((BLOCK,), tl.float64)
    r, g, b = count, count, count
    rr, rg, rb, gg, gb, bb = count, count, count, count, count, count
    for step in range((2 * RADIUS + 1) * (2 * RADIUS + 1)):
        place, there = _neighbor(y, x, step, height, width, exists, RADIUS)
        there &= tl.load(valid + place, mask=there, other=0) != 0
        count += there.to(tl.float64)
        first = tl.load(colors + place, mask=there, other=0.0).to(tl.float64)
        second = tl.load(colors + cells + place, mask=there, other=0.0).to(tl.float64)
        third = tl.load(colors + 2 * cells + place, mask=there, other=0.0).to(tl.float64)
        r += first
        g += second
        b += third
        rr += first * first
        rg += first * second
        rb += first * third
        gg += second * second
        gb += second * third
        bb += third * third
    own = tl.load(valid + cell, mask=exists, other=0).to(tl.float64)
    scale = own / tl.maximum(count, 1.0)
    r, g, b = r * scale, g * scale, b * scale
    # Covariance, and its inverse by cofactors.
    rr, gg = rr * scale - r * r + SMOOTHNESS, gg * scale - g * g + SMOOTHNESS
    bb, rg = bb * scale - b * b + SMOOTHNESS, rg * scale - r * g
    rb, gb = rb * scale - r * b, gb * scale - g * b
    first, second, third = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
    determinant = rr * first + rg * second + rb * third
    tl.store(maps, own.to(tl.float32), mask=exists)
    tl.store(maps + cells, scale.to(tl.float32), mask=exists)
    tl.store(maps + 2 * cells, r.to(tl.float32), mask=exists)
    tl.store(maps + 3 * cells, g.to(tl.float32), mask=exists)
    tl.store(maps + 4 * cells, b.to(tl.float32), mask=exists)
    maps += 5 * cells
    tl.store(maps, (first / determinant).to(tl.float32), mask=exists)
    tl.store(maps + cells, (second / determinant).to(tl.float32), mask=exists)
    tl.store(maps + 2 * cells, (third / determinant).to(tl.float32), mask=exists)
    tl.store(maps + 3 * cells, ((rr * bb - rb * rb) / determinant).to(tl.float32), mask=exists)
    tl.store(maps + 4 * cells, ((rg * rb - rr * gb) / determinant).to(tl.float32), mask=exists)
    tl.store(maps + 5 * cells, ((rr * gg - rg * rg) / determinant).to(tl.float32), mask=exists)


@triton.jit
def _three(maps, place, cells, there):
    """Three maps in a row, at places."""
    first = tl.load(maps + place, mask=there, other=0.0)
    second = tl.load(maps + cells + place, mask=there, other=0.0)
    third = tl.load(maps + 2 * cells + place, mask=there, other=0.0)
    return first, second, third


@triton.jit(do_not_specialize=("height", "width", "blocks"))
def _fit(
    maps,  # (N, h, w)
    image_index,  # (N,)
    colors,  # (B, 3, h, w)
    guide,  # (B, 11, h, w), see above
    linear,  # (N, 5, h, w), written
    height, width, blocks,
    RADIUS: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    number, cell, exists, y, x = cells_of_program(height, width, blocks, BLOCK)
    image = tl.load(image_index + number).to(tl.int64)
    cells = height * width
    maps += number * cells
    colors += image * 3 * cells
    guide += image * 11 * cells
    near = tl.zeros((BLOCK,), tl.float32)
    r, g, b = near, near, near
    for step in range((2 * RADIUS + 1) * (2 * RADIUS + 1)):
        place, there = _neighbor(y, x, step, height, width, exists, RADIUS)
        given = tl.load(maps + place, mask=there, other=0.0)
        given *= tl.load(guide + place, mask=there, other=0.0)
        first, second, third = _three(colors, place, cells, there)
        near += given
        r += first * given
        g += second * given
        b += third * given
    scale = tl.load(guide + cells + cell, mask=exists, other=0.0)
    near *= scale
    mean_r, mean_g, mean_b = _three(guide + 2 * cells, cell, cells, exists)
    r, g, b = r * scale - mean_r * near, g * scale - mean_g * near, b * scale - mean_b * near
    rr, rg, rb = _three(guide + 5 * cells, cell, cells, exists)
    gg, gb, bb = _three(guide + 8 * cells, cell, cells, exists)
    first = rr * r + rg * g + rb * b
    second = rg * r + gg * g + gb * b
    third = rb * r + gb * g + bb * b
    linear += number * 5 * cells + cell
    tl.store(linear, first, mask=exists)
    tl.store(linear + cells, second, mask=exists)
    tl.store(linear + 2 * cells, third, mask=exists)
    height_of = near - (first * mean_r + second * mean_g + third * mean_b)
    tl.store(linear + 3 * cells, height_of, mask=exists)
    tl.store(linear + 4 * cells, near, mask=exists)


@triton.jit(do_not_specialize=("height", "width", "blocks"))
def _join(
    maps,  # (N, h, w)
    image_index,  # (N,)
    colors,  # (B, 3, h, w)
    guide,  # (B, 11, h, w), see above
    linear,  # (N, 5, h, w), see above
    found,  # (N, h, w), written
    errors,  # (N, blocks, 2), written
    height, width, blocks,
    NO_BORDER: tl.constexpr, RADIUS: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    number, cell, exists, y, x = cells_of_program(height, width, blocks, BLOCK)
    image = tl.load(image_index + number).to(tl.int64)
    cells = height * width
    maps += number * cells
    colors += image * 3 * cells
    guide += image * 11 * cells
    linear += number * 5 * cells
    r = tl.zeros((BLOCK,), tl.float32)
    g, b, least, plain = r, r, r, r
    for step in range((2 * RADIUS + 1) * (2 * RADIUS + 1)):
        place, there = _neighbor(y, x, step, height, width, exists, RADIUS)
        first, second, third = _three(linear, place, cells, there)
        r += first
        g += second
        b += third
        least += tl.load(linear + 3 * cells + place, mask=there, other=0.0)
        plain += tl.load(linear + 4 * cells + place, mask=there, other=0.0)
    scale = tl.load(guide + cells + cell, mask=exists, other=0.0)
    first, second, third = _three(colors, cell, cells, exists)
    value = (r * first + g * second + b * third + least) * scale
    value = tl.minimum(tl.maximum(value, 0.0), 1.0)
    tl.store(found + number * cells + cell, value, mask=exists)
    given = tl.load(maps + cell, mask=exists, other=0.0)
    given *= tl.load(guide + cell, mask=exists, other=0.0)
    near = tl.load(linear + 4 * cells + cell, mask=exists, other=0.0)
    border = exists & (near > NO_BORDER) & (near < 1 - NO_BORDER)
    kept = tl.where(border, (value - given) * (value - given), 0.0)
    smoothed = tl.where(border, (plain * scale - given) * (plain * scale - given), 0.0)
    errors += tl.program_id(0).to(tl.int64) * 2
    tl.store(errors, tl.sum(kept, axis=0))
    tl.store(errors + 1, tl.sum(smoothed, axis=0))
