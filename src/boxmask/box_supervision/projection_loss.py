"""Mask and box agree along both axes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from boxmask.box_supervision.weak_loss import LossContext, WeakLoss
from boxmask.ops.dice import dice_distance
from boxmask.structures import LossSum
from boxmask.waitless import scalar


@dataclass(frozen=True, kw_only=True)
class ProjectionLossSettings:
    """The projection term has no knobs."""

    def build(self) -> "ProjectionLoss":
        """The loss."""
        return ProjectionLoss()


class ProjectionLoss(WeakLoss):
    """Dice distance between the projections of a mask and of its box, averaged over samples."""

    def forward(self, context: LossContext) -> LossSum:
        """Axes whose box is not tight are left out of their sample's sum."""
        student = context.student
        columns, rows = student.box_sides()
        axes = projection_distances(student.logits.float(), columns, rows)  # (K, 2)
        total = (axes * student.tight).sum()
        return LossSum(total, scalar(len(student), total))


def projection_distances(mask_logits: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """Dice distances between the axis projections of masks and of their boxes.

    Args:
        mask_logits: (K, h, w) logits, one map a sample.
        columns: (K, w) bool, columns of the box.
        rows: (K, h) bool, rows of the box.

    Returns:
        (K, 2) along x and along y, each in 0..1.

    Source: BoxInst (CVPR 2021), projection term. The gradient of `max` goes to one cell of each
    row and column, as in the published code; `amax` would split it over ties.
    """
    scores = mask_logits.sigmoid()
    along_x = dice_distance(scores.max(dim=1).values, columns.to(scores.dtype))
    along_y = dice_distance(scores.max(dim=2).values, rows.to(scores.dtype))
    return torch.stack([along_x, along_y], dim=-1)
