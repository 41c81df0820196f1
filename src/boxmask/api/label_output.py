"""What labelling writes and says."""

from collections.abc import Sequence
from pathlib import Path

from boxmask.data.coco_writer import write_coco
from boxmask.data.folder_checks import first_names
from boxmask.data.labels import WriteReport
from boxmask.data.output_files import write_whole
from boxmask.data.records import DataFolder
from boxmask.data.voc_writer import write_voc
from boxmask.data.yolo_writer import write_yolo
from boxmask.labeler.finished import FinishedPictures
from boxmask.labeler.label_dataset import LabelProgress
from boxmask.labeler.report import LOOSE, LabelReport
from boxmask.recipes.saved_model import SavedModel

SHOWN_UNREADABLE = 5


def introduction(
    folder: DataFolder, splits: Sequence[str], saved: SavedModel, image_size: int, out: Path
) -> list[str]:
    """What will be done, line by line."""
    chosen = [folder.splits[name] for name in splits]
    sizes = " / ".join(f"{len(split.records)} {split.name}" for split in chosen)
    boxes = sum(split.num_instances for split in chosen)
    lines = [
        f"data   {folder.root}  {folder.format.upper()}  {sizes} pictures, {boxes} boxes",
        f"model  {saved.file}  short side {image_size} px, trained at {saved.image_size}",
        f"out    {out}",
    ]
    unknown = [name for name in folder.class_names if name not in saved.class_names]
    if unknown:
        lines.append(f"! the model never saw: {first_names(unknown)}; masks may be poor for them")
    if folder.errors:
        lines.append(f"left out for errors: {len(folder.errors)} (annotations and pictures)")
    return lines


def write_formats(
    out: Path,
    folder: DataFolder,
    splits: Sequence[str],
    finished: FinishedPictures,
    formats: Sequence[str],
) -> list[str]:
    """Writes every format; a line on each."""
    lines = []
    for name in formats:
        reports = [_write(name, out, folder, split, finished) for split in splits]
        ious = [iou for report in reports for iou in report.ious]
        kept = WriteReport(ious=ious)
        loss = "nothing lost"
        if kept.min_iou < 1:
            loss = f"IoU with the masks {kept.mean_iou:.4f} on average, {kept.min_iou:.3f} at worst"
        crowds = sum(report.num_crowds_left_out for report in reports)
        if crowds:
            loss += f"; crowds left out: {crowds} (the format cannot mark them)"
        lines.append(f"{name:<6} {_FILES[name].format(out=out)}  {loss}")
    return lines


_FILES = {
    "coco": "{out}/*.json",
    "yolo": "{out}/data.yaml, labels/, images/",
    "voc": "{out}/Annotations/, SegmentationObject/, SegmentationClass/",
}


def _write(
    name: str, out: Path, folder: DataFolder, split_name: str, finished: FinishedPictures
) -> WriteReport:
    split = folder.splits[split_name]
    labelled = finished.labelled(split)
    if name == "coco":
        return write_coco(out / f"{split_name}.json", split, folder, labelled)
    if name == "yolo":
        return write_yolo(out, split, folder, labelled)
    return write_voc(out, split, folder, labelled)


def write_left_out(file: Path, folder: DataFolder, unreadable: Sequence[str]) -> list[str]:
    """Writes a line on all that no format holds; says where, or nothing if it is nothing.

    Args:
        file: the text file; none is written without need.
        folder: the data set with its errors.
        unreadable: why pictures were left out while labelling.
    """
    lines = [*map(str, folder.errors), *unreadable]
    if not lines:
        return []
    write_whole(file, lambda stream: stream.writelines(f"{line}\n" for line in lines))
    return [f"! left out of the results: {len(lines)} (annotations and pictures), listed in {file}"]


def summary(report: LabelReport, progress: LabelProgress, review: Path, table: Path) -> list[str]:
    """What was done, line by line."""
    lines = [
        f"{report.num_pictures}/{progress.total} pictures  {report.num_masks} masks, "
        "one for each box",
        f"box IoU of masks: median {report.median_tightness:.2f}, {report.num_loose} below "
        f"{LOOSE}     {progress.rate:.1f} images/s",
    ]
    if report.num_noted:
        lines.insert(
            1,
            f"! {report.num_noted} of {report.num_masks} masks are guesses, because the model "
            f"found nothing (column note of {table.name})",
        )
    if progress.unreadable:
        lines.append(f"! left out: {len(progress.unreadable)} unreadable pictures, such as")
        lines += [f"  {reason}" for reason in progress.unreadable[:SHOWN_UNREADABLE]]
    lines.append(f"look at {review / 'doubtful_0.jpg'} first, then {table}")
    return lines
