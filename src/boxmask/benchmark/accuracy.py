"""Accuracy on real data: trains a list of methods and seeds, goes on where it stopped, one table.

`boxmask benchmark accuracy DATA... --methods boxinst full --seeds 0 1 2`, which may also be spelled
`python -m boxmask.benchmark.accuracy DATA... --methods boxinst full --seeds 0 1 2`
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from boxmask.api.options import DEFAULT_MODEL
from boxmask.benchmark.run_list import (
    ListedRun,
    Metrics,
    RunSteps,
    Say,
    finished_metrics,
    train_missing,
)
from boxmask.benchmark.score_table import markdown_table, score_cell
from boxmask.benchmark.settings import AccuracySettings
from boxmask.benchmark.variants import Taught, taught_options
from boxmask.errors import UserError

COLUMNS = {
    "box_ap": "box AP",
    "mask_ap": "mask AP",
    "mask_ap50": "mask AP50",
    "label_iou": "label IoU",
    "fill": "fill",
    "minutes": "minutes",
    "memory_gb": "memory GB",
}
DECIMALS = {"minutes": 1, "memory_gb": 1}  # others have three


def measure(
    data: Sequence[Path],
    settings: AccuracySettings | None = None,
    *,
    say: Say = print,
    steps: RunSteps | None = None,
) -> str:
    """Trains all that is missing, says the table and writes it to `table.md`.

    Args:
        data: data sets, folders or COCO files.
        settings: what is trained on each.
        say: takes each line of progress.
        steps: how runs are trained.

    Returns:
        The table, in Markdown.

    Raises:
        UserError: If two data sets have one name, a run cannot be trained, or a run was made with
            other options.
    """
    settings = settings or AccuracySettings()
    if len({folder.stem for folder in data}) < len(data):
        raise UserError(
            "data sets need different names, for their runs are named after them",
            where=", ".join(map(str, data)),
            fix="give each a command and an --out of its own",
        )
    groups = {
        (folder.stem, model, method): _runs(folder, model, method, settings)
        for folder in data
        for model in settings.models
        for method in settings.methods
    }
    runs = [run for group in groups.values() for run in group]
    train_missing(runs, say=say, details=say, steps=steps, jobs=settings.jobs)
    text = table([(*names, _found(group)) for names, group in groups.items()])
    settings.out.mkdir(parents=True, exist_ok=True)
    (settings.out / "table.md").write_text(text + "\n", encoding="utf-8")
    say(f"\n{text}")
    return text


def table(rows: Sequence[tuple[str, str, str, Sequence[Metrics]]]) -> str:
    """A Markdown table; over several seeds each cell is mean and standard deviation."""
    lines = []
    for data, model, method, found in rows:
        cells = [
            score_cell([metrics.get(name) for metrics in found], DECIMALS.get(name, 3))
            for name in COLUMNS
        ]
        lines.append([data, model, method, str(len(found)), *cells])
    return markdown_table(["data", "model", "method", "seeds", *COLUMNS.values()], lines)


def _runs(data: Path, model: str, method: Taught, settings: AccuracySettings) -> list[ListedRun]:
    words = [data.stem, method] if model == DEFAULT_MODEL else [data.stem, model, method]
    return [
        ListedRun(
            folder=settings.out / "-".join([*words, str(seed)]),
            data=data,
            options={"model": model, "seed": seed, **taught_options(method), **settings.options},
        )
        for seed in settings.seeds
    ]


def _found(runs: Sequence[ListedRun]) -> list[Metrics]:
    return [metrics for metrics in map(finished_metrics, runs) if metrics is not None]


def main(words: Sequence[str] | None = None) -> None:
    """Reads the command line (or `words`) and measures."""
    app = App(
        name="python -m boxmask.benchmark.accuracy",
        help="Train a list of methods and seeds on data sets; one table.",
        result_action="return_value",
        default_parameter=Parameter(consume_multiple=True, negative_iterable=()),
    )

    @app.default
    def command(
        data: tuple[Path, ...],
        /,
        *,
        settings: Annotated[AccuracySettings, Parameter(name="*")] = AccuracySettings(),  # noqa: B008
    ) -> None:
        measure(data, settings, say=partial(print, flush=True))

    app(words)


if __name__ == "__main__":
    main()
