"""The pairwise term in closed form: similar neighbours, same label.

For logits a and b, P(same) = p_a p_b + (1 - p_a)(1 - p_b), and

    -log P(same) = softplus(a) + softplus(b) - softplus(a + b),

with the gradient sigmoid(a) - sigmoid(a + b) for a. No tensor of all neighbours is written. On a
CPU only the edges that count are looked at, a few percent of all where boxes are small. Elsewhere
they are not listed, because the host would have to wait for the list's length: fused kernels skip
what no box is near where Triton runs, see `pairwise_triton.py`, else shifted views hold every edge.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from boxmask.ops.affinity import NEIGHBORS
from boxmask.ops.fused import fused_kernels_run

# One of each pair of opposite neighbours, with its index in NEIGHBORS.
FORWARD = tuple(enumerate(NEIGHBORS))[len(NEIGHBORS) // 2 :]


View = tuple[slice, slice]  # rows, columns


def pairwise_sum(
    logits: Tensor, similar: Tensor, inside: Tensor, image_index: Tensor, *, dilation: int
) -> tuple[Tensor, Tensor]:
    """Sum of -log P(same label) over edges that start in the box, and their number.

    Args:
        logits: (K, h, w) mask logits.
        similar: (B, 8, h, w) bool, edges that count, neighbours in the order of `NEIGHBORS`.
        inside: (K, h, w) bool, cells of the sample's box; an edge counts once for each of its
            ends that is inside.
        image_index: (K,) image of each sample.
        dilation: cells from a cell to its neighbours.

    Returns:
        (total, count): scalars; total has a graph, also at K = 0, where both are zero.

    Source: BoxInst (CVPR 2021), equation 5.
    """
    if logits.device.type == "cpu":
        sums = listed_sum
    elif fused_kernels_run("pairs", logits.device):
        from boxmask.ops.pairwise_triton import fused_sum as sums  # Triton is not everywhere
    else:
        sums = dense_sum
    return sums(logits, similar, inside, image_index, dilation=dilation)


def dense_sum(
    logits: Tensor, similar: Tensor, inside: Tensor, image_index: Tensor, *, dilation: int
) -> tuple[Tensor, Tensor]:
    """`pairwise_sum` on shifted views of whole maps; never waits for the device."""
    total = logits.sum() * 0.0
    count = logits.new_zeros(())
    unary = F.softplus(logits)  # (K, h, w)
    for index, (dy, dx) in FORWARD:
        here, there = _views(logits.shape[-2:], dy * dilation, dx * dilation)
        weight = _weight(similar, inside, image_index, index, (here, there)).to(logits.dtype)
        a, b = logits[:, here[0], here[1]], logits[:, there[0], there[1]]
        edge = unary[:, here[0], here[1]] + unary[:, there[0], there[1]] - F.softplus(a + b)
        total = total + (edge * weight).sum()
        count = count + weight.sum()
    return total, count


def listed_sum(
    logits: Tensor, similar: Tensor, inside: Tensor, image_index: Tensor, *, dilation: int
) -> tuple[Tensor, Tensor]:
    """`pairwise_sum` on a list of the edges that count."""
    width = logits.shape[-1]
    firsts, seconds, weights = [], [], []
    for index, (dy, dx) in FORWARD:
        here, there = _views(logits.shape[-2:], dy * dilation, dx * dilation)
        weight = torch.zeros(logits.shape, dtype=torch.uint8)
        weight[:, here[0], here[1]] = _weight(similar, inside, image_index, index, (here, there))
        flat = weight.flatten()
        first = flat.nonzero().squeeze(1)
        firsts.append(first)
        seconds.append(first + (dy * width + dx) * dilation)
        weights.append(flat[first])
    weight = torch.cat(weights).to(logits.dtype)
    total = _EdgeSum.apply(logits, torch.cat(firsts), torch.cat(seconds), weight)
    assert isinstance(total, Tensor)
    return total, weight.sum()


class _EdgeSum(torch.autograd.Function):
    """Weighted sum of -log P(same) over E edges; the gradient is found on the way."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
        """Logits (K, h, w); ends (E,) as places in the flattened logits; weights (E,)."""
        flat = logits.flatten()
        a, b = flat[first], flat[second]
        both = a + b
        loss = F.softplus(a) + F.softplus(b) - F.softplus(both)
        if ctx.needs_input_grad[0]:
            same = both.sigmoid()
            gradient = torch.zeros_like(flat)
            gradient.index_add_(0, first, (a.sigmoid() - same) * weight)
            gradient.index_add_(0, second, (b.sigmoid() - same) * weight)
            ctx.save_for_backward(gradient.view_as(logits))
        return (loss * weight).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyrefly: ignore
        """The saved gradient, scaled."""
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0], None, None, None


def _weight(
    similar: Tensor, inside: Tensor, image_index: Tensor, index: int, views: tuple[View, View]
) -> Tensor:
    """How often each edge of a direction counts, 0 to 2, uint8 on the view of its first end."""
    here, there = views
    forward = similar[:, index][:, here[0], here[1]]  # edge as seen from its first end
    backward = similar[:, len(NEIGHBORS) - 1 - index][:, there[0], there[1]]
    weight = (forward[image_index] & inside[:, here[0], here[1]]).to(torch.uint8)
    return weight + (backward[image_index] & inside[:, there[0], there[1]])


def _views(size: tuple[int, ...], dy: int, dx: int) -> tuple[View, View]:
    """Slices of the first and of the second end of all edges with one offset; maybe empty."""
    height, width = size
    here = (_part(height, -dy), _part(width, -dx))
    there = (_part(height, dy), _part(width, dx))
    return here, there


def _part(length: int, shift: int) -> slice:
    """Cells of a side that stay on it when moved back by `shift`."""
    start, stop = max(shift, 0), length + min(shift, 0)
    return slice(start, max(start, stop)) if start < length else slice(0, 0)
