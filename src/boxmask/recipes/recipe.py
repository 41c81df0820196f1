"""A recipe is one experiment: a detector, what teaches its masks, and how it is trained."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from boxmask.box_supervision.objective import Objective, Term
from boxmask.box_supervision.weak_loss import WeakLoss
from boxmask.data.transforms import AugmentationSettings
from boxmask.detectors.detector import DetectorSettings
from boxmask.engine.optimizer import OptimizerSettings


class LossSettings(Protocol):
    """Settings of a weak loss; one written elsewhere serves as well as ours."""

    def build(self) -> WeakLoss:
        """The loss, with fresh state."""
        ...


# Shares of a run. The paper warms up for 10,000 of 270,000 or of 90,000 steps.
SHORTEST_WARMUP, LONGEST_WARMUP = 0.04, 0.3


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a run learns, apart from its data and its machine.

    Attributes:
        detector: settings of the architecture.
        losses: settings of the weak losses by name, `loss_...`.
        terms: weight and ramp of each of them.
        mask_factor: how much more each mask loss counts on this architecture, as published; the
            pairwise term alone counts once everywhere.
        masks: whether training may read masks: "ignore" or "trusted".
        augmentation: how training pictures vary, and the size for scoring.
        optimizer: how weights move.
        average_decay: decay of the moving average that is scored and saved, in 0..1.
        batch: pictures of one optimizer step, all processes together.
        pictures_seen: how many pictures a run of default length looks at, repeats counted.
        warmup_steps: steps over which the mask losses find their balance, at least: short runs
            give them a larger share, up to `LONGEST_WARMUP`.
    """

    detector: DetectorSettings
    losses: Mapping[str, LossSettings] = field(default_factory=dict)
    terms: Mapping[str, Term] = field(default_factory=dict)
    mask_factor: float = 1.0
    masks: Literal["ignore", "trusted"] = "ignore"
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    average_decay: float = 0.998
    batch: int = 4
    pictures_seen: int = 8000
    warmup_steps: int = 80

    def with_loss(self, name: str, settings: LossSettings, term: Term | None = None) -> "Recipe":
        """The recipe with one more weak loss.

        Args:
            name: `loss_...`, as it is reported.
            settings: its settings, whose `build()` makes the loss.
            term: weight and ramp; None counts it once, from the start.
        """
        return replace(
            self,
            losses={**self.losses, name: settings},
            terms={**self.terms, name: term or Term()},
        )

    def warmup_share(self, total_steps: int) -> float:
        """The share of a run, in 0..1, over which the mask losses find their balance."""
        share = self.warmup_steps / max(total_steps, 1)
        return min(max(share, SHORTEST_WARMUP), LONGEST_WARMUP)

    def build_objective(self, total_steps: int, passes: float = math.inf) -> Objective:
        """The weak losses with their terms, for a run of `total_steps`.

        Args:
            total_steps: optimizer steps of the run.
            passes: how often it looks at each picture.
        """
        share = self.warmup_share(total_steps)
        losses = {name: settings.build() for name, settings in self.losses.items()}
        for loss in losses.values():
            loss.expect(passes)
        terms = {name: term.stretched(share) for name, term in self.terms.items()}
        return Objective(losses, terms)
