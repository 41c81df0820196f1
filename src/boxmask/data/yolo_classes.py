"""Names of a YOLO folder's classes: from its YAML, or from a list that a labelling tool left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from boxmask.data.reading import ProblemLog
from boxmask.errors import UserError

CLASS_LIST = "classes.txt"
"""The list that LabelImg writes among the labels: never a label file itself."""

CLASS_FILES = (
    CLASS_LIST,
    "obj.names",
    "labels/classes.txt",
    "images/classes.txt",
    "train/labels/classes.txt",
)
"""Files of the data set's folder that may list class names, one a line."""

MAX_CLASSES = 100_000
"""Classes above which a number is taken for a mistake."""

NAMES_FIX = "List the class names under `names` in data.yaml, or one a line in classes.txt."


def listed_names(root: Path, folders: Iterable[Path]) -> tuple[tuple[str, ...], str] | None:
    """Names from the first class list of the data set's folder or of `folders`, and its name.

    None where no list holds a name.
    """
    places = [root / name for name in CLASS_FILES]
    places += [folder / CLASS_LIST for folder in folders]
    for file in places:
        if file.is_file():
            lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
            names = tuple(line.strip() for line in lines if line.strip())
            if names:
                return names, file.name
    return None


def yaml_names(content: Mapping[str, Any], file: Path, log: ProblemLog) -> tuple[str, ...] | None:
    """Class names by number, from a list or a mapping; None where the YAML has none.

    Raises:
        UserError: If the numbers of a mapping make no sense.
    """
    names = content.get("names")
    if not names:
        return None
    if isinstance(names, list):
        ordered = tuple(str(name) for name in names)
    elif isinstance(names, Mapping):
        ordered = _by_number(names, file)
    else:
        return None
    count = content.get("nc")
    if count is not None and count != len(ordered):
        log.warning(
            file.name,
            f"`nc` is {count}, but `names` has {len(ordered)}; the names count",
            "Correct `nc` or `names`.",
        )
    return ordered


def counted_names(
    content: Mapping[str, Any], file: Path, log: ProblemLog
) -> tuple[str, ...] | None:
    """As many numbers as the YAML's `nc` says, with a warning; None where it says nothing."""
    count = content.get("nc")
    if not isinstance(count, int) or not 0 < count <= MAX_CLASSES:
        return None
    log.warning(file.name, "no class has a name; they are called by their numbers", NAMES_FIX)
    return tuple(str(k) for k in range(count))


def _by_number(names: Mapping[Any, Any], file: Path) -> tuple[str, ...]:
    try:
        by_number = {int(number): str(name) for number, name in names.items()}
    except (TypeError, ValueError) as error:
        raise UserError("a key of `names` is no number", where=str(file)) from error
    if not 0 <= min(by_number) <= max(by_number) < MAX_CLASSES:
        raise UserError("a key of `names` is out of range", where=str(file))
    return tuple(by_number.get(k, str(k)) for k in range(max(by_number) + 1))
