"""Scores a trained model on a split."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from boxmask.api.device import pick_device
from boxmask.api.options import ValOptions, options_from
from boxmask.api.workers import free_workers
from boxmask.data.classes import class_places
from boxmask.data.folder import read_data, require_usable
from boxmask.data.folder_checks import first_names
from boxmask.data.masks import has_mask
from boxmask.data.records import DataFolder, ImageRecord
from boxmask.engine.run_folder import RunFolder
from boxmask.errors import UserError
from boxmask.evaluation.mask_quality import collapse_warning
from boxmask.evaluation.scorer import SplitScoring
from boxmask.recipes.saved_model import SavedModel, load_model
from boxmask.remarks import remarks

Say = Callable[[str], None]

SHOWN_CLASSES = 30


def val(
    run: Path | str,
    data: Path | str | None = None,
    split: str = "val",
    *,
    say: Say = print,
    **options: Any,
) -> dict[str, float]:
    """Scores boxes, masks, and the masks that the model gives to the true boxes.

    Args:
        run: a run folder or its weights.
        data: a data set with classes of the training data, in any order; None for the
            training data itself.
        split: which part of it.
        say: takes each line of progress.
        **options: see `ValOptions`.

    Returns:
        The numbers by name, in 0..1; also written to `metrics.json`. Not a number where there was
        nothing to measure on.

    Raises:
        UserError: If run, data or an option cannot be used, or the data has a class
            that the model does not know.
    """
    chosen = options_from(ValOptions, options)
    saved = load_model(run)
    folder = training_data(Path(run)) if data is None else read_data(data)
    require_usable(folder, skip_bad=chosen.skip_bad)
    records = _split_records(folder, split, saved)
    metrics, messages = _score(saved, records, chosen)
    out = chosen.out or Path("runs", "val", f"{_run_name(Path(run))}-{split}")
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(without_nan(metrics), indent=2)
    (out / "metrics.json").write_text(text + "\n", encoding="utf-8")
    say(f"{folder.root}  {split}  {len(records)} pictures  {saved.file}")
    absent = [name for name in saved.class_names if name not in folder.class_names]
    if absent:
        messages.append(f"! the data lacks classes of the model: {first_names(absent)}")
    lines = score_table(metrics, saved.class_names, mask_words(records, metrics))
    for line in [*lines, *messages]:
        say(line)
    say(f"written to {out / 'metrics.json'}")
    return metrics


def _score(
    saved: SavedModel, records: Sequence[ImageRecord], options: ValOptions
) -> tuple[dict[str, float], list[str]]:
    """The numbers, and why some of them are missing."""
    scoring = SplitScoring(
        records=records,
        class_names=saved.class_names,
        image_size=options.image_size or saved.image_size,
        batch_size=options.batch,
        num_workers=free_workers(options.workers),
        refine=options.refine,
    )
    device = pick_device(options.device)
    with remarks() as messages:
        metrics = scoring(saved.detector.to(device).eval(), device)
    return metrics, [f"! {message}" for message in messages]


def training_data(run: Path) -> DataFolder:
    """The data set that a run was trained on, with the same pictures put aside, see `args.yaml`.

    Raises:
        UserError: If that is not known.
    """
    folder = run if run.is_dir() else run.parent.parent
    arguments = RunFolder(root=folder).read_arguments()
    if arguments is None:
        raise UserError(
            "it is not known which data this model was trained on",
            where=str(RunFolder(root=folder).arguments),
            fix="pass --data",
        )
    return read_data(arguments["data"], arguments.get("val_fraction", 0.0))


def without_nan(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """The numbers for JSON; those that are not defined become None."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def mask_words(records: Sequence[ImageRecord], metrics: Mapping[str, float]) -> str:
    """How many objects have true masks, where not all have; empty where all have."""
    known = [
        has_mask(segmentation)
        for record in records
        for segmentation, crowd in zip(record.segmentations, record.crowd, strict=True)
        if not crowd
    ]
    if not any(known):
        return "no masks in the data: mask quality is estimated from the boxes"
    if all(known):
        return ""
    words = f"{sum(known)} of {len(known)} objects have masks: label IoU is that of these"
    no_ap = "; there is no mask AP, as no picture has a mask for each object"
    return words + ("" if "mask_ap" in metrics else no_ap)


def score_table(
    metrics: Mapping[str, float], class_names: Sequence[str], mask_words: str = ""
) -> list[str]:
    """The numbers as lines for a person; `mask_words` say which true masks there are."""
    columns = {"AP": "", "AP50": "50", "AP75": "75"}
    columns |= {f"AP {size}": f"_{size}" for size in ("small", "medium", "large")}
    lines = ["      " + "".join(f"{title:>11}" for title in columns)]
    for kind in ("box", "mask"):
        if f"{kind}_ap" in metrics:
            cells = (_cell(metrics.get(f"{kind}_ap{end}")) for end in columns.values())
            lines.append(f"{kind:<6}" + "".join(f"{cell:>11}" for cell in cells))
    if mask_words:
        lines.append(mask_words)
    words = {"label_iou": "label IoU", "box_tightness": "box tightness", "fill": "fill"}
    lines.append(
        "masks of the given boxes:  "
        + "  ".join(f"{title} {_cell(metrics[n])}" for n, title in words.items() if n in metrics)
    )
    warning = collapse_warning(metrics)
    return [*lines, *([f"! {warning}"] if warning else []), *_class_lines(metrics, class_names)]


def _class_lines(metrics: Mapping[str, float], class_names: Sequence[str]) -> list[str]:
    titles = {"box_ap": "box AP", "mask_ap": "mask AP", "label_iou": "label IoU"}
    titles = {key: title for key, title in titles.items() if key in metrics}
    width = min(max(map(len, class_names)), 30) + 2
    lines = [" " * width + "".join(f"{title:>11}" for title in titles.values())]
    for name in class_names[:SHOWN_CLASSES]:
        cells = "".join(f"{_cell(metrics.get(f'{key}/{name}')):>11}" for key in titles)
        lines.append(f"{name[: width - 2]:<{width}}{cells}")
    if len(class_names) > SHOWN_CLASSES:
        lines.append(f"... and {len(class_names) - SHOWN_CLASSES} more classes")
    return lines


def _cell(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _split_records(folder: DataFolder, split: str, saved: SavedModel) -> list[ImageRecord]:
    """The records of a split with the model's labels."""
    if split not in folder.splits:
        raise UserError(
            f"there is no split {split!r}",
            where=str(folder.root),
            fix=f"choose one of: {', '.join(folder.splits)}",
        )
    records = folder.splits[split].records
    if not records:
        raise UserError("no picture of the split can be used", where=str(folder.root))
    unknown = [name for name in folder.class_names if name not in saved.class_names]
    missing = [name for name in saved.class_names if name not in folder.class_names]
    if unknown:
        parts = [
            f"{words}: {first_names(names)}"
            for words, names in (("only in the data", unknown), ("only in the model", missing))
            if names
        ]
        raise UserError(
            "data and model have different classes",
            where="; ".join(parts),
            fix="name data with the classes that the model was trained on",
        )
    places = class_places(folder.class_names, saved.class_names)
    return [replace(record, labels=places[record.labels]) for record in records]


def _run_name(run: Path) -> str:
    run = run.resolve()
    if run.is_dir():
        return run.name
    return run.parent.parent.name if run.parent.name == "weights" else run.stem
