"""`boxmask explain`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from boxmask.api.options import ExplainOptions
from boxmask.cli.paths import require_run
from boxmask.cli.printing import print_json, silent


def explain(
    run: Path,
    /,
    *pictures: str,
    json: Annotated[bool, Parameter(negative=())] = False,
    options: Annotated[ExplainOptions, Parameter(name="*")] = ExplainOptions(),  # noqa: B008
) -> int:
    """Show how a run learned masks from boxes: stages, weights, prototypes, pasted objects.

    Args:
        run: A folder of a run that was trained with --method sim, finished or interrupted.
        pictures: Pictures of the run's data set: file names, stems or paths.
        json: Print files and shares as JSON and nothing else.
        options: Everything else.
    """
    require_run(run)
    from boxmask.api.explain import explain as draw

    drawn = draw(run, pictures, say=silent if json else print, **vars(options))
    if json:
        print_json(drawn)
    return 0
