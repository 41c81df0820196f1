"""Which neighbours must get the same label: by colours, where an object hides by textures too.

On a CUDA device Triton's kernels do it (`ops/ties_triton.py`), elsewhere the plain forms below.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from boxmask.ops.affinity import (
    color_similarity,
    neighbor_distances,
    neighbor_valid,
    neighbors,
    standardized,
)
from boxmask.ops.boxes import cells_in_boxes
from boxmask.ops.contrast import color_contrast
from boxmask.ops.fused import fused_kernels_run
from boxmask.waitless import numbered


@dataclass(frozen=True, kw_only=True)
class Textures:
    """What ties neighbours where an object hides in colour.

    Attributes:
        features: (B, C, h, w).
        hidden: (B, h, w) bool, cells of objects that hide: pairs with an end in one of these must
            be alike in both, colours and standardized features.
        color_reach: in LAB units.
        feature_reach: of standardized features. The distances, each in its reach, must sum to less
            than 1.
    """

    features: Tensor
    hidden: Tensor
    color_reach: float
    feature_reach: float


def tied_neighbors(
    lab: Tensor,
    valid: Tensor,
    textures: Textures | None = None,
    *,
    dilation: int,
    least_similarity: float,
) -> Tensor:
    """Which neighbours are alike enough.

    Args:
        lab: (B, 3, h, w) float32 CIE-LAB colours.
        valid: (B, h, w) bool, cells that count; a pair with an end that does not is not alike.
        textures: None for colours alone.
        dilation: cells from a cell to its neighbours.
        least_similarity: of colours, in 0..1, see `color_similarity`.

    Returns:
        (B, 8, h, w) bool, neighbours in the order of `NEIGHBORS`.
    """
    form = plain_ties
    if fused_kernels_run("ties", lab.device):
        from boxmask.ops import ties_triton  # Triton is not everywhere

        form = ties_triton.tied_neighbors
    return form(lab, valid, textures, dilation=dilation, least_similarity=least_similarity)


def plain_ties(
    lab: Tensor, valid: Tensor, textures: Textures | None, *, dilation: int, least_similarity: float
) -> Tensor:
    """`tied_neighbors`, operator by operator."""
    alike = color_similarity(lab, valid, dilation) >= least_similarity
    if least_similarity <= 0:  # which pairs that do not count have, too
        alike = neighbor_valid(valid, dilation)
    if textures is None:
        return alike
    features = standardized(textures.features.float(), valid)
    distance = neighbor_distances(lab, dilation) / textures.color_reach
    distance += neighbor_distances(features, dilation) / textures.feature_reach
    near = (distance < 1) & neighbor_valid(valid, dilation)
    one_end = textures.hidden[:, None] | neighbors(textures.hidden, dilation)
    return torch.where(one_end, near, alike)


def hidden_cells(
    lab: Tensor, outside: Tensor, boxes: Sequence[Tensor], stride: int, hidden_below: float
) -> Tensor:
    """Cells in boxes of objects that hide in colour.

    Args:
        lab: (B, 3, h, w) float32 CIE-LAB colours.
        outside: (B, h, w) bool, cells outside all boxes.
        boxes: (N_i, 4) x1, y1, x2, y2 in pixels, one tensor for each of the B images.
        stride: side of a cell in pixels.
        hidden_below: contrast of colours, see `color_contrast`, up to which an object hides.

    Returns:
        (B, h, w) bool.
    """
    counts = [len(one) for one in boxes]
    every, image_index = torch.cat(list(boxes)), numbered(counts, lab.device)
    if len(every) and fused_kernels_run("ties", lab.device):
        from boxmask.ops import ties_triton

        return ties_triton.hidden_cells(lab, outside, every, image_index, stride, hidden_below)
    contrast = color_contrast(lab, outside, every, image_index, stride)
    hiding = every * (contrast <= hidden_below)[:, None]  # other boxes shrink to a point
    return cells_in_boxes(hiding.split(counts), stride, (lab.shape[-2], lab.shape[-1]))
