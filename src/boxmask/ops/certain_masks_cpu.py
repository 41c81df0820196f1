"""Cross-entropy plus Dice on a CPU, compiled by numba: cells that do not count are skipped."""

from functools import partial
from typing import Any

import numpy as np
import torch
from numba.core.types import boolean, float32, float64, void
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from boxmask.ops.certain_masks import SMALL
from boxmask.ops.compiled import compiled
from boxmask.ops.threads import do_all, even_parts

_ROWS, _CELLS = float32[:, ::1], boolean[:, ::1]
_FORWARD = void(_ROWS, _CELLS, _CELLS, float64, float64[:, ::1], float32[::1])
_BACKWARD = void(_ROWS, _CELLS, _CELLS, float64[:, ::1], float32[::1], _ROWS)

Array = NDArray[np.float32]
Cells = NDArray[np.bool_]
Sums = NDArray[np.float64]


class CompiledDistances(torch.autograd.Function):
    """`certain_mask_distances` in single precision."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, foreground: Tensor, certain: Tensor) -> Tensor:
        """(K,) from (K, h, w) each."""
        ctx.shape = logits.shape
        rows = [one.detach().contiguous().flatten(1) for one in (logits, foreground, certain)]
        sums = torch.empty((len(logits), 3), dtype=torch.float64)
        found = torch.empty(len(logits))
        _run(_distances, _FORWARD, [*rows, SMALL, sums, found])
        ctx.save_for_backward(*rows, sums)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyrefly: ignore
        """Gradient of the logits."""
        *rows, sums = ctx.saved_tensors
        found = torch.zeros(rows[0].shape)
        _run(_gradients, _BACKWARD, [*rows, sums, grad_outputs[0].contiguous(), found])
        return found.view(ctx.shape), None, None


def _run(kernel: Any, signature: Any, given: list[Any]) -> None:
    """Runs a kernel on runs of samples, side by side; numbers are handed on as they are."""
    work = compiled(kernel, signature)
    parts = even_parts(len(given[0]), torch.get_num_threads())
    do_all(
        [
            partial(work, *(one[part].numpy() if isinstance(one, Tensor) else one for one in given))
            for part in parts
        ]
    )


def _distances(
    logits: Array, foreground: Cells, certain: Cells, small: float, sums: Sums, found: Array
) -> None:
    """Fills found (k,), and sums (k, 3): cells that count, overlap, and Dice's denominator."""
    for row in range(len(logits)):
        entropy, overlap, size, count = 0.0, 0.0, small, 0
        for cell in range(logits.shape[1]):
            if certain[row, cell]:
                logit = logits[row, cell]
                tail = np.exp(-abs(logit))
                score = (np.float32(1) if logit > 0 else tail) / (1 + tail)
                entropy += max(logit, np.float32(0)) + np.log1p(tail)
                size += score * score
                count += 1
                if foreground[row, cell]:
                    entropy -= logit
                    overlap += score
                    size += 1
        sums[row, 0], sums[row, 1], sums[row, 2] = count, overlap, size
        found[row] = entropy / count + 1 - 2 * overlap / size if count > 0 else 0.0


def _gradients(
    logits: Array, foreground: Cells, certain: Cells, sums: Sums, down: Array, found: Array
) -> None:
    """Fills found (k, cells) where cells count, from gradients down (k,) of the distances."""
    for row in range(len(logits)):
        count, overlap, size = sums[row]
        by_target = np.float32(-2 / size)
        by_score = np.float32(4 * overlap / (size * size))
        by_cell = np.float32(1 / max(count, 1.0))
        for cell in range(logits.shape[1]):
            if certain[row, cell]:
                logit = logits[row, cell]
                tail = np.exp(-abs(logit))
                score = (np.float32(1) if logit > 0 else tail) / (1 + tail)
                target = np.float32(foreground[row, cell])
                of_dice = by_target * target + by_score * score
                # score * (1 - score) = tail / (1 + tail)^2
                slope = of_dice * tail / ((1 + tail) * (1 + tail))
                found[row, cell] = down[row] * (by_cell * (score - target) + slope)
