"""Tensors of numbers that the host knows, made without a wait for the device.

`torch.tensor(values, device="cuda")` copies from the host and waits until everything asked for
before is done. What is filled on the device does not wait.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def numbered(counts: Sequence[int], device: torch.device) -> Tensor:
    """0 `counts[0]` times, then 1 `counts[1]` times, and so on: (sum(counts),) int64."""
    parts = [torch.full((count,), i, device=device) for i, count in enumerate(counts)]
    return torch.cat([torch.zeros(0, dtype=torch.int64, device=device), *parts])


def scalar(value: float, like: Tensor) -> Tensor:
    """A number with the device and the type of another tensor."""
    return like.new_full((), value)


@lru_cache(maxsize=64)
def constants(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(n,) float32, copied to each device once; never change it in place."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=device)
