"""Suppression of doubles among masks, all pairs at once."""

import torch
from torch import Tensor


def matrix_nms(masks: Tensor, scores: Tensor, labels: Tensor, *, sigma: float) -> Tensor:
    """Lowers the score of each mask that a better one of its class overlaps.

    What a better mask takes away is less where that mask is itself a double of a still better one.

    Args:
        masks: (N, h, w) bool.
        scores: (N,) best first.
        labels: (N,) int64 class; masks of other classes do not matter.
        sigma: how steeply scores fall with the overlap, > 0. Published: 2.

    Returns:
        (N,) at most `scores`.

    Source: SOLOv2 (NeurIPS 2020), Matrix NMS with the Gaussian kernel.
    """
    if len(scores) == 0:
        return scores
    flat = masks.flatten(1).float()  # (N, h * w)
    overlaps = flat @ flat.T  # (N, N)
    areas = flat.sum(dim=-1)
    ious = overlaps / (areas[:, None] + areas - overlaps).clamp(min=1)
    # Row i, column j: how much mask i, the better one, overlaps mask j of its class.
    ious = (ious * (labels[:, None] == labels)).triu(diagonal=1)
    doubled = ious.amax(dim=0)  # (N,) how much mask i itself is a double
    decay = torch.exp(-sigma * (ious.square() - doubled.square()[:, None]))
    return scores * decay.amin(dim=0)  # the best mask's row never exceeds 1
