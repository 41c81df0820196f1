"""The pairwise term in closed form on shifted views: similar neighbours, same label.

For logits a and b, P(same) = p_a p_b + (1 - p_a)(1 - p_b), and

    -log P(same) = softplus(a) + softplus(b) - softplus(a + b),

which needs one softplus a cell and one a direction, and no neighbour tensor.
"""

import torch.nn.functional as F
from torch import Tensor

from boxmask.ops.affinity import NEIGHBORS

# One of each pair of opposite neighbours, with its index in NEIGHBORS.
FORWARD = tuple((index, offset) for index, offset in enumerate(NEIGHBORS) if offset > (0, 0))


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
        if here is None:
            continue
        forward = similar[:, index][:, here[0], here[1]]  # edge as seen from its first end
        backward = similar[:, len(NEIGHBORS) - 1 - index][:, there[0], there[1]]
        weight = (forward[image_index] & inside[:, here[0], here[1]]).to(logits.dtype)
        weight += backward[image_index] & inside[:, there[0], there[1]]
        a, b = logits[:, here[0], here[1]], logits[:, there[0], there[1]]
        edge = unary[:, here[0], here[1]] + unary[:, there[0], there[1]] - F.softplus(a + b)
        total = total + (edge * weight).sum()
        count = count + weight.sum()
    return total, count


def _views(size: tuple[int, ...], dy: int, dx: int):  # noqa: ANN202
    """Slices of the first and of the second end of all edges with one offset."""
    height, width = size
    if abs(dy) >= height or abs(dx) >= width:
        return None, None
    here = (slice(max(-dy, 0), height - max(dy, 0)), slice(max(-dx, 0), width - max(dx, 0)))
    there = (slice(max(dy, 0), height + min(dy, 0)), slice(max(dx, 0), width + min(dx, 0)))
    return here, there
