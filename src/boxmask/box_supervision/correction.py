"""What lies between a batch and its pseudo masks."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from boxmask.box_supervision.self_correction import PseudoMasks
from boxmask.ops.masks import aligned_upsample
from boxmask.structures import MaskSamples


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What the teacher and the prototypes make of a batch; no graph.

    Attributes:
        masks: pseudo masks of the N objects.
        instance: (N, h, w) in 0..1, weighted mean of the teacher's masks.
        semantic: (N, h, w) cosines to the nearest prototype of the class, calibrated if so set.
        fused: (N, h, w) in 0..1, both mixed.
        colored: (N, h, w) in 0..1, fused and, if so set, asked for colours.
        inside: (N, h, w) bool, cells of the boxes.
        claimed: (N, h, w) bool, cells that belong to another object.
        known: (N,) bool, objects with a sample.
        labels: (N,) class.
        image_index: (N,) image.
        cosine_sums: (C, 2) sums of cosines over sure foreground, and over cells outside all boxes.
        cosine_counts: (C, 2) numbers of these cells.
    """

    masks: PseudoMasks
    instance: Tensor
    semantic: Tensor
    fused: Tensor
    colored: Tensor
    inside: Tensor
    claimed: Tensor
    known: Tensor
    labels: Tensor
    image_index: Tensor
    cosine_sums: Tensor
    cosine_counts: Tensor


def unit_cells(samples: MaskSamples, size: torch.Size) -> Tensor:
    """Mask features as unit vectors on the grid of the masks: (B, D, h, w)."""
    assert samples.features is not None
    features = samples.features.detach().float()
    return F.normalize(aligned_upsample(features, size[-1] // features.shape[-1]), dim=1)
