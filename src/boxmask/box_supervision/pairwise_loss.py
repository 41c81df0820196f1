"""Similar neighbours get the same label."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from boxmask.box_supervision.weak_loss import LossContext, WeakLoss
from boxmask.ops.affinity import (
    color_similarity,
    lab_at_stride,
    neighbor_distances,
    neighbor_valid,
    standardized,
)
from boxmask.ops.masks import sample_at_stride
from boxmask.ops.pairwise import pairwise_sum
from boxmask.structures import LossSum


@dataclass(frozen=True, kw_only=True)
class AppearanceGate:
    """Neighbours must agree where colours and features together are near enough.

    With d_c, the distance of their LAB colours, and d_f, that of their standardized features, they
    are tied where d_c / color_reach + d_f / feature_reach < 1. Like colours alone do not tie
    unlike textures, and like textures tie what light and shade keep apart.

    Attributes:
        color_reach: in LAB units.
        feature_reach: two cells with nothing in common are about sqrt(2) apart.
    """

    color_reach: float = 15.0
    feature_reach: float = 1.2

    def __post_init__(self) -> None:
        if self.color_reach <= 0 or self.feature_reach <= 0:
            raise ValueError("color_reach, feature_reach: expected more than 0")


@dataclass(frozen=True, kw_only=True)
class PairwiseLossSettings:
    """Settings of the pairwise term.

    Attributes:
        color_threshold: colour similarity, in 0..1, from which neighbours must agree. Paper: 0.3,
            a LAB distance of 2.41.
        dilation: mask cells from a cell to its neighbours. Paper: 2.
        gate: takes the place of `color_threshold` where the backbone has layers that never learn;
            None always looks at colours alone.
    """

    color_threshold: float = 0.3
    dilation: int = 2
    gate: AppearanceGate | None = None

    def build(self) -> "PairwiseLoss":
        """The loss."""
        return PairwiseLoss(self)


class PairwiseLoss(WeakLoss):
    """-log P(same label) over edges between like cells that start in the box.

    Source: BoxInst (CVPR 2021), pairwise affinity term.
    """

    def __init__(self, settings: PairwiseLossSettings) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, context: LossContext) -> LossSum:
        """Averaged over all edges of all samples."""
        batch, student = context.batch, context.student
        stride = batch.images.shape[-1] // student.logits.shape[-1]
        similar = self.similar(context, stride)
        total, count = pairwise_sum(
            student.logits.float(),
            similar,
            student.box_masks(),
            student.image_index,
            dilation=self.settings.dilation,
        )
        return LossSum(total, count)

    @torch.no_grad()
    def similar(self, context: LossContext, stride: int) -> Tensor:
        """Which neighbours must agree: (B, 8, h, w) bool on the grid of the masks."""
        batch, settings = context.batch, self.settings
        lab = lab_at_stride(batch.images, stride)
        valid = sample_at_stride(batch.valid, stride)
        if settings.gate is None or context.appearance is None:
            similarity = color_similarity(lab, valid, settings.dilation)
            return similarity >= settings.color_threshold
        features = standardized(_on_grid(context.appearance.float(), lab), valid)
        distance = neighbor_distances(lab, settings.dilation) / settings.gate.color_reach
        distance += neighbor_distances(features, settings.dilation) / settings.gate.feature_reach
        return (distance < 1) & neighbor_valid(valid, settings.dilation)


def _on_grid(features: Tensor, lab: Tensor) -> Tensor:
    """Features with a cell for each colour; both maps cover the whole padded picture."""
    size = (lab.shape[-2], lab.shape[-1])
    if features.shape[-1] > size[-1]:
        return F.adaptive_avg_pool2d(features, size)
    if features.shape[-1] < size[-1]:
        return F.interpolate(features, size=size, mode="bilinear", align_corners=False)
    return features
