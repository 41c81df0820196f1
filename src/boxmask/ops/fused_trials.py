"""What fused kernels are tried on before they are used: a few numbers, in both forms."""

from collections.abc import Callable

import torch
from torch import Tensor

from boxmask.ops.fused import Kernels


def difference_of_pairs(device: torch.device) -> float:
    """Largest difference between both forms of the pairwise term."""
    from boxmask.ops.pairwise import dense_sum
    from boxmask.ops.pairwise_triton import fused_sum

    random = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 24, 31, generator=random).to(device)
    similar = (torch.rand(2, 8, 24, 31, generator=random) < 0.5).to(device)
    inside = (torch.rand(3, 24, 31, generator=random) < 0.6).to(device)
    image_index = torch.tensor([0, 1, 1], device=device)
    found: list[tuple[Tensor, ...]] = []
    for form in (fused_sum, dense_sum):
        leaf = logits.clone().requires_grad_()
        total, count = form(leaf, similar, inside, image_index, dilation=2)
        found.append((total / count, count, *torch.autograd.grad(total / count, [leaf])))
    return _largest_difference(found)


def difference_of_masks(device: torch.device) -> float:
    """Largest difference between both forms of the dynamic mask head."""
    from boxmask.ops.dynamic_mask import HIDDEN, ThreeLayers
    from boxmask.ops.dynamic_mask_triton import FusedThreeLayers

    random = torch.Generator().manual_seed(0)
    shapes = [(1, 11, 150), (3, HIDDEN, 11), (3, HIDDEN, HIDDEN), (3, 1, HIDDEN), (3, HIDDEN)]
    inputs = [torch.randn(*shape, generator=random).to(device) for shape in (*shapes, (3, 1))]
    found: list[tuple[Tensor, ...]] = []
    for fused in (True, False):
        rows, *layers = leaves = [one.clone().requires_grad_() for one in inputs]
        logits = (
            FusedThreeLayers.apply(rows, *layers, torch.tensor([0, 3], device=device))
            if fused
            else ThreeLayers.apply(rows[0], *layers)
        )
        assert isinstance(logits, Tensor)
        found.append((logits, *torch.autograd.grad(logits.square().mean(), leaves)))
    return _largest_difference(found)


def difference_of_shares(device: torch.device) -> float:
    """Largest difference between both forms of the assignment, whose rows sum to 1."""
    from boxmask.ops.sinkhorn_triton import solved

    random = torch.Generator().manual_seed(0)
    similarity = torch.rand(2, 37, 5, generator=random).to(device)
    marginals = torch.full((5,), 0.2, device=device)
    valid = torch.ones(2, 37, dtype=torch.bool, device=device)
    numbers = {"epsilon": 0.1, "iterations": 4, "every": 3, "least": 1e-100}
    found = solved(similarity, marginals, valid, **numbers)
    kernel = (similarity.double() / 0.1).exp()
    by_row = torch.ones_like(kernel[..., :1])
    for _ in range(4):
        by_column = 37 * 0.2 / (kernel.mT @ by_row)
        by_row = 1 / (kernel @ by_column)
    return _largest_difference([(found,), ((kernel * by_row * by_column.mT).float(),)])


def difference_of_colors(device: torch.device) -> float:
    """Largest difference between both forms of the question after colours."""
    from boxmask.ops.color_model import fused_comparison, plain_comparison

    random = torch.Generator().manual_seed(0)
    lab = (torch.rand(2, 3, 24, 31, generator=random) * 20).to(device)
    mask = torch.rand(3, 24, 31, generator=random).to(device)
    outside = (torch.rand(2, 24, 31, generator=random) < 0.5).to(device)
    boxes = torch.rand(3, 4, generator=random).to(device) * 9
    boxes[:, 2:] += boxes[:, :2] + 2
    given = mask, outside, lab, torch.tensor([0, 1, 1], device=device), boxes
    return _largest_difference([fused_comparison(*given), plain_comparison(*given)])


