"""Similar neighbours get the same label."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from boxmask.box_supervision.weak_loss import LossContext, WeakLoss
from boxmask.ops.masks import sample_at_stride
from boxmask.ops.pairwise import pairwise_sum
from boxmask.ops.ties import Textures, hidden_cells, tied_neighbors
from boxmask.structures import LossSum


@dataclass(frozen=True, kw_only=True)
class AppearanceGate:
    """What ties neighbours where an object hides among colours like its own.

    With d_c, the distance of their LAB colours, and d_f, that of their standardized features, they
    are tied where d_c / color_reach + d_f / feature_reach < 1. Like colours alone do not tie
    unlike textures, and like textures tie what light and shade keep apart. Where colours tell an
    object from its surroundings they draw the finer border, and they alone are looked at.

    Attributes:
        color_reach: in LAB units.
        feature_reach: two cells with nothing in common are about sqrt(2) apart.
        hidden_below: LAB distance of an object's colours from those around its box, up to which it
            hides; see `color_contrast`. Infinity for all objects.
    """

    color_reach: float = 15.0
    feature_reach: float = 1.2
    hidden_below: float = 4.0

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
        gate: takes the place of `color_threshold` at hidden objects where the backbone has layers
            that never learn; None always looks at colours alone.
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
        settings, lab = self.settings, context.lab(stride)
        valid = sample_at_stride(context.batch.valid, stride)
        textures, gate = None, settings.gate
        if gate is not None and context.appearance is not None:
            boxes = [one.boxes for one in context.batch.targets]
            hidden = hidden_cells(lab, context.outside(stride), boxes, stride, gate.hidden_below)
            if hidden.device.type != "cpu" or bool(hidden.any()):  # only a CPU knows at once
                textures = Textures(
                    features=_on_grid(context.appearance, lab),
                    hidden=hidden,
                    color_reach=gate.color_reach,
                    feature_reach=gate.feature_reach,
                )
        return tied_neighbors(
            lab,
            valid,
            textures,
            dilation=settings.dilation,
            least_similarity=settings.color_threshold,
        )


def _on_grid(features: Tensor, lab: Tensor) -> Tensor:
    """Features with a cell for each colour; both maps cover the whole padded picture."""
    size = (lab.shape[-2], lab.shape[-1])
    if features.shape[-1] > size[-1]:
        return F.adaptive_avg_pool2d(features.float(), size)
    if features.shape[-1] < size[-1]:
        return F.interpolate(features.float(), size=size, mode="bilinear", align_corners=False)
    return features
