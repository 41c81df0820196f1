"""When masks shrink to thin lines, the shape prior comes back until they are whole again.

A few thin lines that touch all four sides of a box satisfy the projection term, and neighbours
inside the box agree with each other; a run that falls into such lines never leaves them by itself.
Healthy masks cover a third to three quarters of their boxes, so the guard costs them nothing: it
looks at the mean over many objects, and a few thin ones among them do not move it.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from boxmask import ranks
from boxmask.box_supervision.shape_prior_loss import ShapePriorLoss, ShapePriorLossSettings
from boxmask.box_supervision.weak_loss import LossContext, WeakLoss, nothing
from boxmask.structures import LossSum

REMEMBERED = 0.9  # share of the old mean fill at each step, in 0..1: about ten steps are seen


@dataclass(frozen=True, kw_only=True)
class CollapseGuardLossSettings:
    """Settings of the guard.

    Attributes:
        least_fill: share of their boxes, in 0..1, that masks cover on average before the prior
            comes back. It has its full weight at two thirds of that. 0 never brings it back.
        prior: the shape prior that comes back.

    Raises:
        ValueError: If `least_fill` is not in 0..1.
    """

    least_fill: float = 0.3
    prior: ShapePriorLossSettings = field(default_factory=ShapePriorLossSettings)

    def __post_init__(self) -> None:
        if not 0 <= self.least_fill <= 1:
            raise ValueError(f"least_fill: expected 0 to 1, got {self.least_fill:g}")

    def build(self) -> "CollapseGuardLoss":
        """The loss, which takes masks for whole until it has seen some."""
        return CollapseGuardLoss(self)


class CollapseGuardLoss(WeakLoss):
    """The shape prior, as strong as masks lack fill; exactly 0 while they do not.

    The mean fill moves after each step, over all processes, and is part of a checkpoint.
    """

    fill: Tensor  # () moving mean of `MaskSamples.mean_fill`, in 0..1

    def __init__(self, settings: CollapseGuardLossSettings) -> None:
        super().__init__()
        self.settings = settings
        self.prior = ShapePriorLoss(settings.prior)
        self.register_buffer("fill", torch.ones(()))

    @property
    def strength(self) -> Tensor:
        """() in 0..1, how much of the prior is back."""
        lacking = (self.settings.least_fill - self.fill) * 3
        return (lacking / max(self.settings.least_fill, 1e-6)).clamp(0, 1)

    def forward(self, context: LossContext) -> LossSum:
        """Averaged over samples."""
        strength = self.strength
        if strength.device.type == "cpu" and not strength:  # asking a GPU costs more
            return nothing(context)
        prior = self.prior(context)
        return LossSum(prior.total * strength, prior.count)

    def update(self, context: LossContext) -> None:
        """Moves the mean fill; a batch without objects says nothing."""
        fill, cells = context.student.fill_sums
        fill, cells = ranks.mean_over_ranks(torch.stack([fill, cells])).unbind()
        mean = torch.where(cells > 0, fill / cells.clamp(min=1e-6), self.fill)
        self.fill.lerp_(mean.to(self.fill.dtype), 1 - REMEMBERED)
