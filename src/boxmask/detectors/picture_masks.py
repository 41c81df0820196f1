"""Masks as maps of the whole padded picture: the grid that all architectures share."""

import torch
from torch import Tensor

from boxmask.ops.masks import boxes_of_masks

# Input pixels along each side of a mask cell.
MASK_STRIDE = 4


def whole_image_frames(maps: Tensor) -> Tensor:
    """(K, 4) frames, in input pixels, of (K, h, w) maps at stride 4 that cover the padded image."""
    count, height, width = maps.shape
    frames = torch.zeros((count, 4), device=maps.device)
    frames[:, 2], frames[:, 3] = width * MASK_STRIDE, height * MASK_STRIDE
    return frames


def boxes_of_logits(logits: Tensor, boxes: Tensor) -> Tensor:
    """Tight boxes of predicted masks, no graph.

    Args:
        logits: (K, h, w) at stride 4.
        boxes: (K, 4) given boxes in input pixels.

    Returns:
        (K, 4) in input pixels. Where a mask is empty, the one mask cell in the middle of the given
        box: a small box, that hardly fits.
    """
    masks = logits.detach() > 0
    height, width = masks.shape[-2:]
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    x, y = (middles / MASK_STRIDE).floor().unbind(-1)
    cells = torch.stack([x.clamp(0, width - 1), y.clamp(0, height - 1)], dim=-1)
    fallback = torch.cat([cells, cells + 1], dim=-1)
    empty = ~masks.flatten(1).any(dim=-1)
    return torch.where(empty[:, None], fallback, boxes_of_masks(masks)) * MASK_STRIDE
