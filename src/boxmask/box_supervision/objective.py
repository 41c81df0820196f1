"""Named losses with weights and ramps: the only place that divides, and sums over processes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

from torch import Tensor, nn

from boxmask import ranks
from boxmask.box_supervision.weak_loss import LossContext, WeakLoss, nothing
from boxmask.structures import Batch, LossSum

Unit = Literal["run", "warmup"]


@dataclass(frozen=True, kw_only=True)
class Fall:
    """How a loss gives way.

    Attributes:
        start: until when it counts fully, in 0..1.
        end: from when on it counts `rest`, in 0..1; in between it falls linearly.
        rest: share of its weight that stays, in 0..1.
        unit: what `start` and `end` are shares of, see `Term`.
    """

    start: float = 0.0
    end: float
    rest: float = 0.0
    unit: Unit = "run"

    def __post_init__(self) -> None:
        if not 0 <= self.rest <= 1:
            raise ValueError(f"rest: expected 0 to 1, got {self.rest:g}")

    def stretched(self, share: float) -> "Fall":
        """The fall in shares of the run, whose warm-up is its first `share`."""
        if self.unit == "run":
            return self
        return replace(self, start=self.start * share, end=self.end * share, unit="run")

    def left(self, progress: float) -> float:
        """Share of the weight that is left at a share of the run."""
        if progress < self.start:
            return 1.0
        length = self.end - self.start
        fallen = min((progress - self.start) / length, 1.0) if length > 0 else 1.0
        return 1 - (1 - self.rest) * fallen


@dataclass(frozen=True, kw_only=True)
class Term:
    """How much a loss counts, and from when.

    Attributes:
        weight: factor of the loss.
        start: share of the run, in 0..1, before which the loss counts nothing.
        ramp: share of the run over which it grows linearly from 0 to `weight`.
        unit: what these shares are of: "run", or "warmup", which `stretched` turns into shares of
            the run.
        fall: how it gives way; None to stay.
    """

    weight: float = 1.0
    start: float = 0.0
    ramp: float = 0.0
    unit: Unit = "run"
    fall: Fall | None = None

    def stretched(self, share: float) -> "Term":
        """The term in shares of the run, whose warm-up is its first `share`."""
        fall = None if self.fall is None else self.fall.stretched(share)
        factor = share if self.unit == "warmup" else 1.0
        return replace(
            self, start=self.start * factor, ramp=self.ramp * factor, fall=fall, unit="run"
        )

    def factor(self, progress: float) -> float:
        """The factor at a share of the run."""
        if progress < self.start:
            return 0.0
        grown = min((progress - self.start) / self.ramp, 1.0) if self.ramp else 1.0
        left = 1.0 if self.fall is None else self.fall.left(progress)
        return self.weight * grown * left


class Objective(nn.Module):
    """A set of weak losses with their terms.

    Args:
        losses: weak losses by name, `loss_...`.
        terms: one term for each of them; detection losses without a term count once.
    """

    def __init__(self, losses: Mapping[str, WeakLoss], terms: Mapping[str, Term]) -> None:
        super().__init__()
        unknown = set(terms) - set(losses)
        if unknown or set(losses) - set(terms):
            raise ValueError(
                f"terms: expected one for each of {sorted(losses)}, got {sorted(terms)}"
            )
        self.losses = nn.ModuleDict(losses)
        self.terms = dict(terms)

    def forward(self, context: LossContext) -> dict[str, LossSum]:
        """The sums of all weak losses; zeros of those that count nothing now."""
        sums = {}
        for name, loss in self.losses.items():
            counts = self.terms[name].factor(context.progress) != 0
            if counts or cast(WeakLoss, loss).prepares:
                sums[name] = loss(context)
            else:
                sums[name] = nothing(context)
        return sums

    def needs_teacher(self, progress: float) -> bool:
        """Whether a loss looks at the moving average at a share of the run."""
        return any(cast(WeakLoss, loss).needs_teacher(progress) for loss in self.losses.values())

    def augment(self, batch: Batch, progress: float) -> Batch:
        """The batch as the losses want it: with pasted objects, if one of them pastes."""
        for loss in self.losses.values():
            batch = cast(WeakLoss, loss).augment(batch, progress)
        return batch

    def report(self) -> dict[str, Tensor]:
        """Numbers of the last forward pass that are worth watching, of all losses."""
        numbers: dict[str, Tensor] = {}
        for loss in self.losses.values():
            numbers |= cast(WeakLoss, loss).report()
        return numbers

    def update(self, context: LossContext) -> None:
        """Moves the losses' own state, after the backward pass of each part of a batch."""
        for loss in self.losses.values():
            cast(WeakLoss, loss).update(context)

    def reduce(self, losses: Mapping[str, LossSum], progress: float) -> dict[str, Tensor]:
        """Weighted means over all processes' counts.

        Each process divides its own total by the mean count of all, so that averaging the
        gradients, which distributed training does, gives the gradient of the overall mean.
        """
        reduced = {}
        for name, loss in losses.items():
            factor = self.terms[name].factor(progress) if name in self.terms else 1.0
            count = ranks.mean_over_ranks(loss.count).clamp(min=1.0 / ranks.num_ranks())
            reduced[name] = loss.total / count * factor
        return reduced
