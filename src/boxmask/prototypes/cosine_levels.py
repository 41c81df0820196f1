"""Where the cosines of a class lie on its own cells and on background."""

import torch
from torch import Tensor, nn

from boxmask import ranks


class CosineLevels(nn.Module):
    """Moving averages of two means for each class: foreground, and cells outside all boxes.

    Features have a common part, so that even background has a cosine well above 0 to every
    prototype. The middle between both means tells a class's cells from background; 0 does not.

    Args:
        num_classes: classes C.
        momentum: share of the old value at each update, in 0..1, once warm.
    """

    means: Tensor
    updates: Tensor

    def __init__(self, num_classes: int, momentum: float = 0.99) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("means", torch.zeros(num_classes, 2))
        self.register_buffer("updates", torch.zeros(num_classes))

    @property
    def middle(self) -> Tensor:
        """(C,) cosine half-way between foreground and background; 0 for unseen classes."""
        return self.means.mean(dim=1)

    def sums_of(
        self, cosines: Tensor, cells: Tensor, labels: Tensor, times: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What `update` wants of cells of one kind.

        Args:
            cosines: (M, h, w) in -1..1.
            cells: (M, h, w) bool.
            labels: (M,) class of each map.
            times: (M,) how often each map counts.

        Returns:
            (C,) sums of cosines, and (C,) numbers of cells.
        """
        sums = torch.zeros(len(self.means), device=cosines.device)
        counts = torch.zeros_like(sums)
        sums.index_add_(0, labels, torch.where(cells, cosines, 0.0).sum(dim=(1, 2)) * times)
        counts.index_add_(0, labels, (cells.flatten(1).sum(dim=1) * times).float())
        return sums, counts

    @torch.no_grad()
    def update(self, sums: Tensor, counts: Tensor) -> None:
        """Moves the means of classes that have cells of both kinds; others stay as they are.

        Every process must call it, also without cells of its own.

        Args:
            sums: (C, 2) sums of cosines over foreground and background cells of this process.
            counts: (C, 2) numbers of these cells.
        """
        sums, counts = ranks.sum_over_ranks(sums), ranks.sum_over_ranks(counts)
        present = (counts > 0).all(dim=1)
        momentum = ((1 + self.updates) / (10 + self.updates)).clamp(max=self.momentum)
        momentum = (momentum * (self.updates > 0))[:, None]  # the first means are taken whole
        moved = momentum * self.means + (1 - momentum) * sums / counts.clamp(min=1)
        self.means.copy_(torch.where(present[:, None], moved, self.means))
        self.updates += present
