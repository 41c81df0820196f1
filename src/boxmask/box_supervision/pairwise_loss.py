"""Similar neighbours get the same label."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from boxmask.box_supervision.weak_loss import LossContext, WeakLoss
from boxmask.ops.affinity import color_similarity, feature_similarity, lab_at_stride
from boxmask.ops.masks import aligned_upsample, sample_at_stride
from boxmask.ops.pairwise import pairwise_sum
from boxmask.structures import LossSum


@dataclass(frozen=True, kw_only=True)
class PairwiseLossSettings:
    """Settings of the pairwise term.

    Attributes:
        color_threshold: colour similarity, in 0..1, from which neighbours must agree. Paper: 0.3,
            a LAB distance of 2.41.
        dilation: mask cells from a cell to its neighbours. Paper: 2.
        feature_threshold: product of colour similarity and of the similarity of the teacher's unit
            mask features, in 0..1, from which neighbours must agree; replaces
            `color_threshold`. Published SIM code: 0.1. None looks at colours alone.
    """

    color_threshold: float = 0.3
    dilation: int = 2
    feature_threshold: float | None = None

    def build(self) -> "PairwiseLoss":
        """The loss."""
        return PairwiseLoss(self)


class PairwiseLoss(WeakLoss):
    """-log P(same label) over edges of like colour that start in the box.

    Source: BoxInst (CVPR 2021), pairwise affinity term.
    """

    def __init__(self, settings: PairwiseLossSettings) -> None:
        super().__init__()
        self.settings = settings

    def needs_teacher(self, progress: float) -> bool:
        """Where teacher features decide which neighbours must agree."""
        return self.settings.feature_threshold is not None

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
        similarity = color_similarity(lab, valid, settings.dilation)
        if settings.feature_threshold is None:
            return similarity >= settings.color_threshold
        if context.teacher is None or context.teacher.features is None:
            raise ValueError("feature_threshold: needs a teacher with mask features")
        features = context.teacher.features.float()
        factor = lab.shape[-1] // features.shape[-1]
        unit = F.normalize(aligned_upsample(features, factor), dim=1)
        return (
            similarity * feature_similarity(unit, settings.dilation) >= settings.feature_threshold
        )
