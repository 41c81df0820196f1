"""Balanced assignment of pixels to prototypes by optimal transport."""

import torch
from torch import Tensor

from boxmask.structures.checks import check_same_length

CHECK_EVERY = 10  # iterations between two looks at the marginals


def sinkhorn(
    similarity: Tensor,
    *,
    epsilon: float,
    marginals: Tensor | None = None,
    valid: Tensor | None = None,
    tolerance: float = 1e-3,
    max_iterations: int = 100,
) -> Tensor:
    """Solves max Tr(Q^T S) + epsilon H(Q) with given masses of pixels and prototypes.

    Works on logarithms, so that no similarity overflows, and on G independent problems at once.
    Every pixel has the same mass. Adding a constant to a pixel's or to a prototype's similarities
    changes nothing.

    Args:
        similarity: (G, N, L) of N pixels to L prototypes.
        epsilon: weight of the entropy, > 0; the smaller, the harder the assignment.
        marginals: (L,) or (G, L) share of the pixels that each prototype gets, summing to 1;
            None for equal shares.
        valid: (G, N) bool, pixels that exist, where problems have fewer than N; None for all.
        tolerance: largest relative error of a prototype's mass at which to stop.
        max_iterations: stop after so many in any case.

    Returns:
        (G, N, L): rows of existing pixels sum to 1, others are 0.

    Raises:
        ValueError: If shapes do not fit or `epsilon` is not positive.

    Source: SIM (CVPR 2023), equations 2 and 3; marginals as in CPSL (CVPR 2022).
    """
    if similarity.ndim != 3:
        raise ValueError(f"similarity: expected (G, N, L), got {tuple(similarity.shape)}")
    if not epsilon > 0:
        raise ValueError(f"epsilon: expected more than 0, got {epsilon}")
    num_prototypes = similarity.shape[-1]
    if marginals is None:
        marginals = similarity.new_full((num_prototypes,), 1 / num_prototypes)
    if valid is None:
        valid = similarity.new_ones(similarity.shape[:2], dtype=torch.bool)
    check_same_length(similarity=similarity, valid=valid)
    if similarity.numel() == 0:
        return similarity.clone()
    log_kernel = (similarity / epsilon).masked_fill(~valid[..., None], -torch.inf)
    num_pixels = valid.sum(dim=1, keepdim=True).clamp(min=1).to(similarity.dtype)  # (G, 1)
    log_mass = (marginals * num_pixels).log()  # (G, L)
    pixel_side = torch.zeros_like(similarity[..., 0])  # (G, N)
    prototype_side = torch.zeros_like(log_mass)
    for iteration in range(1, max_iterations + 1):
        scaled = log_kernel + pixel_side[..., None]
        prototype_side = _finite(log_mass - scaled.logsumexp(dim=1))  # (G, L)
        scaled = log_kernel + prototype_side[:, None]
        pixel_side = _finite(-scaled.logsumexp(dim=2))  # (G, N)
        if iteration % CHECK_EVERY == 0 and tolerance > 0:
            mass = (log_kernel + prototype_side[:, None] + pixel_side[..., None]).exp().sum(dim=1)
            wrong = (mass - log_mass.exp()).abs() / log_mass.exp()
            if bool((wrong * valid.any(dim=1, keepdim=True)).max() <= tolerance):
                break
    return (log_kernel + prototype_side[:, None] + pixel_side[..., None]).exp()


def _finite(values: Tensor) -> Tensor:
    """Zero where a pixel or a problem does not exist, whose sum over nothing is infinite."""
    return torch.where(values.isfinite(), values, 0.0)
