"""At the start of a run: an object is likely in the middle of its box, and never outside.

The projection and pairwise terms have two bad resting points, the filled box and a few thin lines,
and which one a short run falls into hangs on its schedule. A soft blob that touches all four sides
is near every real object and in neither trap; the term fades before it could shape the result.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from boxmask.box_supervision.weak_loss import LossContext, WeakLoss
from boxmask.structures import LossSum, MaskSamples
from boxmask.waitless import scalar


@dataclass(frozen=True, kw_only=True)
class ShapePriorLossSettings:
    """Settings of the shape prior.

    Attributes:
        sharpness: logit in the middle of the box; 0 on the inscribed ellipse, negative beyond.
    """

    sharpness: float = 3.0

    def build(self) -> "ShapePriorLoss":
        """The loss."""
        return ShapePriorLoss(self)


class ShapePriorLoss(WeakLoss):
    """Cross-entropy to a soft ellipse inside the box, and to background outside.

    Both parts are averaged over their cells, so that a small box in a large picture counts as
    much as its surroundings.
    """

    def __init__(self, settings: ShapePriorLossSettings) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, context: LossContext) -> LossSum:
        """Averaged over samples."""
        student = context.student
        logits = student.logits.float()
        inside = student.box_masks()  # (K, h, w)
        prior = torch.sigmoid(self.settings.sharpness * (1 - ellipse_radius(student)))
        entropy = F.binary_cross_entropy_with_logits(logits, prior, reduction="none")
        background = F.softplus(logits)
        total = _mean_over(entropy, inside) + _mean_over(background, ~inside)  # (K,)
        return LossSum(total.sum(), scalar(len(student), total))


def ellipse_radius(samples: MaskSamples) -> Tensor:
    """Squared distance from the middle of the box in units of its half sides: (K, h, w).

    1 on the ellipse that touches all four sides.
    """
    x, y = samples.cell_centers()
    centers = (samples.boxes[:, :2] + samples.boxes[:, 2:]) / 2
    half = (samples.boxes[:, 2:] - samples.boxes[:, :2]).clamp(min=1e-3) / 2
    across = ((x - centers[:, :1]) / half[:, :1]).square()  # (K, w)
    down = ((y - centers[:, 1:]) / half[:, 1:]).square()  # (K, h)
    return down[:, :, None] + across[:, None, :]


def _mean_over(values: Tensor, where: Tensor) -> Tensor:
    """(K,) means of (K, h, w) values over the cells that count; 0 where none does."""
    return (values * where).sum(dim=(1, 2)) / where.sum(dim=(1, 2)).clamp(min=1)
