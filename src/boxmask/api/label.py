"""Turns a boxed data set into a masked one."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from boxmask.api.busy_cores import busy_cores_warning
from boxmask.api.device import pick_device
from boxmask.api.label_output import (
    SHOWN_UNREADABLE,
    introduction,
    summary,
    write_formats,
    write_left_out,
)
from boxmask.api.options import LabelOptions, options_from
from boxmask.api.workers import free_workers
from boxmask.data.classes import class_places
from boxmask.data.folder import read_data, require_usable
from boxmask.data.output_files import check_not_source
from boxmask.data.records import DataFolder
from boxmask.detectors.detector import Detector
from boxmask.errors import UserError
from boxmask.labeler.finished import (
    FOLDER,
    FinishedPictures,
    data_fingerprint,
    file_fingerprint,
)
from boxmask.labeler.label_dataset import LabelProgress, LabelSettings, label_split
from boxmask.labeler.report import write_report
from boxmask.labeler.review import NUM_SHEETS, PER_SHEET, write_doubtful_sheets
from boxmask.recipes.saved_model import SavedModel, load_model

Say = Callable[[str], None]

GROWTH = 1.25
"""Size of the pictures, relative to training. Masks have finer cells in larger ones; objects larger
than training showed are found less often there, but here their boxes are given."""

ARGUMENTS = "label.yaml"
"""Marks a folder as written by `label`."""

_REPORT, _REVIEW, _LEFT_OUT = "report.csv", "review", "left_out.txt"
_WRITTEN = (
    *(ARGUMENTS, _REPORT, _REVIEW, _LEFT_OUT, FOLDER, "data.yaml", "class_names.txt"),
    *("train.json", "val.json", "test.json", "images", "labels", "boxes"),
    *("Annotations", "SegmentationObject", "SegmentationClass", "JPEGImages", "ImageSets"),
)


@dataclass(frozen=True, kw_only=True)
class LabelledData:
    """What labelling gives back.

    Attributes:
        dir: the folder that was written.
        report: its report.csv, a row for each mask.
        num_pictures: labelled pictures.
        num_masks: masks, one for each box.
        median_tightness: median box IoU of the masks, in 0..1.
        num_loose: masks whose box IoU is below 0.7.
        num_noted: masks that the model did not give by itself; their rows have a note.
        images_per_second: pictures a second through the model.
    """

    dir: Path
    report: Path
    num_pictures: int
    num_masks: int
    median_tightness: float
    num_loose: int
    num_noted: int
    images_per_second: float


def label(
    data: Path | str, weights: Path | str, *, say: Say = print, **options: Any
) -> LabelledData:
    """Gives each box of a data set exactly one mask, with a confidence.

    Boxes, classes, ids and their order stay as they are, and every mask lies in its box. Crowd
    annotations are left as they are. Masks that the data has are not read.

    Args:
        data: a folder in COCO, VOC or YOLO form, or one COCO file.
        weights: a run folder or its weights.
        say: takes each line of progress.
        **options: see `LabelOptions`.

    Raises:
        UserError: If data, weights or an option cannot be used, or a picture cannot be read.
    """
    chosen = options_from(LabelOptions, options)
    saved = load_model(weights)
    folder = read_data(data)
    require_usable(folder, skip_bad=chosen.skip_bad)
    splits = _chosen_splits(folder, chosen.split)
    out = chosen.out or default_out(data)
    _check_out(out, folder, splits)
    device = pick_device(chosen.device)
    settings = _settings(folder, saved, chosen, device)
    finished = _open_folder(out, folder, splits, saved.file, settings, chosen)
    _write_arguments(out, data, weights, chosen)
    start = introduction(folder, splits, saved, settings.image_size, out)
    for line in [*start, *busy_cores_warning(device)]:
        say(line)
    detector = saved.detector.to(device).eval()
    progress = _label_splits(detector, folder, splits, finished, settings, say)
    _require_readable(progress, chosen)
    for line in write_formats(out, folder, splits, finished, chosen.format):
        say(line)
    return _finish(out, folder, splits, finished, progress, say)


def _settings(
    folder: DataFolder, saved: SavedModel, options: LabelOptions, device: torch.device
) -> LabelSettings:
    num_workers = free_workers(options.workers)
    return LabelSettings(
        image_size=options.image_size or round(saved.image_size * GROWTH),
        batch=options.batch,
        num_workers=num_workers,
        refine=options.refine,
        # On a CPU the model itself keeps all cores busy.
        num_cutters=num_workers if device.type != "cpu" else 0,
        classes=tuple(class_places(folder.class_names, saved.class_names).tolist()),
    )


def default_out(data: Path | str) -> Path:
    """The folder that is written when the user names none."""
    return Path(f"{Path(data).resolve().stem}-masks")


def _chosen_splits(folder: DataFolder, split: str) -> list[str]:
    names = [*folder.splits] if split == "all" else [split]
    if any(name not in folder.splits for name in names):
        raise UserError(
            f"there is no split {split!r}",
            where=str(folder.root),
            fix=f"choose one of: all, {', '.join(folder.splits)}",
        )
    if not any(folder.splits[name].num_instances for name in names):
        raise UserError("there is no box to make a mask for", where=str(folder.root))
    return names


def _check_out(out: Path, folder: DataFolder, splits: Sequence[str]) -> None:
    """Nothing may be written over what is read; said before hours of work, not after."""
    root = folder.root if folder.root.is_dir() else folder.root.parent
    check_not_source(out, root)
    for name in splits:
        check_not_source(out / f"{name}.json", folder.splits[name].source)
    if root.resolve().is_relative_to(out.resolve()):
        raise UserError(
            "the data set lies inside the folder to write into",
            where=str(out),
            fix="name another --out",
        )


def _open_folder(
    out: Path,
    folder: DataFolder,
    splits: Sequence[str],
    weights: Path,
    settings: LabelSettings,
    options: LabelOptions,
) -> FinishedPictures:
    """The folder, new or taken up where it was left."""
    finished = FinishedPictures(out)
    identity = {
        "DATA": data_fingerprint(folder, splits),
        "--weights": file_fingerprint(weights),
        "--split": [*splits],
        "--batch": settings.batch,
        "--image-size": settings.image_size,
        "--refine": settings.refine,
    }
    if options.resume:
        finished.resume(identity)
        return finished
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        _clear(out, options)
    out.mkdir(parents=True, exist_ok=True)
    finished.start(identity)
    return finished


def _clear(out: Path, options: LabelOptions) -> None:
    """Removes an earlier labelling, and nothing else.

    Raises:
        UserError: If the user did not ask for it, or the folder is no labelling.
    """
    if not options.overwrite:
        begun = (out / FOLDER).is_dir()
        raise UserError(
            "a labelling was begun in this folder" if begun else "the folder is not empty",
            where=str(out),
            fix="pass --resume to go on, or --overwrite to start anew"
            if begun
            else "pass --overwrite to replace an earlier labelling, or another --out",
        )
    if not (out / ARGUMENTS).is_file():
        raise UserError(
            "the folder was not written by `boxmask label`, so it is left alone",
            where=str(out),
            fix="name another --out",
        )
    for name in _WRITTEN:
        path = out / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _write_arguments(
    out: Path, data: Path | str, weights: Path | str, options: LabelOptions
) -> None:
    arguments = {
        "data": str(data),
        "weights": str(weights),
        "format": [*options.format],
        "split": options.split,
        "image_size": options.image_size,
        "batch": options.batch,
        "refine": options.refine,
        "skip_bad": options.skip_bad,
    }
    text = yaml.safe_dump(arguments, sort_keys=False, allow_unicode=True)
    (out / ARGUMENTS).write_text(text, encoding="utf-8")


def _label_splits(
    detector: Detector,
    folder: DataFolder,
    splits: Sequence[str],
    finished: FinishedPictures,
    settings: LabelSettings,
    say: Say,
) -> LabelProgress:
    total = sum(len(folder.splits[name].records) for name in splits)
    progress = LabelProgress(total=total, tell=say)
    for name in splits:
        label_split(detector, folder.splits[name], finished, settings, progress)
    return progress


def _require_readable(progress: LabelProgress, options: LabelOptions) -> None:
    if not progress.unreadable or options.skip_bad:
        return
    lines = progress.unreadable[:SHOWN_UNREADABLE]
    if len(progress.unreadable) > SHOWN_UNREADABLE:
        lines.append(f"... and {len(progress.unreadable) - SHOWN_UNREADABLE} more")
    raise UserError(
        f"{len(progress.unreadable)} of {progress.total} pictures cannot be read; "
        "the others are done",
        where="\n".join(lines),
        fix="replace them and pass --resume, or pass --resume --skip-bad to leave them out",
    )


def _finish(
    out: Path,
    folder: DataFolder,
    splits: Sequence[str],
    finished: FinishedPictures,
    progress: LabelProgress,
    say: Say,
) -> LabelledData:
    """Report, sheets of doubtful masks, summary."""
    report = write_report(
        out / _REPORT, folder, splits, finished, num_doubts=PER_SHEET * NUM_SHEETS
    )
    write_doubtful_sheets(out / _REVIEW, folder, finished, report.doubts)
    left_out = write_left_out(out / _LEFT_OUT, folder, progress.unreadable)
    for line in [*left_out, *summary(report, progress, out / _REVIEW, out / _REPORT)]:
        say(line)
    finished.remove()
    return LabelledData(
        dir=out,
        report=out / _REPORT,
        num_pictures=report.num_pictures,
        num_masks=report.num_masks,
        median_tightness=report.median_tightness,
        num_loose=report.num_loose,
        num_noted=report.num_noted,
        images_per_second=progress.rate,
    )
