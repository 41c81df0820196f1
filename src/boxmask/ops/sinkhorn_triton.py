"""The assignment on a CUDA device: all of it in one kernel.

A program has one problem, which stays in registers from the first step to the last. Without a GPU
the same code runs in Triton's interpreter (`TRITON_INTERPRET=1`), which the tests use.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from boxmask.ops.fused import launch

WARPS = 16
MOST = 32768
"""Numbers of a problem, each side rounded up to a power of two; more do not fit into registers."""


def fits(similarity: Tensor) -> bool:
    """Whether one program can hold a problem of (G, N, L)."""
    rows, columns = map(triton.next_power_of_2, similarity.shape[1:])
    return rows * columns <= MOST


def solved(
    similarity: Tensor,
    marginals: Tensor,
    valid: Tensor,
    *,
    epsilon: float,
    iterations: int,
    every: int,
    least: float,
) -> Tensor:
    """See `boxmask.prototypes.sinkhorn.sinkhorn`; as many iterations as are asked for.

    Args:
        similarity: (G, N, L) float32.
        marginals: (L,) or (G, L).
        valid: (G, N) bool.
        epsilon: weight of the entropy.
        iterations: how many, at least 1.
        every: iterations after which factors go into logarithms.
        least: smallest sum that is divided by.

    Returns:
        (G, N, L) float32.
    """
    problems, rows, columns = similarity.shape
    marginals = marginals.double().expand(problems, columns).contiguous()
    shares = torch.empty_like(similarity, memory_format=torch.contiguous_format)
    sizes = {"ROWS": triton.next_power_of_2(rows), "COLUMNS": triton.next_power_of_2(columns)}
    launch(
        _solve, (problems,), similarity.contiguous(), marginals,
        valid.contiguous().view(torch.uint8), shares, rows, columns, iterations,
        EPSILON=epsilon, EVERY=every, LEAST=least, **sizes, num_warps=WARPS,
    )  # fmt: skip
    return shares


@triton.jit
def _log_sum(logs, AXIS: tl.constexpr):
    """Logarithm of the sum of exponentials; -inf where there is nothing to sum."""
    largest = tl.max(logs, axis=AXIS)
    largest = tl.where(largest == float("-inf"), 0.0, largest)
    return tl.log(tl.sum(tl.exp(logs - tl.expand_dims(largest, AXIS)), axis=AXIS)) + largest


@triton.jit(do_not_specialize=("rows", "columns", "iterations"))
def _solve(
    similarity,  # (G, rows, columns)
    marginals,  # (G, columns)
    valid,  # (G, rows), 0 or 1
    shares,  # (G, rows, columns), written
    rows, columns, iterations,
    EPSILON: tl.constexpr, EVERY: tl.constexpr, LEAST: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    problem = tl.program_id(0).to(tl.int64)
    row, column = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    exists = tl.load(valid + problem * rows + row, mask=row < rows, other=0) != 0
    there = (row < rows)[:, None] & (column < columns)[None, :]
    place = (problem * rows + row[:, None]) * columns + column[None, :]
    kernel = tl.load(similarity + place, mask=there, other=0.0).to(tl.float64) / EPSILON
    kernel = tl.where(there & exists[:, None], kernel, float("-inf"))
    share_of = tl.load(marginals + problem * columns + column, mask=column < columns, other=0.0)
    mass = share_of * tl.maximum(tl.sum(exists.to(tl.float64), axis=0), 1.0)
    all_rows = _log_sum(kernel, 0)  # pyrefly: ignore
    by_column = tl.where(column < columns, tl.log(mass) - all_rows, float("-inf"))
    by_column = tl.where(by_column < float("inf"), by_column, 0.0)
    by_row = -_log_sum(kernel + by_column[None, :], 1)  # pyrefly: ignore
    by_row = tl.where(by_row < float("inf"), by_row, 0.0)
    for start in range(0, iterations, EVERY):
        share = tl.exp(kernel + by_row[:, None] + by_column[None, :])
        of_row, of_column = tl.full((ROWS,), 1.0, tl.float64), mass
        # The first iteration is done already.
        for _ in range(tl.maximum(start, 1), tl.minimum(start + EVERY, iterations)):
            of_column = mass / tl.maximum(tl.sum(share * of_row[:, None], axis=0), LEAST)
            of_row = 1.0 / tl.maximum(tl.sum(share * of_column[None, :], axis=1), LEAST)
        if tl.maximum(start, 1) < iterations:
            by_row += tl.log(of_row)
            by_column += tl.log(of_column)
    share = tl.exp(kernel + by_row[:, None] + by_column[None, :])
    tl.store(shares + place, share.to(tl.float32), mask=there)
