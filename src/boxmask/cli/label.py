"""`boxmask label`."""

import shlex
from dataclasses import fields
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from boxmask.api.options import LabelOptions
from boxmask.cli.interrupted import resumable
from boxmask.cli.paths import require_data, require_run
from boxmask.cli.printing import print_json, silent


def label(
    data: Path,
    /,
    *,
    weights: Path,
    json: Annotated[bool, Parameter(negative=())] = False,
    options: Annotated[LabelOptions, Parameter(name="*")] = LabelOptions(),  # noqa: B008 - frozen
) -> int:
    """Boxes in, masks out: exactly one mask for each box, with a confidence.

    Args:
        data: A folder in COCO, VOC or YOLO form, or one COCO file.
        weights: A run folder or its weights.
        json: Print the summary as JSON and nothing else.
        options: Everything else.
    """
    require_data(data)
    require_run(weights)
    from boxmask.api.label import default_out
    from boxmask.api.label import label as label_data

    words = ["boxmask", "label", str(data), "--weights", str(weights)]
    words += ["--out", str(options.out or default_out(data)), *_other_words(options)]
    with resumable(lambda: f"{shlex.join(words)} --resume"):
        made = label_data(data, weights, say=silent if json else print, **vars(options))
    if json:
        print_json(made)
    return 0


def _other_words(options: LabelOptions) -> list[str]:
    """The options that were given, as typed, but for those that say how a labelling starts."""
    words = []
    for field in fields(options):
        value = getattr(options, field.name)
        if value == field.default or field.name in ("out", "resume", "overwrite"):
            continue
        name = "--" + field.name.replace("_", "-")
        if value is True:
            words.append(name)
        else:
            values = value if isinstance(value, tuple) else (value,)
            words += [word for one in values for word in (name, str(one))]
    return words
