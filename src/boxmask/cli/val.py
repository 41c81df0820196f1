"""`boxmask val`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from boxmask.api.options import ValOptions
from boxmask.cli.paths import require_data, require_run
from boxmask.cli.printing import print_json, silent


def val(
    run: Path,
    /,
    data: Path | None = None,
    *,
    split: str = "val",
    json: Annotated[bool, Parameter(negative=())] = False,
    options: Annotated[ValOptions, Parameter(name="*")] = ValOptions(),  # noqa: B008 - frozen
) -> int:
    """Score a trained model: boxes, masks, and the masks it gives to the true boxes.

    Args:
        run: A run folder or its weights.
        data: A data set of the same classes. Default: the one it was trained on.
        split: Which part of the data.
        json: Print the numbers as JSON and nothing else.
        options: Everything else.
    """
    require_run(run)
    if data is not None:
        require_data(data)
    from boxmask.api.val import val as score
    from boxmask.api.val import without_nan

    metrics = score(run, data, split, say=silent if json else print, **vars(options))
    if json:
        print_json(without_nan(metrics))
    return 0
