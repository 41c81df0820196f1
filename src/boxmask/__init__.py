"""boxmask: instance masks from box annotations."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boxmask.api.check import DataCheck, check
    from boxmask.api.explain import Explanation, explain
    from boxmask.api.label import LabelledData, label
    from boxmask.api.model import BoxMask
    from boxmask.api.predict import Predictions, predict
    from boxmask.api.train import TrainedRun, train
    from boxmask.api.val import val
    from boxmask.errors import UserError

    __version__: str

__all__ = [
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

# Loaded when first asked for: torch takes seconds, and the command line must not wait for it.
_HOMES = {
    "BoxMask": "boxmask.api.model",
    "DataCheck": "boxmask.api.check",
    "Explanation": "boxmask.api.explain",
    "LabelledData": "boxmask.api.label",
    "Predictions": "boxmask.api.predict",
    "TrainedRun": "boxmask.api.train",
    "UserError": "boxmask.errors",
    "check": "boxmask.api.check",
    "explain": "boxmask.api.explain",
    "label": "boxmask.api.label",
    "predict": "boxmask.api.predict",
    "train": "boxmask.api.train",
    "val": "boxmask.api.val",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("boxmask")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
