"""Loads COCO files and joins the classes of all splits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from boxmask.data.coco_layout import split_of_folder
from boxmask.data.reading import ProblemLog
from boxmask.errors import UserError


@dataclass(frozen=True, kw_only=True)
class CocoFile:
    """A COCO file in memory.

    Attributes:
        path: the JSON file.
        content: the whole JSON object.
    """

    path: Path
    content: Mapping[str, Any]

    @property
    def shown(self) -> str:
        """The file as messages name it: with its folder where that tells the split."""
        parent = self.path.parent.name
        return f"{parent}/{self.path.name}" if split_of_folder(parent) else self.path.name

    def entries(self, key: str) -> list[Any]:
        """The list under `key`; empty when it is absent."""
        return self.content.get(key) or []


@dataclass(frozen=True, kw_only=True)
class ClassTable:
    """Classes of a whole data set.

    Attributes:
        names: in the order of labels.
        category_ids: the source's id of each.
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...]


def load_coco(path: Path | str) -> CocoFile:
    """Loads a COCO JSON file.

    Raises:
        UserError: If it is missing, no JSON (with line and column), or not of COCO's form.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError("annotation file is missing", where=str(path)) from error
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}:{error.colno}"
        raise UserError(f"file is no JSON: {error.msg}", where=where) from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"file cannot be read ({error})", where=str(path)) from error
    missing = [key for key in ("images", "categories") if not _is_list(content, key)]
    if missing:
        raise UserError(
            f"file is no COCO instance file: it has no list {missing[0]!r}",
            where=str(path),
            fix="Expected an object with the lists images, annotations and categories.",
        )
    if not isinstance(content.get("annotations") or [], list):
        raise UserError("'annotations' is no list", where=str(path))
    return CocoFile(path=path, content=content)


def class_table(files: Sequence[CocoFile], log: ProblemLog) -> ClassTable:
    """Joins the categories of all splits by name, in the order of their ids.

    Two ids of one name in a file become one class, with a warning; the id that has boxes counts.
    """
    ids_by_name: dict[str, int] = {}
    for file in files:
        used = {a["category_id"] for a in file.entries("annotations") if _is_classed(a)}
        names = category_names(file, log)
        known = set(ids_by_name)
        for raw_id, name in sorted(names.items(), key=lambda item: item[0] not in used):
            if name in ids_by_name:
                continue
            taken = not isinstance(raw_id, int) or raw_id in ids_by_name.values()
            if taken and known:
                log.warning(
                    f"{file.shown}: category {raw_id}",
                    f"id is another class in {files[0].shown}; classes are matched by name",
                )
            ids_by_name[name] = _free_id(ids_by_name) if taken else int(raw_id)
    ordered = sorted(ids_by_name.items(), key=lambda item: item[1])
    return ClassTable(
        names=tuple(name for name, _ in ordered), category_ids=tuple(i for _, i in ordered)
    )


def category_names(file: CocoFile, log: ProblemLog) -> dict[int | str, str]:
    """Names by raw id; what is broken or double becomes a problem."""
    names: dict[int | str, str] = {}
    for position, entry in enumerate(file.entries("categories")):
        where = f"{file.shown}: categories[{position}]"
        if not has_id(entry):
            log.error(where, "category has no usable id")
            continue
        name = str(entry.get("name") or entry["id"])
        if entry["id"] in names:
            log.error(where, f"category id {entry['id']} is used twice")
            continue
        if not entry.get("name"):
            log.warning(where, f"category {entry['id']} has no name; it is called by its id")
        if name in names.values():
            log.warning(where, f"class name {name!r} is used twice; taken as one class")
        names[entry["id"]] = name
    return names


def _free_id(ids_by_name: Mapping[str, int]) -> int:
    return max(ids_by_name.values(), default=0) + 1


def _is_list(content: Any, key: str) -> bool:
    return isinstance(content, Mapping) and isinstance(content.get(key), list)


def _is_classed(entry: Any) -> bool:
    return isinstance(entry, Mapping) and is_id(entry.get("category_id"))


def has_id(entry: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether an entry of a COCO list is an object with a usable id."""
    return isinstance(entry, Mapping) and is_id(entry.get("id"))


def is_id(value: Any) -> bool:
    """Whether a value can be an id: a whole number or a text."""
    return isinstance(value, int | str) and not isinstance(value, bool)
