"""Masks from the kernels of SOLOv2's cells."""

from collections.abc import Sequence

import torch
from torch import Tensor

from boxmask.detectors.picture_masks import MASK_STRIDE

# Terms of a kernel that know where its cell is: 1, dx, dx^2, dy, dy^2.
NUM_NEAR = 5
# Distance from the cell, in its level's reaches, from which all pixels count as equally far.
FARTHEST = 2.0


def dynamic_convolution(features: Tensor, kernels: Tensor, counts: Sequence[int]) -> Tensor:
    """Each kernel as a 1x1 convolution over its image's features.

    Args:
        features: (B, D, h, w).
        kernels: (K, D), image after image.
        counts: kernels of each image.

    Returns:
        (K, h, w) logits; attached to features and kernels also for K = 0.

    Source: SOLOv2 (NeurIPS 2020), dynamic convolution.
    """
    size = features.shape[-2:]
    maps = [
        own @ shared.permute(1, 2, 0).flatten(0, 1).T  # (k, D) x (D, h * w)
        for own, shared in zip(kernels.split(list(counts)), features, strict=True)
    ]
    return torch.cat(maps).unflatten(-1, size)


def near_cell_logits(
    weights: Tensor, middles: Tensor, reaches: Tensor, size: tuple[int, int]
) -> Tensor:
    """What a pixel's place beside the cell adds to its logit: a hill, a valley or a slope.

    With dx and dy the distances to the cell's middle in reaches, held within -2..2:
    a + b dx + c dx^2 + d dy + e dy^2.

    Args:
        weights: (K, 5) a to e.
        middles: (K, 2) x, y of the cells in input pixels.
        reaches: (K,) input pixels that count as one unit of distance.
        size: (height, width) of the masks at stride 4.

    Returns:
        (K, h, w) to be added to the logits. Zero for weights of zero.
    """
    height, width = size
    x = (torch.arange(width, device=middles.device) + 0.5) * MASK_STRIDE
    y = (torch.arange(height, device=middles.device) + 0.5) * MASK_STRIDE
    dx = ((x - middles[:, :1]) / reaches[:, None]).clamp(-FARTHEST, FARTHEST)  # (K, w)
    dy = ((y - middles[:, 1:]) / reaches[:, None]).clamp(-FARTHEST, FARTHEST)  # (K, h)
    across = weights[:, 0:1] + weights[:, 1:2] * dx + weights[:, 2:3] * dx.square()
    down = weights[:, 3:4] * dy + weights[:, 4:5] * dy.square()
    return down[:, :, None] + across[:, None, :]
