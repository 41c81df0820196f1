"""Dice distance, unreduced."""

from torch import Tensor


def dice_distance(scores: Tensor, targets: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    """1 - 2 |x t| / (|x|^2 + |t|^2) over all but the first dimension.

    Args:
        scores: (K, ...) in 0..1.
        targets: (K, ...) in 0..1.
        epsilon: added to the denominator.

    Returns:
        (K,) in 0..1, 0 where both agree and are not empty; 1 where both are empty.

    Source: V-Net (3DV 2016), squared denominator as in CondInst and BoxInst.
    """
    x, t = scores.flatten(1), targets.flatten(1).to(scores.dtype)
    overlap = (x * t).sum(dim=-1)
    return 1 - 2 * overlap / (x.square().sum(dim=-1) + t.square().sum(dim=-1) + epsilon)
