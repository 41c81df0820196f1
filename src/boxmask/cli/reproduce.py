"""`boxmask reproduce`."""

from functools import partial
from typing import Annotated

from cyclopts import Parameter

from boxmask.benchmark.settings import ReproduceSettings
from boxmask.cli.interrupted import resumable
from boxmask.cli.paths import require_data


def reproduce(
    table: str,
    /,
    *,
    settings: Annotated[ReproduceSettings, Parameter(name="*")] = ReproduceSettings(),  # noqa: B008
) -> int:
    """Train rows of a published table; write measured numbers beside the published ones.

    Without --row it trains nothing and shows the table as far as it is filled.

    Args:
        table: Which: table1 is the comparison on COCO in SIM's paper.
        settings: Everything else.
    """
    if settings.data is not None:
        require_data(settings.data)
    from boxmask.benchmark.reproduce import reproduce as train_rows

    with resumable(lambda: "the same command, which keeps all finished rows"):
        train_rows(table, settings, say=partial(print, flush=True))
    return 0
