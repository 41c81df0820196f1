"""Full supervision where a mask may be trusted."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from boxmask.box_supervision.weak_loss import LossContext, WeakLoss, attached_zero
from boxmask.ops.dice import dice_distance
from boxmask.ops.masks import sample_at_stride
from boxmask.structures import Batch, LossSum, MaskSamples, Targets
from boxmask.waitless import scalar


@dataclass(frozen=True, kw_only=True)
class TrustedMaskLossSettings:
    """Settings of the trusted-mask term.

    Attributes:
        pasted: look at pasted objects alone; else at those that the data has a mask for.
        cross_entropy: add the mean cross-entropy over all cells, as SIM does for pasted objects.
    """

    pasted: bool = False
    cross_entropy: bool = False

    def build(self) -> "TrustedMaskLoss":
        """The loss."""
        return TrustedMaskLoss(self)


class TrustedMaskLoss(WeakLoss):
    """Dice distance to the true mask, averaged over the samples of trusted objects.

    Source: CondInst (ECCV 2020), mask loss.
    """

    def __init__(self, settings: TrustedMaskLossSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or TrustedMaskLossSettings()

    def forward(self, context: LossContext) -> LossSum:
        """Zero where no object of the batch has a trusted mask."""
        student = context.student
        targets = context.batch.targets
        if all(t.masks is None for t in targets):  # known without asking the device
            total = attached_zero(context)
            return LossSum(total, torch.zeros_like(total.detach()))
        wanted = torch.cat([self._wanted(t.host) for t in targets])[student.instances_on_host]
        chosen = student.select(wanted.nonzero().squeeze(-1))
        truth = masks_on_samples(context.batch, chosen)
        logits, truth = chosen.logits.float(), truth.float()
        distances = dice_distance(logits.sigmoid(), truth)  # (K,)
        if self.settings.cross_entropy:
            entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
            distances = distances + entropy.mean(dim=(1, 2))
        total = distances.sum()
        return LossSum(total, scalar(len(chosen), total))

    def _wanted(self, targets: Targets) -> Tensor:
        """(N,) bool, objects that this term teaches."""
        if targets.pasted is None:
            return torch.zeros_like(targets.trusted) if self.settings.pasted else targets.trusted
        return targets.pasted if self.settings.pasted else targets.trusted & ~targets.pasted


def masks_on_samples(batch: Batch, samples: MaskSamples) -> Tensor:
    """True masks on the grid of whole-image samples: (K, h, w) bool.

    Objects without a mask give an empty one.
    """
    height, width = samples.logits.shape[-2:]
    stride = batch.images.shape[-1] // width
    rows = []
    for targets in batch.targets:
        if targets.masks is None:
            rows.append(batch.valid.new_zeros((len(targets), height, width)))
        else:
            rows.append(sample_at_stride(targets.masks, stride))
    return torch.cat(rows)[samples.instance_index]
