"""Finds pictures of a data set by what people call them."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from boxmask.data.folder_checks import first_names
from boxmask.data.records import DataFolder, ImageRecord
from boxmask.errors import UserError

CLOSE_NAMES = 3


def records_named(data: DataFolder, given: Sequence[Path | str]) -> list[ImageRecord]:
    """The records of some pictures, each once, in the order they were named.

    Args:
        data: every split is searched.
        given: name inside the data set, file name with or without its ending, or path.

    Raises:
        UserError: If no picture, or more than one, is called so.
    """
    records = [record for split in data.splits.values() for record in split.records]
    found = {record.path: record for record in (_named(data, records, str(n)) for n in given)}
    return list(found.values())


def _named(data: DataFolder, records: Sequence[ImageRecord], name: str) -> ImageRecord:
    places = {record.path: PurePosixPath(record.name) for record in records}
    asked, path = PurePosixPath(Path(name).as_posix()), Path(name).resolve()
    ways = (
        lambda record: places[record.path] == asked,
        lambda record: record.path.resolve() == path,
        lambda record: places[record.path].name == name,
        lambda record: places[record.path].stem == name,
    )
    for fits in ways:
        matches = {record.path: record for record in records if fits(record)}
        if len(matches) > 1:
            raise UserError(
                f"{len(matches)} pictures are called {name!r}",
                where=first_names([record.name for record in matches.values()]),
                fix="name one of them with its folder",
            )
        if matches:
            return next(iter(matches.values()))
    raise _unknown(data, records, name)


def _unknown(data: DataFolder, records: Sequence[ImageRecord], name: str) -> UserError:
    by_file = {PurePosixPath(record.name).name: record.name for record in records}
    close = get_close_matches(Path(name).name, by_file, n=CLOSE_NAMES, cutoff=0.75)
    return UserError(
        f"the data set has no picture {name!r}",
        where=str(data.root),
        fix=f"did you mean {', '.join(by_file[one] for one in close)}?"
        if close
        else "name a picture of its annotations: its file name, its stem or its path",
    )