def difference_of_distances(device: torch.device) -> float:
    """Largest difference between both forms of the distance from pseudo masks."""
    from boxmask.ops.certain_masks import SMALL, plain_distances
    from boxmask.ops.certain_masks_triton import FusedDistances

    random = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 24, 31, generator=random).to(device)
    foreground, certain = (torch.rand(2, 2, 24, 31, generator=random) < 0.6).to(device)
    index = torch.tensor([1, 0, 1], device=device)
    found: list[tuple[Tensor, ...]] = []
    for fused in (True, False):
        leaf = logits.clone().requires_grad_()
        distances = (
            FusedDistances.apply(leaf, foreground, certain, index, SMALL)
            if fused
            else plain_distances(leaf, foreground[index], certain[index])
        )
        assert isinstance(distances, Tensor)
        found.append((distances, *torch.autograd.grad(distances.sum(), [leaf])))
    return _largest_difference(found)


def difference_of_filters(device: torch.device) -> float:
    """Largest difference between both forms of the guided filter."""
    from boxmask.ops.guided_filter import filter_by, fused_guide, plain_guide

    random = torch.Generator().manual_seed(0)
    colors = torch.rand(2, 3, 24, 31, generator=random).to(device)
    valid = (torch.rand(2, 24, 31, generator=random) < 0.9).to(device)
    maps = (torch.rand(3, 24, 31, generator=random) < 0.5).float().to(device)
    index = torch.tensor([0, 1, 1], device=device)
    guides = (form(colors, valid, 2, 1e-2) for form in (fused_guide, plain_guide))
    return _largest_difference([filter_by(maps, index, guide) for guide in guides])


def difference_of_ties(device: torch.device) -> float:
    """Largest difference between what both forms find tied and hidden: 0, but for close calls."""
    from boxmask.ops import ties_triton
    from boxmask.ops.boxes import cells_in_boxes
    from boxmask.ops.contrast import color_contrast
    from boxmask.ops.ties import Textures, plain_ties

    random = torch.Generator().manual_seed(0)
    steps = torch.randint(8, (2, 3, 9, 14), generator=random)  # no two distances are close
    lab, outside = (2.0 * steps).to(device), (steps[:, 0] < 5).to(device)
    features = torch.randint(4, (2, 5, 9, 14), generator=random).float().to(device)
    boxes = torch.tensor([[9.0, 13, 38, 27], [14, 2, 49, 31], [30, 12, 41, 22]], device=device)
    image_index = torch.tensor([0, 1, 1], device=device)
    contrast = color_contrast(lab, outside, boxes, image_index, 4)
    limit = float(contrast.median()) + 0.01
    hidden = ties_triton.hidden_cells(lab, outside, boxes, image_index, 4, limit)
    expected = cells_in_boxes((boxes * (contrast <= limit)[:, None]).split([1, 2]), 4, (9, 14))
    textures = Textures(features=features, hidden=expected, color_reach=17.1, feature_reach=1.33)
    forms = (ties_triton.tied_neighbors, plain_ties)
    fused, plain = (
        form(lab, outside, textures, dilation=2, least_similarity=0.1) for form in forms
    )
    pairs = ((hidden, expected), (fused, plain))
    return max(float((one != other).float().mean()) for one, other in pairs)


def _largest_difference(found: list[tuple[Tensor, ...]]) -> float:
    """Infinite where a number is a NaN, which would pass as smaller or larger as it comes."""
    differences = torch.stack(
        [(a - b).abs().max() / b.abs().max().clamp(min=1) for a, b in zip(*found, strict=True)]
    )
    return float(differences.detach().nan_to_num(nan=torch.inf).max())


DIFFERENCES: dict[Kernels, Callable[[torch.device], float]] = {
    "pairs": difference_of_pairs,
    "masks": difference_of_masks,
    "shares": difference_of_shares,
    "colors": difference_of_colors,
    "ties": difference_of_ties,
    "distances": difference_of_distances,
    "filters": difference_of_filters,
}
