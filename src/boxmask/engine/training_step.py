"""One step of learning, top to bottom: read this first."""

from typing import Any

import torch
from torch import Tensor, nn

from boxmask.box_supervision.objective import Objective
from boxmask.box_supervision.weak_loss import LossContext
from boxmask.detectors.detector import Detector, SampleAssignment
from boxmask.engine.fixed_pass import FixedPass
from boxmask.structures import Batch, MaskSamples


class TrainingStep(nn.Module):
    """Detector and objective together; distributed training and compilation wrap it.

    Args:
        detector: any architecture.
        objective: any set of weak losses.
    """

    def __init__(self, detector: Detector, objective: Objective) -> None:
        super().__init__()
        self.detector = detector
        self.objective = objective
        self._fixed_pass = FixedPass()

    def forward(
        self, batch: Batch, progress: float, teacher: Detector | None = None
    ) -> tuple[dict[str, Tensor], LossContext]:
        """The losses of a batch, weighted, by name; their sum is what the gradient is of.

        Args:
            batch: images and boxes.
            progress: share of the run that is done, in 0..1.
            teacher: moving average of the detector, in evaluation mode.
        """
        batch = self.objective.augment(batch, progress)  # copy-paste, if a loss wants it
        asked = teacher if self.objective.needs_teacher(progress) else None
        fixed = self._fixed_pass(self.detector, asked, batch.images, batch.valid)  # never learned
        outputs = self.detector(batch.images, batch.valid, fixed.frozen)  # features, predictions
        assignment = self.detector.assign(outputs, batch.targets)  # from boxes, never masks
        student = self.detector.mask_samples(outputs, assignment)  # (K, h, w) logits
        losses = self.detector.detection_losses(outputs, assignment, batch.targets)
        context = LossContext(
            batch=batch,
            student=student,
            teacher=None if asked is None else _masks(asked, fixed.teacher, assignment),
            progress=progress,
            appearance=None if fixed.frozen is None else fixed.frozen.appearance,
        )
        losses |= self.objective(context)
        return self.objective.reduce(losses, progress), context


@torch.no_grad()
def _masks(teacher: Detector, outputs: Any, assignment: SampleAssignment) -> MaskSamples:
    """The teacher's masks of the same samples, from its own features."""
    return teacher.mask_samples(outputs, assignment)
