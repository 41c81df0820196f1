"""Which runs the challenges are made of, and their drawn data."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from boxmask.benchmark.run_list import ListedRun
from boxmask.benchmark.settings import ChallengeSettings
from boxmask.benchmark.variants import Variant
from boxmask.data.synthetic import SyntheticSettings, write_synthetic
from boxmask.errors import UserError

DIALS = ("camouflage", "crowding")
METHODS = ("boxinst", "sim")  # the other variants are ablations
# Several small shapes that touch only where the crowding says so.
PICTURES = SyntheticSettings(num_shapes=(3, 4), radius=(0.12, 0.2), overlap=False)


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
    folder = data_folder(condition, settings)
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


def listed_run(run: ChallengeRun, settings: ChallengeSettings) -> ListedRun:
    """How it is trained and scored."""
    data = data_folder(run.condition, settings)
    at_end = settings.score == "end"
    sizes = {"epochs": settings.epochs, "image_size": settings.image_size}
    return ListedRun(
        folder=settings.out / "runs" / f"{run.condition.name}-{run.variant.name}-{run.seed}",
        data=data / "boxes.json" if at_end else data,
        options={"seed": run.seed, **run.variant.options, **sizes},
        scored_on=data if at_end else None,
        keep_checkpoint=False,
    )


def data_folder(condition: Condition, settings: ChallengeSettings) -> Path:
    """Where its pictures are drawn."""
    return settings.out / "data" / condition.name
