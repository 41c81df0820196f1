"""What users and the parts of the package may rely on by name."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import boxmask
from boxmask import structures

SOURCE = Path(boxmask.__file__).parent
MODULES = sorted(
    ".".join(("boxmask", *file.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
    for file in SOURCE.rglob("*.py")
    if file.name != "__main__.py"
)


def test_structures():
    assert structures.__all__ == ["Batch", "Detections", "LossSum", "MaskSamples", "Targets"]


def test_public_names():
    """A name that users may have written down goes only on purpose."""
    assert boxmask.__all__ == [
        "BoxMask",
        "DataCheck",
        "Explanation",
        "LabelledData",
        "Predictions",
        "TrainedRun",
        "UserError",
        "__version__",
        "check",
        "explain",
        "label",
        "predict",
        "train",
        "val",
    ]


@pytest.mark.parametrize("name", boxmask.__all__)
def test_public_names_lead_somewhere(name):
    thing = getattr(boxmask, name)
    assert name in dir(boxmask)
    if inspect.isclass(thing) or inspect.isfunction(thing):
        assert thing.__name__ == name
        assert thing.__doc__
    else:
        assert name == "__version__"


def test_unknown_names():
    with pytest.raises(AttributeError, match="no attribute 'lable'"):
        boxmask.lable  # noqa: B018


def test_importing_the_package_is_quick():
    """torch takes seconds: `boxmask --help` must not wait for it."""
    code = "import sys, boxmask; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", MODULES)
def test_modules_import_alone_and_say_what_they_are(name):
    module = importlib.import_module(name)
    assert module.__doc__
    first = module.__doc__.strip().splitlines()[0]
    assert first.endswith((".", ":", "?")), first


def test_settings_are_frozen_and_named():
    """Every settings class takes names alone and never changes."""
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ClassDef) or not node.name.endswith("Settings"):
                continue
            if any(getattr(base, "id", "") == "Protocol" for base in node.bases):
                continue
            options = {
                keyword.arg: getattr(keyword.value, "value", None)
                for decorator in node.decorator_list
                if isinstance(decorator, ast.Call)
                for keyword in decorator.keywords
            }
            assert options.get("frozen") is True, f"{file}: {node.name}"
            assert options.get("kw_only") is True, f"{file}: {node.name}"
