"""The hot paths as they are usually written, slow and obvious: what the speed benchmark beats."""

import torch
import torch.nn.functional as F
from torch import Tensor

from boxmask.ops.dynamic_mask import split_parameters

NUM_NEIGHBORS = 8
CENTER = 4  # place of a cell itself in its 3x3 window


def pairwise_sum(
    logits: Tensor, similar: Tensor, inside: Tensor, image_index: Tensor, *, dilation: int
) -> tuple[Tensor, Tensor]:
    """As `ops.pairwise.pairwise_sum`, with a tensor of all neighbours of all cells."""
    foreground, background = F.logsigmoid(logits), F.logsigmoid(-logits)
    both = foreground[:, None] + neighbors(foreground[:, None], dilation)[:, 0]  # (K, 8, h, w)
    neither = background[:, None] + neighbors(background[:, None], dilation)[:, 0]
    # Neighbours outside the map are padding; `similar` is False there.
    losses = -torch.logaddexp(both, neither)
    weights = (similar[image_index] & inside[:, None]).to(logits.dtype)
    return (losses * weights).sum(), weights.sum()


def dynamic_mask_logits(
    features: Tensor,
    parameters: Tensor,
    points: Tensor,
    reach: Tensor,
    image_index: Tensor,
    *,
    stride: int,
) -> Tensor:
    """As `ops.dynamic_mask.dynamic_mask_logits`, by grouped convolutions on copied features."""
    channels, height, width = features.shape[1:]
    count = len(parameters)
    x = (torch.arange(width, device=features.device) + 0.5) * stride
    y = (torch.arange(height, device=features.device) + 0.5) * stride
    across = (points[:, 0, None] - x) / reach[:, None]  # (K, w)
    down = (points[:, 1, None] - y) / reach[:, None]  # (K, h)
    size = (count, 1, height, width)
    relative = [across[:, None, None].expand(size), down[:, None, :, None].expand(size)]
    hidden = torch.cat([*relative, features[image_index]], dim=1).flatten(0, 1)[None]
    w1, w2, w3, b1, b2, b3 = split_parameters(parameters, channels)
    for weights, bias in ((w1, b1), (w2, b2)):
        kernel = weights.flatten(0, 1)[..., None, None]
        hidden = F.conv2d(hidden, kernel, bias.flatten(), groups=count).relu()
    return F.conv2d(hidden, w3.flatten(0, 1)[..., None, None], b3.flatten(), groups=count)[0]


def color_similarity(lab: Tensor, valid: Tensor, dilation: int) -> Tensor:
    """As `ops.affinity.color_similarity`, with a tensor of the colours of all neighbours."""
    distances = (lab[:, :, None] - neighbors(lab, dilation)).norm(dim=1)  # (B, 8, h, w)
    beside = neighbors(valid[:, None].to(lab.dtype), dilation)[:, 0] > 0
    return torch.exp(-distances / 2) * (beside & valid[:, None])


def neighbors(maps: Tensor, dilation: int) -> Tensor:
    """The eight neighbours of each cell, zero outside: (B, C, h, w) to (B, C, 8, h, w)."""
    height, width = maps.shape[-2:]
    windows = F.unfold(maps, 3, dilation=dilation, padding=dilation)
    windows = windows.unflatten(1, (maps.shape[1], NUM_NEIGHBORS + 1))
    others = torch.cat([windows[:, :, :CENTER], windows[:, :, CENTER + 1 :]], dim=2)
    return others.unflatten(-1, (height, width))
