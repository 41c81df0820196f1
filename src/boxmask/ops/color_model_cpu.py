"""Sums of Gaussians on a CPU, compiled by numba: pairs are looked at, and never written down."""

from functools import partial

import numpy as np
import torch
from numba.core.types import float32, void
from numpy.typing import NDArray
from torch import Tensor

from boxmask.ops.compiled import compiled
from boxmask.ops.threads import do_all, even_parts

LENGTH = 5  # numbers of a vector: colours and places
LEAST_POWER = np.float32(-40)  # exponents below it count as this
_SIGNATURE = void(float32[:, :, ::1], float32[:, :, ::1], float32[:, ::1], float32[:, ::1])

Array = NDArray[np.float32]


def weighted_gaussians(asked: Tensor, known: Tensor, weights: Tensor) -> Tensor:
    """Sum of weights, each times exp(-distance^2 / 2) of its vector from the one that asks.

    Exponentials are right to 1e-5 of their value, or to 2e-14.

    Args:
        asked: (N, a, 5) float32 on the CPU.
        known: (N, b, 5).
        weights: (N, b) 0 or more; vectors without weight are skipped.

    Returns:
        (N, a), no graph.
    """
    found = asked.new_empty(asked.shape[:2])
    given = [one.detach().contiguous() for one in (asked, known.mT, weights, found)]
    parts = even_parts(len(asked), torch.get_num_threads())
    work = compiled(_sum_up, _SIGNATURE)
    do_all([partial(work, *(one[part].numpy() for one in given)) for part in parts])
    return given[-1]


def _sum_up(asked: Array, known: Array, weights: Array, found: Array) -> None:
    """Fills found (n, a) from asked (n, a, 5), known (n, 5, b) and weights (n, b)."""
    one, half = np.float32(1), np.float32(-0.5)
    least, root = LEAST_POWER, np.float32(1 / 64)
    near = np.empty((LENGTH, known.shape[2]), np.float32)
    weight = np.empty(known.shape[2], np.float32)
    for row in range(len(asked)):
        count = 0
        for index in range(known.shape[2]):
            if weights[row, index] > 0:
                weight[count] = weights[row, index]
                for axis in range(LENGTH):
                    near[axis, count] = known[row, axis, index]
                count += 1
        for each in range(asked.shape[1]):
            a, b, c, d, e = asked[row, each]
            total = np.float32(0)
            for index in range(count):
                v, w, x = a - near[0, index], b - near[1, index], c - near[2, index]
                y, z = d - near[3, index], e - near[4, index]
                power = max(half * (v * v + w * w + x * x + y * y + z * z), least) * root
                # The exponential of a 64th by its series, which vector instructions can do.
                value = one + power * np.float32(1 / 6)
                value = one + power * np.float32(1 / 5) * value
                value = one + power * np.float32(1 / 4) * value
                value = one + power * np.float32(1 / 3) * value
                value = one + power * np.float32(1 / 2) * value
                value = one + power * value
                value *= value
                value *= value
                value *= value
                value *= value
                value *= value
                value *= value
                total += weight[index] * value
            found[row, each] = total
