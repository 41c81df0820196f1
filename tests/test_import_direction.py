"""Who may import whom: parts stand in layers, and a layer sees those below it alone."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "boxmask"

# From the bottom to the top; parts of one layer do not see each other.
LAYERS = (
    {"ranks", "waitless", "errors", "freed_memory", "remarks"},
    {"structures", "whole_files"},
    {"ops"},
    {"prototypes"},
    {"data", "backbones"},
    {"necks"},
    {"detectors", "box_supervision"},
    {"engine"},
    {"evaluation"},
    {"recipes"},
    {"labeler"},
    {"api"},
    {"benchmark"},
    {"cli"},
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
# Drawing knows tensors alone, and serves those who report.
DRAWING_SEES = {"structures", "ops", "errors"}
SEES_DRAWING = {"evaluation", "labeler", "benchmark", "api"}
ROOT = "boxmask"  # the package's own face: what users import
VAGUE_NAMES = {"utils", "util", "misc", "common", "helpers", "helper", "tools"}


def source_files():
    return sorted(SOURCE.rglob("*.py"))


def part_of(file):
    """The part that a file belongs to; files at the top are parts of their own."""
    first = file.relative_to(SOURCE).parts[0]
    return ROOT if first == "__init__.py" else first.removesuffix(".py")


def is_type_checking(node):
    test = node.test
    return getattr(test, "id", getattr(test, "attr", None)) == "TYPE_CHECKING"


def imports_in(node):
    """All import statements, also in functions, except those for type checkers."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and is_type_checking(child):
            for other in child.orelse:
                yield from imports_in(ast.Module(body=[other], type_ignores=[]))
        elif isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        else:
            yield from imports_in(child)


def parts_imported(statement, parts):
    """Parts of the package that a statement names."""
    if isinstance(statement, ast.Import):
        modules = [alias.name for alias in statement.names]
    elif statement.level:
        return {"a relative import"}
    elif statement.module == ROOT:
        modules = [f"{ROOT}.{alias.name}" for alias in statement.names]
    else:
        modules = [statement.module or ""]
    found = set()
    for module in modules:
        first, _, rest = module.partition(".")
        if first == ROOT:
            part = rest.partition(".")[0]
            found.add(part if part in parts else ROOT)
    return found


def seen_from(part):
    """All parts that a part may import."""
    special = {
        ROOT: {"api", "errors"},
        "__main__": {"cli", "freed_memory", "remarks"},
        "visualization": DRAWING_SEES,
    }
    if part in special:
        return special[part]
    below = {other for other, level in LEVEL.items() if level < LEVEL[part]}
    if part in SEES_DRAWING:
        below.add("visualization")
    if part in {"api", "cli"}:
        below.add(ROOT)  # for the version
    return below


def may_import(part, other):
    return part == other or other in seen_from(part)


def test_parts_are_known():
    parts = {part_of(file) for file in source_files()}
    assert parts <= set(LEVEL) | {"visualization", ROOT, "__main__"}


@pytest.mark.parametrize(
    "file", source_files(), ids=lambda file: file.relative_to(SOURCE).as_posix()
)
def test_imports_point_down(file):
    parts = {part_of(one) for one in source_files()} - {ROOT}
    part = part_of(file)
    tree = ast.parse(file.read_text(encoding="utf-8"))
    wrong = [
        f"line {statement.lineno}: {part} may not import {other}"
        for statement in imports_in(tree)
        for other in sorted(parts_imported(statement, parts))
        if other == "a relative import" or not may_import(part, other)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import boxmask.ops.masks", {"ops"}),
        ("from boxmask import ranks, api", {"ranks", "api"}),
        ("from boxmask.data.records import ImageRecord", {"data"}),
        ("from boxmask import label", {ROOT}),
        ("import torch", set()),
        ("def f():\n    from boxmask.cli import main", {"cli"}),
        ("if TYPE_CHECKING:\n    from boxmask.cli import main", set()),
        ("if TYPE_CHECKING:\n    pass\nelse:\n    from boxmask.cli import main", {"cli"}),
        ("from . import masks", {"a relative import"}),
    ],
)
def test_the_walk_sees_every_import(code, expected):
    parts = set(LEVEL) | {"visualization"}
    found = set()
    for statement in imports_in(ast.parse(code)):
        found |= parts_imported(statement, parts)
    assert found == expected


@pytest.mark.parametrize(
    ("part", "other", "allowed"),
    [
        ("ops", "structures", True),
        ("structures", "ops", False),
        ("necks", "ops", True),
        ("detectors", "box_supervision", False),
        ("box_supervision", "detectors", False),
        ("data", "backbones", False),
        ("backbones", "data", False),
        ("engine", "data", True),
        ("engine", "recipes", False),
        ("api", "cli", False),
        ("evaluation", "visualization", True),
        ("engine", "visualization", False),
        ("visualization", "data", False),
    ],
)
def test_the_rule(part, other, allowed):
    assert may_import(part, other) == allowed


def test_names_say_what_is_inside():
    vague = [file for file in source_files() if file.stem in VAGUE_NAMES]
    vague += [folder for folder in SOURCE.rglob("*") if folder.name in VAGUE_NAMES]
    assert not vague
