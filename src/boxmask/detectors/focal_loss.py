"""Class loss of predictions that are background nearly everywhere."""

import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

ALPHA, GAMMA = 0.25, 2.0


def focal_class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Focal loss summed over all predictions and classes, in float32.

    Args:
        logits: (..., C) a score of each class.
        labels: (...) int64 class, or -1 for background.

    Source: RetinaNet (ICCV 2017), with the published alpha and gamma.
    """
    logits = logits.float()
    classes = torch.arange(logits.shape[-1], device=labels.device)
    wanted = (labels[..., None] == classes).to(logits.dtype)
    return sigmoid_focal_loss(logits, wanted, alpha=ALPHA, gamma=GAMMA, reduction="sum")
