"""Labels the pictures of a split batch by batch; what is finished is on disk at once."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from boxmask.data.loader import LoaderSettings
from boxmask.data.readable import batches_of, readable_loader
from boxmask.data.records import DataSplit, ImageRecord
from boxmask.detectors.detector import Detector
from boxmask.labeler.finished import FinishedPictures
from boxmask.labeler.ordered_pool import OrderedPool
from boxmask.labeler.picture_parts import (
    PicturePart,
    masks_of_part,
    parts_of_batch,
    whole_pictures,
)


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """How pictures go through the model.

    Attributes:
        image_size: short side in pixels that pictures are resized to.
        batch: pictures at a time.
        num_workers: processes that read pictures.
        num_cutters: processes that cut masks out of their boxes while the model goes on.
        refine: sharpen masks by the object's colours and those at its border.
        classes: the model's number of each class of the data, see `class_places`; None where both
            have the same classes.
    """

    image_size: int
    batch: int = 4
    num_workers: int = 0
    num_cutters: int = 0
    refine: bool = True
    classes: tuple[int, ...] | None = None

    @property
    def loader(self) -> LoaderSettings:
        """The same for the loader."""
        return LoaderSettings(batch_size=self.batch, num_workers=self.num_workers)


@dataclass(kw_only=True)
class LabelProgress:
    """How far a labelling is.

    Attributes:
        total: pictures to label, those finished earlier included.
        tell: takes a line about the progress.
        interval: seconds from one line to the next.
        num_done: pictures labelled now.
        num_before: pictures finished earlier.
        seconds: time that the labelled pictures took.
        unreadable: why pictures were left out.
    """

    total: int
    tell: Callable[[str], None]
    interval: float = 30.0
    num_done: int = 0
    num_before: int = 0
    seconds: float = 0.0
    unreadable: list[str] = field(default_factory=list)
    _told: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return self.num_done / max(self.seconds, 1e-9)

    def move(self, pictures: int, seconds: float) -> None:
        """Counts a batch; now and then tells how far it is."""
        self.num_done += pictures
        self.seconds += seconds
        if time.monotonic() - self._told >= self.interval:
            self._told = time.monotonic()
            done = self.num_before + self.num_done
            left = (self.total - done) / self.rate / 60
            self.tell(
                f"  {done}/{self.total} pictures  {self.rate:.1f} images/s  {left:.0f} min left"
            )


def label_split(
    detector: Detector,
    split: DataSplit,
    finished: FinishedPictures,
    settings: LabelSettings,
    progress: LabelProgress,
) -> None:
    """Gives every box of a split a mask.

    The batches are always those of the whole split, and one that is not complete is done again as
    a whole: an interrupted labelling ends in the same masks as an uninterrupted one.

    Args:
        detector: in evaluation mode, on its device.
        split: the pictures.
        finished: takes the masks; its pictures are left alone.
        settings: see `LabelSettings`.
        progress: is kept up to date.
    """
    chosen = _open_pictures(split, finished, settings)
    progress.num_before += sum(finished.has(split.name, i) for i in range(len(split.records)))
    records = [_of_model(split.records[index], settings) for index in chosen]
    clock = time.monotonic()
    with OrderedPool(settings.num_cutters) as pool:
        made = pool.map(masks_of_part, _parts(detector, records, settings, progress))
        for index, masks in whole_pictures(made):
            if not finished.has(split.name, chosen[index]):
                finished.add(split.name, chosen[index], masks)
                now = time.monotonic()
                progress.move(1, now - clock)
                clock = now


def _parts(
    detector: Detector,
    records: Sequence[ImageRecord],
    settings: LabelSettings,
    progress: LabelProgress,
) -> Iterator[PicturePart]:
    """What the model gives for all pictures that can be read."""
    device = next(detector.parameters()).device
    for read in readable_loader(records, settings.image_size, settings.loader):
        progress.unreadable += [picture.reason for picture in read.unreadable]
        if read.batch is not None:
            batch = read.batch.to(device)
            yield from parts_of_batch(detector, batch, records, refine=settings.refine)


def _of_model(record: ImageRecord, settings: LabelSettings) -> ImageRecord:
    """The picture with the model's numbers of its classes."""
    if settings.classes is None:
        return record
    return replace(record, labels=np.array(settings.classes, dtype=np.int64)[record.labels])


def _open_pictures(
    split: DataSplit, finished: FinishedPictures, settings: LabelSettings
) -> list[int]:
    """Positions of the pictures of all batches that are not complete, in the split's order."""
    batches = batches_of(split.records, settings.image_size, settings.loader)
    return sorted(
        index
        for batch in batches
        if not all(finished.has(split.name, other) for other in batch)
        for index in batch
    )
