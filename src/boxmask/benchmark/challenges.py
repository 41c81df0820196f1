"""Challenges: how methods and ablations fare when objects hide in colour or crowd together.

`boxmask benchmark challenges` needs no data and no download. For each value of two dials it draws a
small data set, trains each variant on its boxes on equal terms, and draws scores along the dials.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from boxmask.api.run_files import say_nothing
from boxmask.api.val import without_nan
from boxmask.benchmark.challenge_list import (
    DIALS,
    METHODS,
    ChallengeRun,
    Condition,
    challenge_runs,
    conditions,
    draw_data,
    listed_run,
)
from boxmask.benchmark.challenge_pictures import draw_challenge_pictures
from boxmask.benchmark.run_list import Metrics, RunSteps, Say, finished_metrics, train_missing
from boxmask.benchmark.score_table import markdown_table, score_cell
from boxmask.benchmark.settings import ChallengeSettings
from boxmask.benchmark.variants import Variant
from boxmask.engine.run_folder import describe_machine
from boxmask.errors import UserError
from boxmask.visualization.dials import DialLine, DialPanel, plot_dials

SCORES = {"mask_ap": "mask AP", "label_iou": "label IoU"}
# Colours of Okabe and Ito, which people of all colour vision tell apart; and markers.
LOOKS = {
    "boxinst": ("#d55e00", "s"),
    "sim": ("#0072b2", "o"),
    "sim-without-features": ("#000000", "X"),
    "sim-without-semantic-map": ("#009e73", "^"),
    "sim-without-self-correction": ("#cc79a7", "v"),
    "sim-without-weighting": ("#8a6d00", "D"),
    "sim-with-neighbors": ("#5fd3d3", "8"),
    "sim-without-owners": ("#b0a000", "*"),
    "sim-without-colors": ("#7f7f7f", ">"),
    "sim-without-refinement": ("#6a3d9a", "<"),
    "sim-without-copy-paste": ("#56b4e9", "P"),
}


def measure(
    settings: ChallengeSettings | None = None, *, say: Say = print, steps: RunSteps | None = None
) -> str:
    """Draws the data, trains all that is missing, and reports.

    Args:
        settings: what is drawn and trained.
        say: takes each line of progress; what the runs themselves say is in their `train.log`.
        steps: how runs are trained and scored.

    Returns:
        The tables, in Markdown.

    Raises:
        UserError: If a run cannot be trained, or data or runs of other settings are in the way.
    """
    settings = settings or ChallengeSettings()
    for condition in conditions(settings):
        draw_data(condition, settings)
    runs = [listed_run(run, settings) for run in challenge_runs(settings)]
    train_missing(runs, say=say, details=say_nothing, steps=steps, jobs=settings.jobs)
    return report(settings, say=say)


def report(settings: ChallengeSettings | None = None, *, say: Say = print) -> str:
    """Writes `table.md`, `results.json`, `challenges.png` and `challenges.jpg` of finished runs.

    Args:
        settings: what was trained.
        say: takes the tables.

    Returns:
        The tables, in Markdown.

    Raises:
        UserError: If no run is finished, or runs of other settings are in the way.
    """
    settings = settings or ChallengeSettings()
    runs = challenge_runs(settings)
    seen = {run: finished_metrics(listed_run(run, settings)) for run in runs}
    found = {run: metrics for run, metrics in seen.items() if metrics is not None}
    if not found:
        raise UserError(
            "no run is finished yet",
            where=str(settings.out),
            fix="train them first: boxmask benchmark challenges",
        )
    text = tables(found, settings)
    (settings.out / "table.md").write_text(text + "\n", encoding="utf-8")
    content = json.dumps(_results(found, settings), indent=2)
    (settings.out / "results.json").write_text(content + "\n", encoding="utf-8")
    note = f"{len(found)} of {len(runs)} runs; mean and standard deviation over seeds"
    plot = plot_dials(_panels(found, settings), note, settings.out / "challenges.png")
    say(f"\n{text}\n\nplot {plot}")
    if pictures := draw_challenge_pictures(found, settings):
        say(f"pictures {pictures}")
    return text


def tables(found: Mapping[ChallengeRun, Metrics], settings: ChallengeSettings) -> str:
    """A table for each dial and score, and one of the minutes that a run takes."""
    parts = []
    for dial in DIALS:
        values = [float(value) for value in getattr(settings, dial)]
        for key, title in SCORES.items():
            rows = []
            for variant in settings.chosen_variants:
                scores = _scores_along(dial, key, variant, values, found)
                rows.append([variant.title, *map(score_cell, scores.values())])
            head = [title, *(f"{dial} {value:g}" for value in values)]
            parts.append(markdown_table(head, rows))
    minutes = [
        [variant.title, score_cell([found[run].get("minutes") for run in runs], 1), str(len(runs))]
        for variant in settings.chosen_variants
        for runs in [[run for run in found if run.variant == variant]]
    ]
    parts.append(markdown_table(["training", "minutes", "runs"], minutes))
    return "\n\n".join(parts)


def _scores_along(
    dial: str,
    key: str,
    variant: Variant,
    values: Sequence[float],
    found: Mapping[ChallengeRun, Metrics],
) -> dict[float, list[float]]:
    """A variant's scores of all finished seeds at each value of a dial, the other dial at 0."""
    scores: dict[float, list[float]] = {value: [] for value in values}
    for run, metrics in found.items():
        for value in values:
            here = run.condition == Condition(**{dial: value})
            if here and run.variant == variant and key in metrics:
                scores[value].append(metrics[key])
    return scores


def _panels(
    found: Mapping[ChallengeRun, Metrics], settings: ChallengeSettings
) -> list[list[DialPanel]]:
    """A row for each dial, a column for each score."""
    return [
        [
            DialPanel(score=title, dial=dial, lines=_lines(dial, key, found, settings))
            for key, title in SCORES.items()
        ]
        for dial in DIALS
    ]


def _lines(
    dial: str, key: str, found: Mapping[ChallengeRun, Metrics], settings: ChallengeSettings
) -> list[DialLine]:
    values = [float(value) for value in getattr(settings, dial)]
    return [
        DialLine(
            name=variant.title,
            color=LOOKS[variant.name][0],
            marker=LOOKS[variant.name][1],
            strong=variant.name in METHODS,
            scores=_scores_along(dial, key, variant, values, found),
        )
        for variant in settings.chosen_variants
    ]


def _results(found: Mapping[ChallengeRun, Metrics], settings: ChallengeSettings) -> dict[str, Any]:
    """Everything for machines."""
    runs = [
        {
            **asdict(run.condition),
            "variant": run.variant.name,
            "seed": run.seed,
            "metrics": without_nan(metrics),
        }
        for run, metrics in found.items()
    ]
    return {
        "settings": {**asdict(settings), "out": str(settings.out)},
        "machine": describe_machine().splitlines(),
        "runs": runs,
    }
