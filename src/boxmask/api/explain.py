"""Shows how a run learned masks from boxes, on pictures of its data set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boxmask.api.device import pick_device
from boxmask.api.learned_run import LearnedRun, load_learned_run
from boxmask.api.options import ExplainOptions, options_from
from boxmask.api.picture_names import records_named
from boxmask.api.run_files import Say, free_folder
from boxmask.data.masks import decode_segmentation, has_mask
from boxmask.data.pictures import read_picture
from boxmask.data.records import ImageRecord
from boxmask.errors import UserError
from boxmask.evaluation.explained_picture import (
    LearnedPicture,
    class_prototypes,
    look_at_picture,
    object_stages,
    pasted_picture,
    pasted_variants,
    picture_batch,
)
from boxmask.labeler.picture_parts import masks_of_batch
from boxmask.visualization.contact_sheet import save_picture
from boxmask.visualization.correction_panels import state_shares
from boxmask.visualization.explain import (
    IMAGE_CELL,
    PASTED_CELL,
    masks_sheet,
    pasted_sheet,
    prototypes_sheet,
    weights_sheet,
)
from boxmask.visualization.explained import Explained, ObjectStages
from boxmask.visualization.page import short_name

SHEETS = ("masks.png", "weights.png", "prototypes.png", "pasted.png")
SHOWN_OBJECTS, WEIGHED_OBJECTS, SHOWN_SAMPLES, SHOWN_CLASSES, SHOWN_PASTES = 8, 3, 8, 4, 3


@dataclass(frozen=True, kw_only=True)
class ExplainedObject:
    """What the pseudo mask of one object teaches.

    Attributes:
        picture: name of its picture.
        number: its place among the picture's objects, from 1, crowds left out.
        class_name: its class.
        box: x1, y1, x2, y2 in pixels of the picture.
        foreground: share of the box, in 0..1, that is taught to be the object.
        background: share that is taught to be none.
        ignored: share that teaches nothing.
        taught: whether there is something to teach: its class has prototypes, and it has a sample.
    """

    picture: str
    number: int
    class_name: str
    box: tuple[float, float, float, float]
    foreground: float
    background: float
    ignored: float
    taught: bool


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What was drawn.

    Attributes:
        dir: the folder.
        files: the pictures in it.
        objects: all objects of the explained pictures.
    """

    dir: Path
    files: tuple[Path, ...]
    objects: tuple[ExplainedObject, ...]


def explain(
    run: Path | str,
    pictures: Path | str | Sequence[Path | str],
    *,
    say: Say = print,
    **options: Any,
) -> Explanation:
    """Draws how masks come about from boxes: stages, weights, prototypes, pasted objects.

    Everything is shown as the run's last checkpoint has it.

    Args:
        run: a folder of a run that was trained with method sim, finished or interrupted.
        pictures: of the run's data set: file name, stem or path; one or several.
        say: takes each line of progress.
        **options: see `ExplainOptions`.

    Raises:
        UserError: If run, a picture or an option cannot be used.
    """
    chosen = options_from(ExplainOptions, options)
    given = [pictures] if isinstance(pictures, Path | str) else [*pictures]
    if not given:
        raise UserError("there is no picture to explain", fix="boxmask explain RUN PICTURE")
    device = pick_device(chosen.device)
    learned = load_learned_run(Path(run)).to(device)
    records = records_named(learned.data, given)
    for record in records:
        _require_boxes(record)
    out = _out_folder(chosen, Path(run), records)
    files: list[Path] = []
    objects: list[ExplainedObject] = []
    for record, folder in zip(records, _folders(out, records), strict=True):
        drawing = _Drawing(learned, record, chosen.image_size)
        say(f"{record.name}  {len(drawing.objects)} objects")
        for line in drawing.summary():
            say(f"  {line}")
        for file in drawing.write(folder, say):
            say(str(file))
            files.append(file)
        objects += drawing.objects
    return Explanation(dir=out, files=tuple(files), objects=tuple(objects))


