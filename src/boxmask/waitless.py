"""Numbers between host and device without a wait for the device.

`torch.tensor(values, device="cuda")` copies from the host and waits until everything asked for
before is done, and so does `.tolist()` of what is on the device. What is filled on the device does
not wait, nor does a copy from or to page-locked memory, whose numbers are looked at later.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def send(values: Tensor, device: torch.device | str) -> Tensor:
    """A copy on `device` of what is on the host; the same tensor where it is there already."""
    on_host, device = values.device.type == "cpu", torch.device(device)
    if on_host and device.type == "cuda" and torch.cuda.is_available() and not values.is_pinned():
        values = values.pin_memory()
    return values.to(device, non_blocking=on_host)


class Fetched:
    """Copies to the host that have begun; who takes them a step later does not wait.

    Args:
        values: on one device.
    """

    def __init__(self, *values: Tensor) -> None:
        self._values = values
        self._done: torch.cuda.Event | None = None
        if all(one.device.type == "cpu" for one in values):
            return
        pinned = torch.cuda.is_available()  # without one, the absent GPU of the tests
        self._values = tuple(
            torch.empty(one.shape, dtype=one.dtype, pin_memory=pinned).copy_(
                one, non_blocking=one.device.type == "cuda"
            )
            for one in values
        )
        if pinned:
            self._done = torch.cuda.Event()
            self._done.record()

    def get(self) -> tuple[Tensor, ...]:
        """The copies, on the host, once they are complete."""
        if self._done is not None:
            self._done.synchronize()
        return self._values


def numbered(counts: Sequence[int], device: torch.device) -> Tensor:
    """0 `counts[0]` times, then 1 `counts[1]` times, and so on: (sum(counts),) int64."""
    numbers = np.repeat(np.arange(len(counts)), np.asarray(counts, dtype=np.int64))
    return send(torch.from_numpy(numbers), device)


def scalar(value: float, like: Tensor) -> Tensor:
    """A number with the device and the type of another tensor."""
    return like.new_full((), value)


@lru_cache(maxsize=64)
def constants(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(n,) float32, copied to each device once; never change it in place."""
    with torch.inference_mode(False):
        return send(torch.tensor(values, dtype=torch.float32), device)
