"""The pairwise term in closed form on shifted views: similar neighbours, same label.

For logits a and b, P(same) = p_a p_b + (1 - p_a)(1 - p_b), and

    -log P(same) = softplus(a) + softplus(b) - softplus(a + b),

which needs one softplus a cell and one a direction, and no neighbour tensor.
"""

import torch.nn.functional as F
from torch import Tensor

from boxmask.ops.affinity import NEIGHBORS

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
    total = logits.sum() * 0.0
    count = logits.new_zeros(())
    unary = F.softplus(logits)  # (K, h, w)
    for index, (dy, dx) in FORWARD:
        here, there = _views(logits.shape[-2:], dy * dilation, dx * dilation)
        forward = similar[:, index][:, here[0], here[1]]  # edge as seen from its first end
        backward = similar[:, len(NEIGHBORS) - 1 - index][:, there[0], there[1]]
        weight = (forward[image_index] & inside[:, here[0], here[1]]).to(logits.dtype)
        weight += backward[image_index] & inside[:, there[0], there[1]]
        a, b = logits[:, here[0], here[1]], logits[:, there[0], there[1]]
        edge = unary[:, here[0], here[1]] + unary[:, there[0], there[1]] - F.softplus(a + b)
        total = total + (edge * weight).sum()
        count = count + weight.sum()
    return total, count


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
