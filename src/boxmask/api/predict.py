"""Finds objects in pictures and videos, and draws them."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boxmask.api.finder import Finder
from boxmask.api.options import PredictOptions, options_from
from boxmask.api.result_files import ResultFiles
from boxmask.api.sources import Source, find_source
from boxmask.api.workers import free_workers
from boxmask.data.loader import LoaderSettings
from boxmask.data.masks import decode_segmentation
from boxmask.data.pictures import picture_sizes, read_picture
from boxmask.data.readable import readable_loader
from boxmask.data.reading import Picture, ProblemLog, RecordBuilder, relative_to
from boxmask.data.records import ImageRecord
from boxmask.errors import UserError
from boxmask.evaluation.coco_ap import FoundObjects
from boxmask.recipes.saved_model import load_model
from boxmask.structures import Batch
from boxmask.visualization.contact_sheet import save_picture
from boxmask.visualization.draw import DrawStyle, draw_masks

Say = Callable[[str], None]

DRAWN_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
"""Kinds of pictures that are drawn in their own format; others become .jpg."""

SHOWN_UNREADABLE = 20

_STYLE = DrawStyle(least_side=320)
"""Small pictures are enlarged, so that names do not cover objects. Frames keep their size."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What was found.

    Attributes:
        dir: folder of the drawings, results.json and images.json.
        num_pictures: pictures and frames that were searched.
        num_objects: objects found.
        unreadable: why pictures or videos were left out.
        images_per_second: of each kind of work: model, post-processing, drawing.
    """

    dir: Path
    num_pictures: int
    num_objects: int
    unreadable: tuple[str, ...]
    images_per_second: dict[str, float]


@dataclass(kw_only=True)
class _Work:
    """Everything that a search needs on its way."""

    finder: Finder
    options: PredictOptions
    out: Path
    source: Source
    files: ResultFiles
    say: Say
    unreadable: list[str] = field(default_factory=list)

    def find(self, batch: Batch, sizes: Sequence[tuple[int, int]]) -> list[FoundObjects]:
        """What is found in each picture, as the options say."""
        options = self.options
        return self.finder.find(batch, sizes, options.threshold, refine=options.refine)


def predict(
    run: Path | str, source: Path | str, *, say: Say = print, **options: Any
) -> Predictions:
    """Finds objects in a picture, a folder, a pattern of names, or a video.

    Writes drawings, `results.json` (COCO results; category ids are those of the training data,
    masks are RLE) and `images.json` (file name of each image id). Videos become `.mp4`.

    Args:
        run: a run folder or its weights.
        source: what to search.
        say: takes each line of progress.
        **options: see `PredictOptions`.

    Raises:
        UserError: If there is nothing to search, or run or an option cannot be used.
    """
    chosen = options_from(PredictOptions, options)
    files = find_source(source)
    finder = Finder(load_model(run), chosen.device, chosen.image_size)
    out = _out_folder(chosen, files)
    with ResultFiles(out, finder.saved.category_ids) as results:
        work = _Work(finder=finder, options=chosen, out=out, source=files, files=results, say=say)
        _search_pictures(work)
        for video in files.videos:
            _search_video(work, video)
    return _finish(work)


def _out_folder(options: PredictOptions, source: Source) -> Path:
    if options.out is None:
        numbers = itertools.count(1)
        folders = (Path("runs", "predict", f"{source.name}-{number}") for number in numbers)
        return next(folder for folder in folders if not folder.exists())
    out = options.out
    if out.exists() and not options.overwrite and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            "the folder is not empty", where=str(out), fix="pass --overwrite or another --out"
        )
    if options.pictures and out.resolve() == source.root.resolve():
        raise UserError(
            "drawings would replace the pictures", where=str(out), fix="name another --out"
        )
    return out


def _search_pictures(work: _Work) -> None:
    """All pictures, batch by batch; results in the order in which batches are read."""
    records = list(_records(work))
    settings = LoaderSettings(
        batch_size=work.options.batch,
        num_workers=free_workers(work.options.workers) if len(records) > 1 else 0,
    )
    for read in readable_loader(records, work.finder.image_size, settings):
        work.unreadable += [picture.reason for picture in read.unreadable]
        if read.batch is None:
            continue
        chosen = [records[index] for index in read.batch.indices]
        sizes = [record.image_size for record in chosen]
        for record, found in zip(chosen, work.find(read.batch, sizes), strict=True):
            work.files.add(record.name, record.image_size, found)
            if work.options.pictures:
                _draw_file(work, record, found)


def _records(work: _Work) -> Iterator[ImageRecord]:
    """The pictures as records without objects; unreadable ones are reported."""
    paths = work.source.pictures
    for path, size in zip(paths, picture_sizes(paths), strict=True):
        if isinstance(size, UserError):
            work.unreadable.append(f"{size.where}  {size.what}")
            continue
        name = relative_to(path, work.source.root)
        picture = Picture(path=path, name=name, image_size=size, image_id=0)
        yield RecordBuilder(picture, ProblemLog()).build()


def _draw_file(work: _Work, record: ImageRecord, found: FoundObjects) -> None:
    picture = read_picture(record.path)
    name = record.name if record.path.suffix.lower() in DRAWN_SUFFIXES else f"{record.name}.jpg"
    with work.finder.clock.time("drawing"):
        drawn = draw_found(picture, found, work.finder.saved.class_names, _STYLE)
        save_picture(work.out / name, drawn)


def draw_found(
    picture: NDArray[np.uint8],
    found: FoundObjects,
    class_names: Sequence[str],
    style: DrawStyle | None = None,
) -> NDArray[np.uint8]:
    """The (H, W, 3) picture with masks, boxes, names and scores; masks are decoded on the way."""
    size = (picture.shape[0], picture.shape[1])
    masks = (decode_segmentation(rle, size) for rle in found.rles or ())
    return draw_masks(
        picture, found.boxes, masks, found.labels, class_names, scores=found.scores, style=style
    )


def _search_video(work: _Work, path: Path) -> None:
    """One video, some frames at a time."""
    from boxmask.api.video import VideoWriter, frame_rate, read_frames

    name = relative_to(path, work.source.root)
    with ExitStack() as stack:
        try:
            rate = frame_rate(path)
            writer = None
            if work.options.pictures:
                drawn = work.out / Path(name).with_suffix(".mp4")
                writer = stack.enter_context(VideoWriter(drawn, rate))
            frames = enumerate(read_frames(path))
            while some := list(itertools.islice(frames, work.options.batch)):
                _search_frames(work, name, some, writer)
        except UserError as error:
            work.unreadable.append(f"{error.where}  {error.what}")


def _search_frames(
    work: _Work,
    name: str,
    frames: Sequence[tuple[int, NDArray[np.uint8]]],
    writer: Any,
) -> None:
    pictures = [picture for _, picture in frames]
    sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
    results = work.find(work.finder.batch(pictures), sizes)
    for (number, picture), size, found in zip(frames, sizes, results, strict=True):
        work.files.add(name, size, found, frame=number)
        if writer is not None:
            with work.finder.clock.time("drawing"):
                writer.write(draw_found(picture, found, work.finder.saved.class_names))


def _finish(work: _Work) -> Predictions:
    count = work.files.num_pictures
    rates = {
        kind: count / max(seconds, 1e-9) for kind, seconds in work.finder.clock.seconds.items()
    }
    say = work.say
    say(f"{count} pictures  {work.files.num_objects} objects  {work.out}")
    if count and not work.files.num_objects:
        say(f"nothing scores {work.options.threshold} or more: a lower --threshold shows more")
    if count:
        words = "  ".join(f"{kind} {rate:.1f}" for kind, rate in rates.items())
        say(f"images/s: {words}")
    if work.unreadable:
        say(f"! {len(work.unreadable)} files could not be read:")
        for reason in work.unreadable[:SHOWN_UNREADABLE]:
            say(f"  {reason}")
    return Predictions(
        dir=work.out,
        num_pictures=count,
        num_objects=work.files.num_objects,
        unreadable=tuple(work.unreadable),
        images_per_second=rates,
    )
