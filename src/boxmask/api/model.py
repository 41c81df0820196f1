"""A model in Python: train it, ask it for objects, ask it for the masks of boxes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from boxmask.api.finder import Finder
from boxmask.api.options import Method
from boxmask.api.sources import find_source
from boxmask.data.masks import decode_segmentation
from boxmask.data.pictures import image_pixels, read_picture
from boxmask.detectors.object_masks import object_mask, uncut_masks
from boxmask.errors import UserError
from boxmask.evaluation.coco_ap import FoundObjects
from boxmask.recipes.models import is_model_name
from boxmask.recipes.saved_model import load_model
from boxmask.structures import Targets

if TYPE_CHECKING:
    import supervision as sv

    from boxmask.api.train import TrainedRun

Given = str | PathLike[str] | Image.Image | NDArray[np.uint8]
"""A picture: its path, a PIL image, or an (H, W, 3) uint8 RGB array (OpenCV gives BGR: turn it).

A PIL image is turned as its EXIF entry says, as a file is: results are of the turned picture."""


class BoxMask:
    """A model that finds objects with masks, and the masks of given boxes.

    Args:
        run_or_weights: a run folder or its weights; or the name of a model to train, such as
            "condinst-lite0".
        device: where it runs: "auto", "cpu", "cuda", ...
        method: how it learns, for a model to train: "sim", "boxinst" or "full".

    Raises:
        UserError: If there is no such run, or the device cannot be used.
    """

    def __init__(
        self,
        run_or_weights: str | PathLike[str],
        device: str = "auto",
        *,
        method: Method = "sim",
    ) -> None:
        self.device = device
        self.method: Method = method
        self._name = str(run_or_weights)
        self._finder: Finder | None = None
        if Path(run_or_weights).exists() or not is_model_name(self._name):
            self._finder = Finder(load_model(Path(run_or_weights)), device)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of `class_id`."""
        return self._trained().saved.class_names

    def train(self, data: str | PathLike[str], **options: Any) -> TrainedRun:
        """Trains from boxes, and then is the trained model.

        Args:
            data: a folder in COCO, VOC or YOLO form, or one COCO file.
            **options: see `TrainOptions`.

        Raises:
            UserError: If this model is trained already, or data or an option cannot be used.
        """
        from boxmask.api.train import train

        if self._finder is not None:
            raise UserError(
                "this model is trained already",
                where=self._name,
                fix='start from a model name: BoxMask("condinst-lite0").train(...)',
            )
        chosen: dict[str, Any] = {"method": self.method, **options, "model": self._name}
        run = train(Path(data), **chosen)
        self._finder = Finder(load_model(run.best), self.device)
        return run

    @overload
    def predict(
        self, picture: Given, threshold: float = 0.3, *, refine: bool = True
    ) -> sv.Detections: ...
    @overload
    def predict(
        self, picture: Sequence[Given], threshold: float = 0.3, *, refine: bool = True
    ) -> list[sv.Detections]: ...

    def predict(
        self, picture: Given | Sequence[Given], threshold: float = 0.3, *, refine: bool = True
    ) -> sv.Detections | list[sv.Detections]:
        """Finds objects.

        Args:
            picture: one picture or several: paths, PIL images, or (H, W, 3) uint8 RGB arrays.
            threshold: least score, in 0..1.
            refine: draw borders of masks to borders of colours.

        Returns:
            For each picture: `xyxy` (N, 4) and `mask` (N, H, W) in its own pixels, `confidence`,
            `class_id` and `data["class_name"]`, best first.

        Raises:
            UserError: If a file cannot be read.
            TypeError: If it is nothing that can be a picture.
            ValueError: If an array is no RGB picture.
        """
        if isinstance(picture, Sequence) and not isinstance(picture, str | bytes):
            return [self._found(one, threshold, refine) for one in picture]
        return self._found(picture, threshold, refine)

    def predict_folder(
        self, folder: str | PathLike[str], threshold: float = 0.3, *, refine: bool = True
    ) -> Iterator[tuple[Path, sv.Detections]]:
        """Finds objects in all pictures of a folder, one after another.

        Args:
            folder: a folder, looked through with all its own folders, or a pattern such as
                "shots/*.jpg". Videos are left out.
            threshold: least score, in 0..1.
            refine: draw borders of masks to borders of colours.

        Yields:
            Path of each picture, sorted, and what `predict` gives for it.

        Raises:
            UserError: If there is no picture, or one cannot be read.
        """
        for path in find_source(os.fspath(folder)).pictures:
            yield path, self._found(path, threshold, refine)

    def masks_for(
        self, picture: Given, boxes: Any, labels: Any = None, *, refine: bool = True
    ) -> sv.Detections:
        """The mask of each given box: one a box, in order, inside its box, none empty.

        Args:
            picture: path, PIL image, or (H, W, 3) uint8 RGB array.
            boxes: (N, 4) x1, y1, x2, y2 in pixels of the picture.
            labels: (N,) class index of each box, given back as `class_id`. Where boxes of one
                class overlap, the surest mask owns a pixel, and some models (Mask R-CNN) have
                masks of their own for each class. None takes all boxes as the first class.
            refine: sharpen masks by the object's colours and those at its border.

        Returns:
            `xyxy` as given, `mask` (N, H, W), `confidence` (N,), and `class_id` if given.

        Raises:
            ValueError: If boxes have no size or lie outside the picture, lengths differ, or there
                is no class of such an index.
        """
        finder, pixels = self._trained(), as_picture(picture)
        size = (pixels.shape[0], pixels.shape[1])
        rows = _checked_boxes(boxes, size)
        classes = None if labels is None else np.asarray(labels, dtype=np.int64)
        if classes is not None and len(classes) != len(rows):
            raise ValueError(f"labels: got {len(classes)} for {len(rows)} boxes")
        known = np.zeros(len(rows), dtype=np.int64) if classes is None else classes
        if len(known) and not 0 <= known.min() <= known.max() < len(self.class_names):
            raise ValueError(f"labels: expected 0 to {len(self.class_names) - 1}, got {labels}")
        targets = Targets.from_boxes(torch.from_numpy(rows), torch.from_numpy(known))
        batch = finder.batch([pixels], [targets]).to(finder.device)
        masks = np.zeros((len(rows), *size), dtype=bool)
        confidences = np.zeros(len(rows), dtype=np.float32)
        with torch.no_grad():
            outputs = finder.detector(batch.images, batch.valid)
        for mask in uncut_masks(finder.detector, outputs, batch, [rows], [size], refine=refine):
            made = object_mask(mask)
            rle = {"size": [*size], "counts": made.counts}
            masks[mask.position] = decode_segmentation(rle, size)
            confidences[mask.position] = made.confidence
        return _detections(np.asarray(boxes, dtype=np.float32), masks, confidences, classes)

    def _found(self, picture: Given, threshold: float, refine: bool) -> sv.Detections:
        finder, pixels = self._trained(), as_picture(picture)
        size = (pixels.shape[0], pixels.shape[1])
        batch = finder.batch([pixels])
        found: FoundObjects = finder.find(batch, [size], threshold, refine=refine)[0]
        masks = np.zeros((len(found.boxes), *size), dtype=bool)
        for row, rle in enumerate(found.rles or ()):
            masks[row] = decode_segmentation(rle, size)
        result = _detections(found.boxes, masks, found.scores, found.labels)
        names = np.array(self.class_names)
        result.data["class_name"] = names[found.labels]
        return result

    def _trained(self) -> Finder:
        if self._finder is None:
            raise UserError(
                "this model is not trained yet",
                where=self._name,
                fix="call train() first, or name a run folder",
            )
        return self._finder


