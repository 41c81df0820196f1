"""Trains rows of a published table and writes what was measured beside what was published."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from boxmask.benchmark.published_table import COLUMNS, TABLE_1, PublishedRow
from boxmask.benchmark.run_list import (
    ListedRun,
    Metrics,
    RunSteps,
    Say,
    finished_metrics,
    train_missing,
)
from boxmask.benchmark.score_table import markdown_table
from boxmask.benchmark.settings import ReproduceSettings
from boxmask.errors import UserError
from boxmask.recipes.schedules import SCHEDULES

TABLES = {"table1": TABLE_1}
METRICS = (
    "mask_ap", "mask_ap50", "mask_ap75", "mask_ap_small", "mask_ap_medium", "mask_ap_large",
)  # fmt: skip
# Steps before SIM's pseudo masks teach, in its paper, however long the run is.
PAPER_WARMUP = 10_000


def reproduce(
    table: str,
    settings: ReproduceSettings | None = None,
    *,
    say: Say = print,
    steps: RunSteps | None = None,
) -> str:
    """Trains the rows that were asked for and are not finished; writes and says the table.

    Args:
        table: "table1".
        settings: rows, data, and how they are trained; without rows nothing is trained.
        say: takes each line of progress.
        steps: how runs are trained.

    Returns:
        The table, in Markdown.

    Raises:
        UserError: If a table or row is not known, a row cannot be trained here, or there is no
            data to train on.
    """
    settings = settings or ReproduceSettings()
    rows = _table(table)
    chosen = [_find(key, rows) for key in settings.row]
    if chosen and settings.data is None:
        raise UserError(
            "there is no data to train on",
            fix=f"boxmask reproduce {table} --row {chosen[0].key} --data COCO, a folder with "
            "annotations/instances_train2017.json, instances_val2017.json and their pictures",
        )
    runs = {row.key: _run(row, settings) for row in rows if row.ours is not None}
    if chosen:
        train_missing([runs[row.key] for row in chosen], say=say, details=say, steps=steps)
    found = {key: finished_metrics(run) for key, run in runs.items()}
    text = filled_table(rows, {key: one for key, one in found.items() if one is not None})
    settings.folder.mkdir(parents=True, exist_ok=True)
    (settings.folder / f"{table}.md").write_text(text + "\n", encoding="utf-8")
    say(f"\n{text}\n\n{settings.folder / f'{table}.md'}")
    if settings.smoke:
        say("--smoke: these numbers only show that the code runs")
    return text


def filled_table(rows: Sequence[PublishedRow], found: dict[str, Metrics]) -> str:
    """The table in Markdown: published numbers, and below them ours where there are some."""
    lines = []
    for row in rows:
        name = f"`{row.key}`" if row.ours else f"{row.key} (not here)"
        lines.append([name, row.supervision, f"published, {row.split}", *map(_cell, row.scores)])
        metrics = found.get(row.key)
        if metrics is not None:
            ours = [metrics.get(metric) for metric in METRICS]
            cells = [_cell(None if value is None else 100 * value) for value in ours]
            lines.append(["", "", "measured, val", *cells])
    notes = [f"{row.key}: {row.note}" for row in rows if row.note]
    return "\n".join(
        [markdown_table(["row", "learns from", "numbers", *COLUMNS], lines), "", *notes]
    )


def _run(row: PublishedRow, settings: ReproduceSettings) -> ListedRun:
    assert row.ours is not None
    options: dict[str, Any] = {
        "model": row.model,
        "method": row.trained_with,
        "schedule": row.ours,
        "seed": settings.seed,
    }
    if row.trained_with == "sim":
        options["preset"] = "paper"
        options["settings"] = (f"warmup={PAPER_WARMUP / SCHEDULES[row.ours].steps:.4f}",)
    if settings.smoke:
        options |= {
            "limit": 4, "epochs": 1, "batch": 2, "image_size": 64, "pretrained": False,
            "workers": 0,
        }  # fmt: skip
    else:
        options |= {
            "devices": settings.devices,
            "accumulate": settings.accumulate,
            "workers": settings.workers,
        }
    return ListedRun(
        folder=settings.folder / row.key, data=settings.data or Path("data"), options=options
    )


def _table(name: str) -> Sequence[PublishedRow]:
    if name not in TABLES:
        raise UserError(f"there is no table {name!r}", fix=f"known: {', '.join(TABLES)}")
    return TABLES[name]


def _find(key: str, rows: Sequence[PublishedRow]) -> PublishedRow:
    """The row of a name.

    Raises:
        UserError: If there is none, or it cannot be trained here.
    """
    here = [row.key for row in rows if row.ours]
    for row in rows:
        if row.key == key and row.ours:
            return row
        if row.key == key:
            raise UserError(
                f"{row.method} cannot be trained here; its row is there to compare with",
                where=key,
                fix=f"rows that can: {', '.join(here)}",
            )
    close = get_close_matches(key, here, n=1)
    raise UserError(
        f"there is no row {key!r}",
        fix=f"did you mean {close[0]}?" if close else f"known: {', '.join(here)}",
    )


def _cell(percent: float | None) -> str:
    return "-" if percent is None else f"{percent:.1f}"
