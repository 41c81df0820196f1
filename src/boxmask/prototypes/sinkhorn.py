"""Balanced assignment of pixels to prototypes by optimal transport."""

from typing import Any

import torch
from torch import Tensor

from boxmask.ops.fused import fused_kernels_run
from boxmask.structures.checks import check_same_length

CHECK_EVERY = 10  # iterations between two looks at the marginals
TINY = 1e-100  # in double precision; two of them multiplied are still a number


@torch.no_grad()
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

    Works on logarithms of both sides' factors, so that no similarity overflows, and on G
    independent problems at once. Between two looks at the marginals the factors themselves are
    scaled, which needs matrix products alone.
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
        (G, N, L): rows of existing pixels sum to 1, others are 0. No graph.

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
    if tolerance <= 0 and similarity.dtype == torch.float32:
        fused = _fused(similarity, marginals, valid, epsilon, max(max_iterations, 1))
        if fused is not None:
            return fused
    log_kernel = (similarity.double() / epsilon).masked_fill(~valid[..., None], -torch.inf)
    num_pixels = valid.sum(dim=1, keepdim=True).clamp(min=1)  # (G, 1)
    mass = marginals.double() * num_pixels  # (G, L)
    # The first step on logarithms: from then on no row sums to more than 1.
    prototype_side = _finite(mass.log() - log_kernel.logsumexp(dim=1))  # (G, L)
    pixel_side = _finite(-(log_kernel + prototype_side[:, None]).logsumexp(dim=2))  # (G, N)
    done = 1
    while done < max_iterations:
        steps = min(CHECK_EVERY - done % CHECK_EVERY, max_iterations - done)
        shares = _shares(log_kernel, pixel_side, prototype_side)
        of_pixel, of_prototype = _scaled(shares, mass, steps)
        pixel_side += of_pixel.log()
        prototype_side += of_prototype.log()
        done += steps
        if tolerance > 0 and done < max_iterations:
            found = (shares.mT @ of_pixel[..., None])[..., 0] * of_prototype  # (G, L)
            wrong = (found - mass).abs() / mass.clamp(min=TINY)
            if bool((wrong * valid.any(dim=1, keepdim=True)).max() <= tolerance):
                break
    return _shares(log_kernel, pixel_side, prototype_side).to(similarity.dtype)


def _fused(
    similarity: Tensor, marginals: Tensor, valid: Tensor, epsilon: float, iterations: int
) -> Tensor | None:
    """All of it in one kernel of a GPU; None where that cannot be."""
    if not fused_kernels_run("shares", similarity.device):
        return None
    from boxmask.ops.sinkhorn_triton import fits, solved  # Triton is not everywhere

    if not fits(similarity):
        return None
    numbers = {"epsilon": epsilon, "iterations": iterations}
    return solved(similarity, marginals, valid, **numbers, every=CHECK_EVERY, least=TINY)


def _shares(log_kernel: Tensor, pixel_side: Tensor, prototype_side: Tensor) -> Tensor:
    """(G, N, L) from its logarithm and those of the factors of rows and columns."""
    return (log_kernel + pixel_side[..., None] + prototype_side[:, None]).exp()


def _finite(values: Tensor) -> Tensor:
    """Zero where a pixel or a problem does not exist, whose sum over nothing is infinite."""
    return torch.where(values < torch.inf, values, 0.0)


def _scaled(shares: Tensor, mass: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """A few steps from (G, N, L): factors of rows (G, N), sums 1, and of columns (G, L), sums mass.

    A sum too small for its number moves its factor as far as numbers go; the next steps go on from
    there.
    """
    if shares.device.type == "cpu":  # torch's products of such thin matrices take ten times longer
        factors = _scaled_arrays(shares.numpy(), mass.numpy(), steps)
        of_pixel, of_prototype = map(torch.from_numpy, factors)
        return of_pixel, of_prototype
    return _scaled_arrays(shares, mass, steps)


def _scaled_arrays(shares: Any, mass: Any, steps: int) -> tuple[Any, Any]:
    """Of numpy or of torch, with as few operators as can be: there is little to each of them."""
    columns, mass = shares.swapaxes(1, 2), mass[..., None]
    of_pixel, of_prototype = shares[..., :1] * 0 + 1, mass
    for _ in range(steps):
        of_prototype = mass / (columns @ of_pixel).clip(TINY)
        of_pixel = (shares @ of_prototype).clip(TINY) ** -1
    return of_pixel[..., 0], of_prototype[..., 0]
