"""Sums over processes; does nothing when there is one."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def num_ranks() -> int:
    """How many processes train together; 1 when alone."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if num_ranks() > 1 else 0


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return rank() == 0


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum of `value` over all processes, without a graph; `value` itself is left alone."""
    total = value.detach().clone()
    if num_ranks() > 1:
        dist.all_reduce(total, op=dist.ReduceOp.SUM)
    return total


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of `value` over all processes, without a graph."""
    return sum_over_ranks(value) / num_ranks()


def gather_objects(objects: list) -> list:
    """The lists of all processes, joined in the order of the processes."""
    if num_ranks() == 1:
        return objects
    gathered: list = [None] * num_ranks()
    dist.all_gather_object(gathered, objects)
    return [item for part in gathered for item in part]


def gather_to_first(value: Any) -> list[Any]:
    """The values of all processes in the first one; nothing in the others.

    They meet on the CPU: what a GPU has free may be too little for them.
    """
    if num_ranks() == 1:
        return [value]
    group = dist.new_group(backend="gloo")
    assert isinstance(group, dist.ProcessGroup)  # all processes are in it
    gathered = [None] * num_ranks() if is_first() else None
    dist.gather_object(value, gathered, dst=0, group=group)
    dist.destroy_process_group(group)
    return gathered or []


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of all processes, which may have different numbers of them; no graph."""
    if num_ranks() == 1:
        return rows
    counts = [torch.zeros((), dtype=torch.int64, device=rows.device) for _ in range(num_ranks())]
    dist.all_gather(counts, torch.tensor(len(rows), device=rows.device))
    longest = max(int(count) for count in counts)
    padded = rows.new_zeros((longest, *rows.shape[1:]))
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])
