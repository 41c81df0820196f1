"""The scaling steps of the assignment on a CUDA device: all of them in one kernel.

A program has one problem, whose shares stay in registers from the first step to the last. Without
a GPU the same code runs in Triton's interpreter (`TRITON_INTERPRET=1`), which the tests use.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from boxmask.ops.fused import launch

WARPS = 16
MOST = 32768
"""Shares of a problem, each side rounded up to a power of two; more do not fit into registers."""


def fits(shares: Tensor) -> bool:
    """Whether one program can hold a problem of (G, N, L)."""
    rows, columns = map(triton.next_power_of_2, shares.shape[1:])
    return rows * columns <= MOST


def scaled(shares: Tensor, mass: Tensor, steps: int, least: float) -> tuple[Tensor, Tensor]:
    """Factors of rows and columns after a few steps of Sinkhorn and Knopp.

    Args:
        shares: (G, N, L) float64, 0 or more.
        mass: (G, L) what columns are to sum to; rows are to sum to 1.
        steps: how many, at least 1; each ends with the rows.
        least: smallest sum that is divided by.

    Returns:
        (G, N) and (G, L).
    """
    problems, rows, columns = shares.shape
    shares, mass = shares.contiguous(), mass.contiguous()
    of_row, of_column = torch.empty_like(shares[..., 0]), torch.empty_like(mass)
    sizes = {"rows": rows, "columns": columns, "steps": steps, "LEAST": least}
    sizes |= {"ROWS": triton.next_power_of_2(rows), "COLUMNS": triton.next_power_of_2(columns)}
    launch(_scale, (problems,), shares, mass, of_row, of_column, **sizes, num_warps=WARPS)
    return of_row, of_column


@triton.jit(do_not_specialize=("rows", "columns", "steps"))
def _scale(
    shares,  # (G, rows, columns)
    mass,  # (G, columns)
    of_row,  # (G, rows), written
    of_column,  # (G, columns), written
    rows, columns, steps,
    LEAST: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    problem = tl.program_id(0).to(tl.int64)
    row, column = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    there = (row < rows)[:, None] & (column < columns)[None, :]
    place = (problem * rows + row[:, None]) * columns + column[None, :]
    share = tl.load(shares + place, mask=there, other=0.0)
    wanted = tl.load(mass + problem * columns + column, mask=column < columns, other=0.0)
    by_row = tl.full((ROWS,), 1.0, tl.float64)
    by_column = wanted
    for _ in range(steps):
        by_column = wanted / tl.maximum(tl.sum(share * by_row[:, None], axis=0), LEAST)
        by_row = 1.0 / tl.maximum(tl.sum(share * by_column[None, :], axis=1), LEAST)
    tl.store(of_row + problem * rows + row, by_row, mask=row < rows)
    tl.store(of_column + problem * columns + column, by_column, mask=column < columns)
