"""Finished pictures on disk, so that an interrupted labelling goes on and memory stays small."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from boxmask.data.box_pixels import encode_in_box, pixels_of_box
from boxmask.data.labels import LabelledRecord
from boxmask.data.records import DataFolder, DataSplit, ImageRecord
from boxmask.detectors.object_masks import ObjectMask
from boxmask.errors import UserError

FOLDER = "unfinished"
"""Name of the folder that holds them until everything is written."""


class FinishedPictures:
    """The masks of finished pictures, one JSON line each, in a temporary folder.

    Args:
        out: the folder that is labelled into.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out / FOLDER
        self._file = self.folder / "pictures.jsonl"
        self._identity = self.folder / "made_from.json"
        self._offsets: dict[tuple[str, int], int] = {}

    def start(self, identity: Mapping[str, Any]) -> None:
        """Begins anew; `identity` says what the masks are made from."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._file.touch()
        self._identity.write_text(json.dumps(dict(identity)), encoding="utf-8")

    def resume(self, identity: Mapping[str, Any]) -> None:
        """Takes up what an interrupted labelling left behind.

        Raises:
            UserError: If there is nothing, or it was made from something else.
        """
        if not self._identity.is_file():
            raise UserError(
                "there is no interrupted labelling to go on with",
                where=str(self.folder.parent),
                fix="a finished one needs none: pass --overwrite instead to label anew",
            )
        known = json.loads(self._identity.read_text(encoding="utf-8"))
        changed = [name for name in identity if known.get(name) != identity[name]]
        if changed:
            raise UserError(
                f"cannot go on: {' and '.join(changed)} changed since the labelling began",
                where=str(self.folder.parent),
                fix="pass what it began with, or --overwrite to start anew",
            )
        self._read_offsets()

    def has(self, split: str, index: int) -> bool:
        """Whether the picture is finished."""
        return (split, index) in self._offsets

    def add(self, split: str, index: int, masks: Sequence[ObjectMask]) -> None:
        """Notes a picture as finished."""
        line = json.dumps({"split": split, "index": index, "masks": [asdict(m) for m in masks]})
        with self._file.open("ab") as stream:
            self._offsets[split, index] = stream.tell()
            stream.write(line.encode("utf-8") + b"\n")

    def masks(self, split: str, index: int) -> list[ObjectMask]:
        """The masks of a finished picture, in the order of its boxes, crowds left out."""
        with self._file.open("rb") as stream:
            stream.seek(self._offsets[split, index])
            content = json.loads(stream.readline())
        return [ObjectMask(**mask) for mask in content["masks"]]

    def labelled(self, split: DataSplit) -> Iterator[LabelledRecord]:
        """The finished pictures of a split, in its order, one at a time."""
        for index, record in enumerate(split.records):
            if self.has(split.name, index):
                yield labelled_record(record, self.masks(split.name, index))

    def remove(self) -> None:
        """Deletes the temporary folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read_offsets(self) -> None:
        """Finds the lines; one that was cut off by the interruption is dropped."""
        offset = 0
        with self._file.open("r+b") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                content = json.loads(line)
                self._offsets[content["split"], content["index"]] = offset
                offset += len(line)
            stream.truncate(offset)


def labelled_record(record: ImageRecord, masks: Sequence[ObjectMask]) -> LabelledRecord:
    """The picture with a mask for each object; a crowd's stands for its whole box."""
    rles, confidences = [], []
    given = iter(masks)
    for box, crowd in zip(record.boxes, record.crowd, strict=True):
        if crowd:
            place = pixels_of_box(box, record.image_size)
            whole = np.ones([side.stop - side.start for side in place], dtype=bool)
            rles.append(encode_in_box(whole, place, record.image_size))
            confidences.append(0.0)
        else:
            mask = next(given)
            rles.append({"size": [*record.image_size], "counts": mask.counts})
            confidences.append(mask.confidence)
    return LabelledRecord(record=record, masks=tuple(rles), confidences=tuple(confidences))


def data_fingerprint(folder: DataFolder, splits: Sequence[str]) -> str:
    """Changes when a picture, a box, a class or an id of the data set does."""
    digest = hashlib.sha256(json.dumps([folder.format, folder.class_names]).encode())
    for name in splits:
        for record in folder.splits[name].records:
            file = record.path.stat() if record.path.is_file() else None
            facts: list[Any] = [name, record.name, record.image_size, record.annotation_ids]
            facts.append((file.st_size, file.st_mtime_ns) if file else None)
            digest.update(json.dumps(facts).encode())
            for values in (record.boxes, record.labels, record.crowd):
                digest.update(values.tobytes())
    return digest.hexdigest()


def file_fingerprint(file: Path) -> str:
    """SHA-256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
