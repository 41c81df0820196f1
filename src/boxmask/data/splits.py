"""Puts pictures aside for validation when a data set comes without."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from boxmask.data.records import DataFolder


def put_aside_val(folder: DataFolder, fraction: float) -> DataFolder:
    """Moves a share of `train` into a new split `val`.

    Which pictures are moved depends on their names alone, so the split stays the same on every
    machine, and a picture stays on its side when others are added. The share is therefore met
    only roughly; of two pictures or more, each side gets at least one.

    Args:
        folder: a data set with the split `train`.
        fraction: share of the pictures to move, in (0, 1).
    """
    train = folder.splits["train"]
    if len(train.records) < 2:
        return folder
    draws = [name_share(record.name) for record in train.records]
    limit = min(max(fraction, min(draws)), max(draws))
    chosen = [draw < limit or draw == min(draws) for draw in draws]
    rest = [record for record, is_val in zip(train.records, chosen, strict=True) if not is_val]
    moved = [record for record, is_val in zip(train.records, chosen, strict=True) if is_val]
    splits = {
        "train": replace(train, records=rest),
        "val": replace(train, name="val", records=moved),
        **{name: split for name, split in folder.splits.items() if name != "train"},
    }
    return replace(folder, splits=splits)


def name_share(name: str) -> float:
    """A number in [0, 1) that looks drawn by chance but depends on the name alone."""
    digest = hashlib.sha256(name.encode("utf-8", errors="surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
