"""Answers for people who type `epochs=12`, as some other tools want it."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise

from boxmask.api.options import (
    CheckOptions,
    ExplainOptions,
    LabelOptions,
    PredictOptions,
    TrainOptions,
    ValOptions,
)
from boxmask.errors import UserError

_OPTIONS = {
    "check": CheckOptions,
    "train": TrainOptions,
    "val": ValOptions,
    "predict": PredictOptions,
    "label": LabelOptions,
    "explain": ExplainOptions,
}
_EXTRA = {"val": ("data", "split", "json"), "predict": ("json",), "check": ("json",),
          "explain": ("json",),
          "label": ("weights", "json")}  # fmt: skip
_OTHER_NAMES = {
    "imgsz": "image-size",
    "lr": "learning-rate",
    "lr0": "learning-rate",
    "batch-size": "batch",
    "conf": "threshold",
    "project": "out",
    "name": "out",
    "output": "out",
    "exist-ok": "overwrite",
}
_PLACES = {
    "train": ("data",),
    "check": ("data",),
    "label": ("data",),
    "val": ("run", "model"),
    "predict": ("run", "model", "source"),
    "explain": ("run", "model", "picture", "pictures"),
}
_WORD = re.compile(r"([A-Za-z][\w-]*)=(.+)", re.DOTALL)


def check_words(words: Sequence[str]) -> None:
    """Refuses `key=value` where a known option is meant.

    Raises:
        UserError: With the right spelling.
    """
    if not words or words[0] not in _OPTIONS:
        return
    command = words[0]
    known = {field.name.replace("_", "-") for field in fields(_OPTIONS[command])}
    known |= {*_EXTRA.get(command, ())}
    for before, word in pairwise(words):
        match = None if before == "--settings" else _WORD.fullmatch(word)
        if not match:
            continue
        key, value = match.group(1).replace("_", "-").lower(), match.group(2)
        if key in _PLACES[command]:
            raise UserError(
                f"{word} is not understood", fix=f"did you mean boxmask {command} {value}?"
            )
        name = _option(key, known)
        if name:
            raise UserError(
                f"{word} is not understood", fix=f"did you mean {_spelled(name, value)}?"
            )


def _option(key: str, known: set[str]) -> str:
    """The option that a word means; empty if it is none."""
    if key in known:
        return key
    other = _OTHER_NAMES.get(key, "")
    if other in known:
        return other
    return next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.8)), "")


def _spelled(name: str, value: str) -> str:
    switches = {"true": f"--{name}", "false": f"--no-{name}"}
    return switches.get(value.lower(), f"--{name} {value}")