def as_picture(given: Given) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB pixels of a picture.

    Raises:
        UserError: If a file cannot be read.
        TypeError: If it is nothing that can be a picture.
        ValueError: If an array is no RGB picture.
    """
    if isinstance(given, str | PathLike):
        return read_picture(Path(given))
    if isinstance(given, Image.Image):
        return image_pixels(given)
    if not isinstance(given, np.ndarray):
        got = f"{type(given).__module__}.{type(given).__qualname__}".removeprefix("builtins.")
        raise TypeError(
            f"picture: expected a path, a PIL image or an (H, W, 3) uint8 RGB array, got {got}"
        )
    if given.dtype != np.uint8 or given.ndim != 3 or given.shape[2] != 3:
        got = f"{given.dtype} of shape {given.shape}"
        raise ValueError(f"picture: expected (H, W, 3) uint8 RGB, got {got}")
    return given


def _checked_boxes(boxes: Any, size: tuple[int, int]) -> NDArray[np.float32]:
    """The boxes cut to the picture."""
    rows = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    clipped = np.clip(rows, 0, np.array([size[1], size[0]] * 2, dtype=np.float32))
    good = np.isfinite(rows).all(axis=1) & (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    if not good.all():
        place = int(np.flatnonzero(~good)[0])
        raise ValueError(
            f"boxes: expected x1 < x2 and y1 < y2 inside the picture of {size[1]} x {size[0]}, "
            f"got {rows[place].tolist()} at {place}"
        )
    return clipped


def _detections(boxes: Any, masks: Any, confidences: Any, labels: Any) -> sv.Detections:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # import notices of no use to the caller
        import supervision as sv

    return sv.Detections(
        xyxy=np.asarray(boxes, dtype=np.float32).reshape(-1, 4),
        mask=masks,
        confidence=np.asarray(confidences, dtype=np.float32),
        class_id=None if labels is None else np.asarray(labels, dtype=np.int64),
    )
