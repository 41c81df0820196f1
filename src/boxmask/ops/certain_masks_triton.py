"""Cross-entropy plus Dice on certain cells, on a CUDA device: one kernel for each direction.

The masks of objects are read where their samples ask for them; nothing of a map's size is written
but the gradient. Without a GPU the same code runs in Triton's interpreter (`TRITON_INTERPRET=1`),
which the tests use.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from boxmask.ops.fused import launch

BLOCK, WARPS = 1024, 4  # cells that are looked at together
KEPT = 3  # numbers of a sample that the backward pass needs


class FusedDistances(torch.autograd.Function):
    """`certain_mask_distances` in float32."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, foreground: Tensor, certain: Tensor, index: Tensor, small: float
    ) -> Tensor:
        """Distances (K,) of logits (K, h, w) from masks (N, h, w), sample k from mask index[k]."""
        logits = logits.contiguous()
        masks = [one.contiguous().view(torch.uint8) for one in (foreground, certain)]
        found = logits.new_empty(len(logits))
        kept = logits.new_empty((len(logits), KEPT))
        cells = logits[0].numel() if len(logits) else 0
        sizes = {"SMALL": small, "BLOCK": BLOCK, "num_warps": WARPS}
        if len(logits):
            launch(_distance, (len(logits),), logits, *masks, index, found, kept, cells, **sizes)
        ctx.save_for_backward(logits, *masks, index, kept)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyrefly: ignore
        """Of the logits alone."""
        logits, foreground, certain, index, kept = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        if logits.numel():
            cells = logits[0].numel()
            blocks = triton.cdiv(cells, BLOCK)
            launch(
                _slope, (len(logits) * blocks,), logits, foreground, certain, index, kept,
                grad_outputs[0].contiguous(), gradient, cells,
                blocks=blocks, BLOCK=BLOCK, num_warps=WARPS,
            )  # fmt: skip
        return gradient, None, None, None, None


@triton.jit(do_not_specialize=("cells",))
def _distance(
    logits,  # (K, cells)
    foreground,  # (N, cells), 0 or 1
    certain,  # (N, cells), 0 or 1
    index,  # (K,)
    found,  # (K,), written
    kept,  # (K, 3), written: 1 / cells that count, factors of Dice's slope
    cells,
    SMALL: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    sample = tl.program_id(0).to(tl.int64)
    logits += sample * cells
    mask = tl.load(index + sample).to(tl.int64) * cells
    entropy, count = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    overlap, size = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    for start in range(0, cells, BLOCK):
        cell = start + tl.arange(0, BLOCK)
        exists = cell < cells
        counts = tl.load(certain + mask + cell, mask=exists, other=0) != 0
        truth = tl.load(foreground + mask + cell, mask=exists, other=0).to(tl.float32)
        logit = tl.load(logits + cell, mask=exists, other=0.0)
        small = tl.exp(-tl.abs(logit))
        rest = tl.where(small < 1e-3, small * (1.0 - 0.5 * small), tl.log(1.0 + small))
        score = tl.where(logit >= 0, 1.0, small) / (1.0 + small)
        entropy += tl.where(counts, tl.maximum(logit, 0.0) - logit * truth + rest, 0.0)
        count += counts.to(tl.float32)
        overlap += tl.where(counts, score * truth, 0.0)
        size += tl.where(counts, score * score + truth, 0.0)
    number = tl.sum(count, axis=0)
    per_cell = 1.0 / tl.maximum(number, 1.0)
    both, whole = tl.sum(overlap, axis=0), tl.sum(size, axis=0) + SMALL
    share = 2.0 / whole  # pyrefly: ignore
    dice = tl.where(number > 0, 1.0 - share * both, 0.0)  # pyrefly: ignore
    tl.store(found + sample, tl.sum(entropy, axis=0) * per_cell + dice)
    tl.store(kept + sample * 3, per_cell)
    tl.store(kept + sample * 3 + 1, share)
    tl.store(kept + sample * 3 + 2, share * share * both)  # pyrefly: ignore


@triton.jit(do_not_specialize=("cells", "blocks"))
def _slope(
    logits,  # (K, cells)
    foreground,  # (N, cells), 0 or 1
    certain,  # (N, cells), 0 or 1
    index,  # (K,)
    kept,  # (K, 3), see above
    above,  # (K,) gradient of the distances
    gradient,  # (K, cells), written
    cells, blocks,
    BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    sample = (tl.program_id(0) // blocks).to(tl.int64)
    cell = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    exists = cell < cells
    mask = tl.load(index + sample).to(tl.int64) * cells
    counts = tl.load(certain + mask + cell, mask=exists, other=0) != 0
    truth = tl.load(foreground + mask + cell, mask=exists, other=0).to(tl.float32)
    logit = tl.load(logits + sample * cells + cell, mask=exists, other=0.0)
    small = tl.exp(-tl.abs(logit))
    score = tl.where(logit >= 0, 1.0, small) / (1.0 + small)
    per_cell = tl.load(kept + sample * 3)
    by_truth, by_score = tl.load(kept + sample * 3 + 1), tl.load(kept + sample * 3 + 2)
    of_dice = (by_score * score - by_truth * truth) * score * (1.0 - score)
    slope = ((score - truth) * per_cell + of_dice) * tl.load(above + sample)
    place = gradient + sample * cells + cell
    tl.store(place, tl.where(counts, slope, 0.0), mask=exists)
