"""What flows between the parts: frozen dataclasses of tensors."""

from boxmask.structures.batch import Batch
from boxmask.structures.detections import Detections
from boxmask.structures.loss_sum import LossSum
from boxmask.structures.mask_samples import MaskSamples
from boxmask.structures.targets import Targets

__all__ = ["Batch", "Detections", "LossSum", "MaskSamples", "Targets"]
