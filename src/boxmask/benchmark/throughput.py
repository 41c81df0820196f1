"""Pictures a second: reading them, finding objects, drawing, and masks for given boxes."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.utils.data import DataLoader

from boxmask.api.finder import Finder
from boxmask.api.predict import draw_found
from boxmask.api.workers import free_workers
from boxmask.benchmark.settings import FlowSettings
from boxmask.data.folder import read_data
from boxmask.data.loader import LoaderSettings, plain_loader, train_loader
from boxmask.data.outlines import CLASS_NAMES
from boxmask.data.pictures import read_picture
from boxmask.data.records import ImageRecord
from boxmask.data.synthetic import SyntheticSettings, write_synthetic
from boxmask.data.transforms import AugmentationSettings
from boxmask.detectors.condinst import CondInstSettings
from boxmask.labeler.picture_parts import masks_of_batch
from boxmask.recipes.models import build_recipe
from boxmask.recipes.saved_model import SavedModel
from boxmask.structures import Batch

LABEL_BATCH = TRAIN_BATCH = 4

Rate = tuple[str, int, float]  # what is done, pictures of a batch, pictures a second


@dataclass(frozen=True, kw_only=True)
class Flow:
    """One kind of work.

    Attributes:
        name: what is done.
        model: see `FlowSettings`.
        size: of the pictures.
        batch: pictures that are looked at together.
        images_per_second: its rate.
    """

    name: str
    model: str
    size: tuple[int, int]
    batch: int
    images_per_second: float


def measure_flows(settings: FlowSettings, device: torch.device) -> list[Flow]:
    """Draws pictures to a folder of their own and works on them.

    Args:
        settings: how many, how large.
        device: of the model.
    """
    with TemporaryDirectory() as name:
        write_synthetic(
            Path(name),
            SyntheticSettings(
                num_train=settings.num_images,
                num_val=0,
                image_size=settings.size,
                num_shapes=(settings.num_objects, settings.num_objects),
                radius=(0.08, 0.2),
            ),
        )
        records = read_data(Path(name)).splits["train"].records
        saved = _drawn_model(settings)
        rates = [_loading(records, settings)]
        for batch_size in settings.batches:
            rates += _finding(Finder(saved, device.type), records, batch_size)
        rates.append(_labelling(Finder(saved, device.type), records))
    return [
        Flow(
            name=name, model=settings.model, size=settings.size, batch=batch, images_per_second=rate
        )
        for name, batch, rate in rates
    ]


def _loading(records: Sequence[ImageRecord], settings: FlowSettings) -> Rate:
    """Training batches, augmented, as training reads them."""
    workers = free_workers(None)
    loader = train_loader(
        records,
        AugmentationSettings(image_size=min(settings.size)),
        LoaderSettings(batch_size=TRAIN_BATCH, num_workers=workers),
        epoch=lambda: 0,
    )
    _count(loader)  # processes start, files come into the system's memory
    start = time.perf_counter()
    number = _count(loader)
    rate = number / (time.perf_counter() - start)
    return f"reading for training, {workers or 'no'} workers", TRAIN_BATCH, rate


def _count(batches: Iterable[Batch]) -> int:
    return sum(len(batch) for batch in batches)


def _drawn_model(settings: FlowSettings) -> SavedModel:
    """A model with drawn weights that finds a fixed number of objects, however unsure it is."""
    torch.manual_seed(0)
    detector = build_recipe(settings.model, "boxinst", len(CLASS_NAMES), pretrained=False).detector
    assert isinstance(detector, CondInstSettings)
    fcos = replace(detector.fcos, score_threshold=0.0, max_detections=settings.num_objects)
    return SavedModel(
        detector=replace(detector, fcos=fcos).build().eval(),
        class_names=CLASS_NAMES,
        category_ids=tuple(range(len(CLASS_NAMES))),
        image_size=min(settings.size),
        file=Path("drawn"),
    )


def _finding(finder: Finder, records: Sequence[ImageRecord], batch_size: int) -> list[Rate]:
    """The model, what turns its outputs into masks of picture size, and drawing, apart."""
    batches = list(_plain(finder, records, batch_size))
    finder.find(batches[0], [records[index].image_size for index in batches[0].indices], 0.0)
    finder.clock.seconds.clear()  # that was to warm up
    for batch in batches:
        chosen = [records[index] for index in batch.indices]
        found = finder.find(batch, [record.image_size for record in chosen], 0.0)
        pictures = [read_picture(record.path) for record in chosen]
        with finder.clock.time("drawing"):
            for picture, objects in zip(pictures, found, strict=True):
                draw_found(picture, objects, finder.saved.class_names)
    clocked = finder.clock.seconds
    return [(name, batch_size, len(records) / seconds) for name, seconds in clocked.items()]


def _labelling(finder: Finder, records: Sequence[ImageRecord]) -> Rate:
    """One mask for each given box, packed; without reading and writing."""
    batches = [batch.to(finder.device) for batch in _plain(finder, records, LABEL_BATCH)]
    masks_of_batch(finder.detector, batches[0], records)
    start = time.perf_counter()
    for batch in batches:
        masks_of_batch(finder.detector, batch, records)
    return "masks for given boxes", LABEL_BATCH, len(records) / (time.perf_counter() - start)


def _plain(finder: Finder, records: Sequence[ImageRecord], batch_size: int) -> DataLoader:
    return plain_loader(records, finder.image_size, LoaderSettings(batch_size=batch_size))
