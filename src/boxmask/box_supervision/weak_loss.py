"""Contract of everything that teaches masks."""

from dataclasses import dataclass, field

from torch import Tensor, nn

from boxmask.ops.affinity import lab_at_stride
from boxmask.ops.boxes import outside_boxes
from boxmask.structures import Batch, LossSum, MaskSamples


@dataclass(frozen=True, kw_only=True)
class LossContext:
    """All that a weak loss may look at.

    Attributes:
        batch: images and given boxes.
        student: masks of the model that learns, with a graph.
        teacher: masks of its moving average for the same samples, or None.
        progress: share of the run that is done, in 0..1.
        appearance: (B, C, h', w') features of those layers of the backbone that never learn, or
            None where all learn.
    """

    batch: Batch
    student: MaskSamples
    teacher: MaskSamples | None
    progress: float
    appearance: Tensor | None = None
    _lab: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    _outside: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def lab(self, stride: int) -> Tensor:
        """CIE-LAB colours of cells of `stride` pixels, found once for all losses.

        Returns:
            (B, 3, H / stride, W / stride), see `lab_at_stride`.
        """
        if stride not in self._lab:
            self._lab[stride] = lab_at_stride(self.batch.images, stride)
        return self._lab[stride]

    def outside(self, stride: int) -> Tensor:
        """Cells of `stride` pixels outside all boxes, found once for all losses.

        Returns:
            (B, H / stride, W / stride) bool, see `outside_boxes`.
        """
        if stride not in self._outside:
            height, width = self.batch.images.shape[-2:]
            size = (height // stride, width // stride)
            self._outside[stride] = outside_boxes(self.batch, size)
        return self._outside[stride]

    def share_lab(self, other: "LossContext") -> None:
        """Takes over the colours that another context of the same pictures has found."""
        self._lab.update(other._lab)


class WeakLoss(nn.Module):
    """A term that looks at mask samples and boxes, and gives a sum and a count.

    `forward` changes nothing; `update`, called after the backward pass of each part of a batch,
    moves whatever the loss remembers (prototypes, banks). While a loss counts nothing, `forward` is
    not called, unless it `prepares` what `update` needs.
    """

    prepares = False  # whether `update` needs what `forward` found

    def needs_teacher(self, progress: float) -> bool:
        """Whether `forward` looks at `context.teacher` at a share of the run; most never do."""
        return False

    def expect(self, passes: float) -> None:
        """Told before a run how often it will look at each picture; most need not know."""

    def augment(self, batch: Batch, progress: float) -> Batch:
        """The batch to train on; most losses leave it alone."""
        return batch

    def forward(self, context: LossContext) -> LossSum:
        """The loss of this batch; a zero with a graph where it has nothing to say."""
        raise NotImplementedError

    def report(self) -> dict[str, Tensor]:
        """Numbers of the last forward pass that are worth watching, by name; most have none."""
        return {}

    def update(self, context: LossContext) -> None:
        """Moves the loss's own state; most have none."""


def attached_zero(context: LossContext) -> Tensor:
    """A zero that hangs on the student's graph, so that every process has a backward pass."""
    return context.student.logits.sum() * 0.0


def nothing(context: LossContext) -> LossSum:
    """A sum of 0 with a graph, over 0 samples: of a loss that has nothing to say."""
    return LossSum(attached_zero(context), context.student.scores.new_zeros(()))
