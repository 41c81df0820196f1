"""One step of learning, top to bottom: read this first."""

import torch
from torch import Tensor, nn

from boxmask.backbones.stages import PartialMaps
from boxmask.box_supervision.objective import Objective
from boxmask.box_supervision.weak_loss import LossContext
from boxmask.detectors.detector import Detector, SampleAssignment
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
        frozen = self.detector.frozen_outputs(batch.images, batch.valid)  # what never learns
        outputs = self.detector(batch.images, batch.valid, frozen)  # features, raw predictions
        assignment = self.detector.assign(outputs, batch.targets)  # from boxes, never masks
        student = self.detector.mask_samples(outputs, assignment)  # (K, h, w) logits
        losses = self.detector.detection_losses(outputs, assignment, batch.targets)
        context = LossContext(
            batch=batch,
            student=student,
            teacher=self._ask(teacher, batch, assignment, frozen, progress),
            progress=progress,
            appearance=None if frozen is None else frozen.appearance,
        )
        losses |= self.objective(context)
        return self.objective.reduce(losses, progress), context

    @torch.no_grad()
    def _ask(
        self,
        teacher: Detector | None,
        batch: Batch,
        assignment: SampleAssignment,
        frozen: PartialMaps | None,
        progress: float,
    ) -> MaskSamples | None:
        """The teacher's masks of the same samples, from its own features."""
        if teacher is None or not self.objective.needs_teacher(progress):
            return None
        outputs = teacher.mask_outputs(batch.images, batch.valid, frozen)
        return teacher.mask_samples(outputs, assignment)