class _Drawing:
    """One picture with all that is drawn of it.

    Args:
        run: the run, on its device.
        record: the picture.
        image_size: short side in pixels; None for the run's.
    """

    def __init__(self, run: LearnedRun, record: ImageRecord, image_size: int | None) -> None:
        self.run = run
        self.record = record
        self.picture = read_picture(record.path)
        size = image_size or run.recipe.augmentation.image_size
        self.batch = picture_batch(self.picture, record, size)
        device = next(run.detector.parameters()).device
        self.learned = look_at_picture(run.detector, run.correction, self.batch.to(device))
        self.objects = list(_explained_objects(record, self.learned, run.data.class_names))

    def summary(self) -> Iterator[str]:
        """A line for each object."""
        for one in self.objects:
            box = ", ".join(f"{value:.0f}" for value in one.box)
            yield (
                f"{one.number} {one.class_name}  box {box}  foreground {one.foreground:.0%}  "
                f"background {one.background:.0%}  ignored {one.ignored:.0%}"
                + ("" if one.taught else "  (teaches nothing yet)")
            )

    def write(self, folder: Path, say: Say) -> Iterator[Path]:
        """Draws all sheets; says which ones there is nothing for."""
        for name in SHEETS:  # none stays from an earlier run
            (folder / name).unlink(missing_ok=True)
        stages = self._stages()
        left_out = len(stages) < len(self.objects)
        note = f"the {len(stages)} largest of {len(self.objects)} objects" if left_out else ""
        shown = self._shown(IMAGE_CELL)
        yield save_picture(folder / "masks.png", masks_sheet(shown, stages, note))
        weighed = _largest([one for one in stages if one.samples], WEIGHED_OBJECTS)
        if weighed:
            sheet = weights_sheet(shown, weighed, most=SHOWN_SAMPLES)
            yield save_picture(folder / "weights.png", sheet)
        else:
            say("no object has a positive sample: no weights.png")
        classes = class_prototypes(self.run.correction, self.learned, self.run.data.class_names)
        if classes:
            sheet = prototypes_sheet(shown, classes[:SHOWN_CLASSES])
            yield save_picture(folder / "prototypes.png", sheet)
        else:
            say("no class of this picture has prototypes yet: no prototypes.png")
        yield from self._pasted(folder, say)

    def _pasted(self, folder: Path, say: Say) -> Iterator[Path]:
        bank = self.run.correction.paste_bank
        variants = pasted_variants(bank, self.batch, SHOWN_PASTES) if bank is not None else []
        if bank is None or not variants:
            why = "the run pastes nothing" if bank is None else "no remembered object fits"
            say(f"{why}: no pasted.png")
            return
        names = self.run.data.class_names
        drawn = [pasted_picture(one, names) for one in (self.batch, *variants)]
        words = (
            f"The memory bank holds {sum(map(len, bank.pictures))} objects of the last "
            f"{len(bank)} pictures; training pastes once it has {bank.settings.capacity}."
        )
        sheet = pasted_sheet(self._shown(PASTED_CELL), drawn, words)
        yield save_picture(folder / "pasted.png", sheet)

    def _stages(self) -> list[ObjectStages]:
        """The largest objects, in their own order."""
        record, counted = self.record, np.flatnonzero(~self.record.crowd)
        made = masks_of_batch(self.run.detector, self.learned.batch, [record])[0]
        sides = record.boxes[counted][:, 2:] - record.boxes[counted][:, :2]
        kept = np.sort(np.argsort(-sides.prod(axis=1), kind="stable")[:SHOWN_OBJECTS])
        stages = []
        alone = self.learned.masks_of_neighbors(kept.tolist())
        for index, neighbors in zip(kept.tolist(), alone, strict=True):
            one = self.objects[index]
            rle = {"size": [*record.image_size], "counts": made[index].counts}
            stages.append(
                object_stages(
                    self.learned,
                    index,
                    f"{one.number}  {one.class_name}",
                    neighbors,
                    decode_segmentation(rle, record.image_size),
                    _true_mask(record, int(counted[index])),
                )
            )
        return stages

    def _shown(self, cell: tuple[int, int]) -> Explained:
        run, settings = self.run, self.run.correction.settings.pseudo
        height, width = self.batch.image_sizes[0]
        return Explained(
            name=short_name(self.record.name),
            model=f"{run.folder.resolve().name}, moving average after epoch {run.epoch} "
            f"(step {run.step}), input {width} x {height} px",
            picture=self.picture,
            whole=self.learned.view(cell),
            sharpness=settings.sharpness,
            temperature=settings.temperature,
            instance_share=settings.instance_share,
            low=settings.low,
        )


def _explained_objects(
    record: ImageRecord, learned: LearnedPicture, class_names: Sequence[str]
) -> Iterator[ExplainedObject]:
    counted = np.flatnonzero(~record.crowd)
    for index, position in enumerate(counted.tolist()):
        foreground, background, ignored = state_shares(learned.states[index])
        x1, y1, x2, y2 = record.boxes[position].tolist()
        yield ExplainedObject(
            picture=record.name,
            number=index + 1,
            class_name=class_names[int(record.labels[position])],
            box=(x1, y1, x2, y2),
            foreground=foreground,
            background=background,
            ignored=ignored,
            taught=bool(learned.steps.seen[index]) and foreground + background + ignored > 0,
        )


def _largest(stages: Sequence[ObjectStages], count: int) -> list[ObjectStages]:
    """The largest objects, in their own order."""
    areas = np.array([float((one.box[2:] - one.box[:2]).prod()) for one in stages])
    return [stages[index] for index in np.sort(np.argsort(-areas, kind="stable")[:count])]


def _true_mask(record: ImageRecord, position: int) -> NDArray[np.bool_] | None:
    segmentation = record.segmentations[position]
    return decode_segmentation(segmentation, record.image_size) if has_mask(segmentation) else None


def _require_boxes(record: ImageRecord) -> None:
    if record.crowd.all():
        raise UserError(
            "this picture has no boxes, so there is nothing to explain",
            where=record.name,
            fix="name a picture with boxes",
        )


def _out_folder(options: ExplainOptions, run: Path, records: Sequence[ImageRecord]) -> Path:
    if options.out is None:
        word = _stem(records[0]) if len(records) == 1 else f"{len(records)}-pictures"
        return free_folder(Path("runs", "explain"), run, word)
    out = options.out
    if out.exists() and not options.overwrite and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            "the folder is not empty", where=str(out), fix="pass --overwrite or another --out"
        )
    return out


def _folders(out: Path, records: Sequence[ImageRecord]) -> list[Path]:
    """Where each picture's sheets go: a folder of its own if there are several."""
    if len(records) == 1:
        return [out]
    stems = [_stem(record) for record in records]
    return [
        out / (stem if stems.count(stem) == 1 else record.name.replace("/", "-"))
        for stem, record in zip(stems, records, strict=True)
    ]


def _stem(record: ImageRecord) -> str:
    return PurePosixPath(record.name).stem
