"""`boxmask benchmark`: measurements with many runs, a sub-command each."""

from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from boxmask.benchmark.settings import AccuracySettings, ChallengeSettings, SpeedSettings
from boxmask.cli.interrupted import resumable


def accuracy(
    data: tuple[Path, ...],
    /,
    *,
    settings: Annotated[AccuracySettings, Parameter(name="*")] = AccuracySettings(),  # noqa: B008
) -> int:
    """Train a list of methods and seeds on data sets; one table.

    Args:
        data: Folders in COCO, VOC or YOLO form, or COCO files. True masks in val are needed for
            mask AP and label IoU.
        settings: Everything else.
    """
    from boxmask.benchmark.accuracy import measure

    with resumable(_hint):
        measure(data, settings, say=partial(print, flush=True))
    return 0


def challenges(
    *,
    plot_only: Annotated[bool, Parameter(negative=())] = False,
    settings: Annotated[ChallengeSettings, Parameter(name="*")] = ChallengeSettings(),  # noqa: B008
) -> int:
    """Train methods and ablations on drawn pictures that get harder along two dials; draw scores.

    Args:
        plot_only: Train nothing; draw and print what is finished, with its pictures.
        settings: Everything else.
    """
    from boxmask.benchmark.challenges import measure, report

    with resumable(_hint):
        (report if plot_only else measure)(settings, say=partial(print, flush=True))
    return 0


def speed(
    *,
    settings: Annotated[SpeedSettings, Parameter(name="*")] = SpeedSettings(),  # noqa: B008
) -> int:
    """Time the hot paths beside their plain forms, and whole training steps; one table.

    Args:
        settings: Everything.
    """
    from boxmask.benchmark.speed import measure

    measure(settings, say=partial(print, flush=True))
    return 0


BENCHMARKS = {"accuracy": accuracy, "challenges": challenges, "speed": speed}


def build_benchmark() -> App:
    """The parser of all sub-commands."""
    app = App(
        name="benchmark",
        help="Measure with many runs; finished runs are kept and not done again.",
        default_parameter=Parameter(consume_multiple=True, negative_iterable=()),
    )
    for name, command in BENCHMARKS.items():
        app.command(command, name=name)
    return app


def _hint() -> str:
    return "the same command, which keeps all finished runs"
