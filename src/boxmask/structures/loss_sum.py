"""A loss as a sum and a count, so that ranks and empty batches reduce right."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LossSum:
    """A loss before its division.

    Attributes:
        total: scalar with graph, the sum over all terms. Zero with a graph when there are none.
        count: scalar, how many terms (or which weight) the total sums; no graph.
    """

    total: Tensor
    count: Tensor
