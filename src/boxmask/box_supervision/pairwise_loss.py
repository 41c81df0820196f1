"""Similar neighbours get the same label."""

from dataclasses import dataclass

import torch

from boxmask.box_supervision.weak_loss import LossContext, WeakLoss
from boxmask.ops.affinity import color_similarity, lab_at_stride
from boxmask.ops.masks import sample_at_stride
from boxmask.ops.pairwise import pairwise_sum
from boxmask.structures import LossSum


@dataclass(frozen=True, kw_only=True)
class PairwiseLossSettings:
    """Settings of the pairwise term.

    Attributes:
        color_threshold: colour similarity, in 0..1, from which neighbours must agree. Paper: 0.3,
            a LAB distance of 2.41.
        dilation: mask cells from a cell to its neighbours. Paper: 2.
    """

    color_threshold: float = 0.3
    dilation: int = 2

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

    def forward(self, context: LossContext) -> LossSum:
        """Averaged over all edges of all samples."""
        batch, student = context.batch, context.student
        stride = batch.images.shape[-1] // student.logits.shape[-1]
        with torch.no_grad():
            lab = lab_at_stride(batch.images, stride)
            valid = sample_at_stride(batch.valid, stride)
            similarity = color_similarity(lab, valid, self.settings.dilation)
            similar = similarity >= self.settings.color_threshold  # (B, 8, h, w)
        total, count = pairwise_sum(
            student.logits.float(),
            similar,
            student.box_masks(),
            student.image_index,
            dilation=self.settings.dilation,
        )
        return LossSum(total, count)
