"""Finds pictures that lie in two splits as copies, whatever their files are called."""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from boxmask.data.folder_checks import counted, first_names
from boxmask.data.reading import ProblemLog
from boxmask.data.records import DataFolder, DataSplit, ImageRecord, Problem

SAMPLE_BYTES = 4096
"""Bytes from a file's middle that are compared before whole files are."""

THREADS = 8
"""Files that are looked at at the same time."""

FIX = "Take them out of one split: scores on pictures that were trained on are too good."

Item = tuple[int, ImageRecord]  # number of the split, picture
Groups = Mapping[Hashable, Sequence[Item]]


def copy_warnings(folder: DataFolder) -> tuple[Problem, ...]:
    """A warning for each two splits that hold copies of the same picture file.

    Only files of equal size are opened, and only those that agree in the middle are read whole.
    The same file in both splits is `folder_warnings`' matter.
    """
    splits = list(folder.splits.values())
    groups = equal_files(splits)
    log = ProblemLog()
    for first, second in itertools.combinations(range(len(splits)), 2):
        pairs = [pair for items in groups for pair in _pairs(items, first, second)]
        if pairs:
            names = first_names([f"{one.name} = {other.name}" for one, other in pairs])
            text = f"hold {counted(len(pairs), 'picture')} twice, as copies: {names}"
            log.warning(f"{splits[first].name}, {splits[second].name}", text, FIX)
    return tuple(log.problems)


def equal_files(splits: Sequence[DataSplit]) -> list[Sequence[Item]]:
    """Groups of pictures of more than one split whose files are equal."""
    everything = [(n, record) for n, split in enumerate(splits) for record in split.records]
    groups: Groups = {None: everything}
    for look in (_size, _sample, _digest):
        groups = _finer(groups, look)
    return list(groups.values())


def _finer(groups: Groups, look: Callable[[Path], Hashable]) -> Groups:
    """The groups divided by what `look` says of a file; those of one split alone are left out."""
    keyed = [(key, item) for key, items in groups.items() for item in items]
    with ThreadPoolExecutor(THREADS) as pool:
        seen = list(pool.map(lambda pair: _or_none(look, pair[1][1].path), keyed))
    divided: dict[Hashable, list[Item]] = defaultdict(list)
    for (key, item), value in zip(keyed, seen, strict=True):
        if value is not None:
            divided[key, value].append(item)
    return {key: items for key, items in divided.items() if len({n for n, _ in items}) > 1}


def _or_none(look: Callable[[Path], Hashable], path: Path) -> Hashable:
    try:
        return look(path)
    except OSError:  # it has gone meanwhile
        return None


def _size(path: Path) -> int:
    return path.stat().st_size


def _sample(path: Path) -> bytes:
    with path.open("rb") as stream:
        stream.seek(path.stat().st_size // 2)
        return hashlib.blake2b(stream.read(SAMPLE_BYTES), digest_size=16).digest()


def _digest(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").digest()


def _pairs(
    items: Sequence[Item], first: int, second: int
) -> Iterable[tuple[ImageRecord, ImageRecord]]:
    """Each picture of the second split with a copy in the first, unless it lies in both itself."""
    ones = [record for n, record in items if n == first]
    known = {record.path.absolute() for record in ones}
    others = [record for n, record in items if n == second]
    return [(ones[0], record) for record in others if ones and record.path.absolute() not in known]
