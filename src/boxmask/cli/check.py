"""`boxmask check`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from boxmask.api.options import CheckOptions
from boxmask.cli.printing import print_json, silent

DATA_HAS_ERRORS = 2


def check(
    data: Path,
    /,
    *,
    json: Annotated[bool, Parameter(negative=())] = False,
    options: Annotated[CheckOptions, Parameter(name="*")] = CheckOptions(),  # noqa: B008 - frozen
) -> int:
    """Look at a data set: errors, warnings, sizes, pictures. Leaves with 2 if there are errors.

    Args:
        data: A folder in COCO, VOC or YOLO form, or one COCO file.
        json: Print the numbers and problems as JSON and nothing else.
        options: Everything else.
    """
    from boxmask.api.check import check as look

    seen = look(data, say=silent if json else print, **vars(options))
    if json:
        print_json(seen)
    return 0 if seen.ok else DATA_HAS_ERRORS
