"""A recipe is one experiment: a detector, what teaches its masks, and how it is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from boxmask.box_supervision.objective import Objective, Term
from boxmask.box_supervision.pairwise_loss import PairwiseLossSettings
from boxmask.box_supervision.projection_loss import ProjectionLossSettings
from boxmask.box_supervision.trusted_mask_loss import TrustedMaskLossSettings
from boxmask.data.transforms import AugmentationSettings
from boxmask.detectors.condinst import CondInstSettings
from boxmask.engine.optimizer import OptimizerSettings

LossSettings = ProjectionLossSettings | PairwiseLossSettings | TrustedMaskLossSettings


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a run learns, apart from its data and its machine.

    Attributes:
        detector: settings of the architecture.
        losses: settings of the weak losses by name, `loss_...`.
        terms: weight and ramp of each of them.
        masks: whether training may read masks: "ignore" or "trusted".
        augmentation: how training pictures vary, and the size for scoring.
        optimizer: how weights move.
        average_decay: decay of the moving average that is scored and saved, in 0..1.
        batch: pictures of one optimizer step, all processes together.
        pictures_seen: how many pictures a run of default length looks at, repeats counted.
    """

    detector: CondInstSettings
    losses: Mapping[str, LossSettings]
    terms: Mapping[str, Term]
    masks: Literal["ignore", "trusted"] = "ignore"
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    average_decay: float = 0.998
    batch: int = 4
    pictures_seen: int = 4800

    def build_objective(self) -> Objective:
        """The weak losses with their terms."""
        losses = {name: settings.build() for name, settings in self.losses.items()}
        return Objective(losses, self.terms)
