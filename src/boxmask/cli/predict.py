"""`boxmask predict`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from boxmask.api.options import PredictOptions
from boxmask.cli.paths import require_run
from boxmask.cli.printing import print_json, silent


def predict(
    run: Path,
    source: str,
    /,
    *,
    json: Annotated[bool, Parameter(negative=())] = False,
    options: Annotated[PredictOptions, Parameter(name="*")] = PredictOptions(),  # noqa: B008
) -> int:
    """Find objects in pictures and videos, and draw them.

    Args:
        run: A run folder or its weights.
        source: A picture, a folder, a pattern in quotes, or a video (mp4, avi, mov, mkv, webm).
        json: Print the summary as JSON and nothing else.
        options: Everything else.
    """
    require_run(run)
    from boxmask.api.predict import predict as find

    found = find(run, source, say=silent if json else print, **vars(options))
    if json:
        print_json(found)
    return 0 if found.num_pictures else 2
