"""Challenges: how methods and ablations fare when objects hide in colour or crowd together.

`boxmask benchmark challenges` needs no data and no download. For each value of two dials it draws a
small data set, trains each variant on its boxes on equal terms, and draws scores along the dials.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from boxmask.api.val import without_nan
from boxmask.benchmark.challenge_pictures import draw_challenge_pictures
from boxmask.benchmark.run_list import (
    ListedRun,
    Metrics,
    RunSteps,
    Say,
    finished_metrics,
    train_missing,
)
from boxmask.benchmark.score_table import markdown_table, score_cell
from boxmask.benchmark.settings import ChallengeSettings, Variant
from boxmask.data.synthetic import SyntheticSettings, write_synthetic
from boxmask.engine.run_folder import describe_machine
from boxmask.errors import UserError
from boxmask.visualization.dials import DialLine, DialPanel, plot_dials

DIALS = ("camouflage", "crowding")
SCORES = {"mask_ap": "mask AP", "label_iou": "label IoU"}
# Several small shapes that touch only where the crowding says so.
PICTURES = SyntheticSettings(num_shapes=(3, 4), radius=(0.12, 0.2), overlap=False)
# Colours of Okabe and Ito, which people of all colour vision tell apart; and markers.
LOOKS = {
    "boxinst": ("#d55e00", "s"),
    "sim": ("#0072b2", "o"),
    "sim-without-features": ("#000000", "X"),
    "sim-without-semantic-map": ("#009e73", "^"),
    "sim-without-self-correction": ("#cc79a7", "v"),
    "sim-without-weighting": ("#8a6d00", "D"),
    "sim-without-owners": ("#b0a000", "*"),
    "sim-without-colors": ("#7f7f7f", ">"),
    "sim-without-refinement": ("#6a3d9a", "<"),
    "sim-without-copy-paste": ("#56b4e9", "P"),
}
METHODS = ("boxinst", "sim")  # drawn thick; the others are ablations


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Where both dials stand.

    Attributes:
        camouflage: 0..1.
        crowding: 0..1.
    """

    camouflage: float = 0.0
    crowding: float = 0.0

    @property
    def name(self) -> str:
        """For folders."""
        moved = [f"{dial}-{getattr(self, dial):g}" for dial in DIALS if getattr(self, dial)]
        return "-".join(moved) or "plain"


@dataclass(frozen=True, kw_only=True)
class ChallengeRun:
    """One run: a variant under a condition, with a seed."""

    condition: Condition
    variant: Variant
    seed: int


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
    runs = [_listed(run, settings) for run in challenge_runs(settings)]
    train_missing(runs, say=say, details=_say_nothing, steps=steps)
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
    seen = {run: finished_metrics(_listed(run, settings)) for run in runs}
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
    if pictures := _draw_pictures(found, settings):
        say(f"pictures {pictures}")
    return text


def _draw_pictures(
    found: Mapping[ChallengeRun, Metrics], settings: ChallengeSettings
) -> Path | None:
    """`challenges.jpg`: the hard ends of both dials, first seed, where its runs are finished."""
    hardest = [Condition(**{dial: float(max(getattr(settings, dial)))}) for dial in DIALS]
    chosen = [one for one in settings.chosen_variants if one.name in METHODS]
    wanted = {
        variant.title: [
            ChallengeRun(condition=condition, variant=variant, seed=settings.seeds[0])
            for condition in hardest
        ]
        for variant in chosen
    }
    folders = {
        title: [_listed(run, settings).folder for run in runs] for title, runs in wanted.items()
    }
    finished = all(run in found for runs in wanted.values() for run in runs)
    kept = all(any(one.glob("weights/*")) for some in folders.values() for one in some)
    if not (chosen and finished and kept):
        return None
    return draw_challenge_pictures(
        folders,
        [_data_folder(condition, settings) for condition in hardest],
        settings.out / "labels",
        settings.out / "challenges.jpg",
    )


def conditions(settings: ChallengeSettings) -> list[Condition]:
    """Each dial alone at each of its values; where both are at 0 they share one condition."""
    alone = [
        Condition(**{dial: float(value)}) for dial in DIALS for value in getattr(settings, dial)
    ]
    return list(dict.fromkeys(alone))


def challenge_runs(settings: ChallengeSettings) -> list[ChallengeRun]:
    """All runs; the first seed of everything comes first, so that a stopped list shows much."""
    return [
        ChallengeRun(condition=condition, variant=variant, seed=seed)
        for seed in settings.seeds
        for condition in conditions(settings)
        for variant in settings.chosen_variants
    ]


def draw_data(condition: Condition, settings: ChallengeSettings) -> Path:
    """Draws a condition's data set, unless it is there.

    Besides `train.json` and `val.json` it holds `boxes.json`: the training boxes without masks, and
    with a name that no val split belongs to.

    Raises:
        UserError: If there is one that was drawn otherwise.
    """
    folder = _data_folder(condition, settings)
    wanted = replace(
        PICTURES,
        num_train=settings.num_train,
        num_val=settings.num_val,
        image_size=(settings.image_size, settings.image_size),
        camouflage=condition.camouflage,
        crowding=condition.crowding,
    )
    note, text = folder / "drawn.txt", f"{wanted}\n"
    if not note.is_file():
        write_synthetic(folder, wanted)
        content = json.loads((folder / "train.json").read_text(encoding="utf-8"))
        for annotation in content["annotations"]:
            del annotation["segmentation"]
        (folder / "boxes.json").write_text(json.dumps(content), encoding="utf-8")
        note.write_text(text, encoding="utf-8")
    elif note.read_text(encoding="utf-8") != text:
        raise UserError(
            "the pictures that are there were drawn with other settings",
            where=str(note),
            fix="name another folder with --out, or ask for the same sizes",
        )
    return folder


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


def _listed(run: ChallengeRun, settings: ChallengeSettings) -> ListedRun:
    data = _data_folder(run.condition, settings)
    at_end = settings.score == "end"
    options: dict[str, Any] = {
        "method": run.variant.method,
        "seed": run.seed,
        "epochs": settings.epochs,
        "image_size": settings.image_size,
    }
    if run.variant.settings:
        options["settings"] = run.variant.settings
    return ListedRun(
        folder=settings.out / "runs" / f"{run.condition.name}-{run.variant.name}-{run.seed}",
        data=data / "boxes.json" if at_end else data,
        options=options,
        scored_on=data if at_end else None,
        keep_checkpoint=False,
    )


def _data_folder(condition: Condition, settings: ChallengeSettings) -> Path:
    return settings.out / "data" / condition.name


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


def _say_nothing(line: str) -> None:
    """Takes the lines of the runs."""
