"""Cross-entropy plus Dice of masks, on those cells alone whose truth is certain."""

import torch
import torch.nn.functional as F
from torch import Tensor

from boxmask.ops.fused import fused_kernels_run

SMALL = 1e-5
"""Added to the denominator of Dice."""


def certain_mask_distances(
    logits: Tensor, foreground: Tensor, certain: Tensor, index: Tensor
) -> Tensor:
    """Cross-entropy plus Dice of masks on the cells that are certain, one value a sample.

    Args:
        logits: (K, h, w).
        foreground: (N, h, w) bool, the pseudo masks of objects.
        certain: (N, h, w) bool, cells that count.
        index: (K,) object of each sample.

    Returns:
        (K,) zero, with zero gradient, where nothing is certain.

    Source: SIM (CVPR 2023), equation 8. The published code passes probabilities to a loss that
    expects logits; ours takes logits.
    """
    if logits.dtype == torch.float32 and fused_kernels_run("distances", logits.device):
        from boxmask.ops.certain_masks_triton import FusedDistances  # Triton is not everywhere

        return FusedDistances.apply(logits, foreground, certain, index, SMALL)
    foreground, certain = foreground[index], certain[index]
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        from boxmask.ops.certain_masks_cpu import CompiledDistances  # numba takes a while to import

        return CompiledDistances.apply(logits, foreground, certain)
    return plain_distances(logits, foreground, certain)


def plain_distances(logits: Tensor, foreground: Tensor, certain: Tensor) -> Tensor:
    """The same by operators on whole maps; (K, h, w) bool, of each sample."""
    target = foreground.to(logits.dtype)
    weight = certain.to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight
    count = weight.sum(dim=(1, 2))
    mean_entropy = entropy.sum(dim=(1, 2)) / count.clamp(min=1)
    scores = logits.sigmoid() * weight
    overlap = (scores * target).sum(dim=(1, 2))
    size = scores.square().sum(dim=(1, 2)) + (target * weight).sum(dim=(1, 2))
    dice = 1 - 2 * overlap / (size + SMALL)
    return mean_entropy + dice * (count > 0)
