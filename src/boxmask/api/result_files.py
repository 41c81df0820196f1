"""What `predict` writes: COCO results and the list of pictures, entry by entry."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from boxmask.evaluation.coco_ap import FoundObjects


class JsonList:
    """A JSON file of one list, written entry by entry; complete only once closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(path.name + ".part")
        self._stream: TextIO = self._part.open("w", encoding="utf-8")
        self._stream.write("[")
        self._first = True

    def add(self, entry: Mapping[str, Any]) -> None:
        """Appends an entry."""
        self._stream.write("\n" if self._first else ",\n")
        self._stream.write(json.dumps(entry))
        self._first = False

    def close(self) -> None:
        """Ends the list and puts the file in its place."""
        self._stream.write("\n]\n")
        self._stream.close()
        self._part.replace(self.path)


class ResultFiles:
    """`results.json` in COCO's results form, and `images.json`; a context manager.

    Args:
        out: the folder.
        category_ids: ids of the classes in the training data.
    """

    def __init__(self, out: Path, category_ids: Sequence[int]) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.category_ids = category_ids
        self._results = JsonList(out / "results.json")
        self._images = JsonList(out / "images.json")
        self.num_pictures = 0
        self.num_objects = 0

    def __enter__(self) -> ResultFiles:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._results.close()
        self._images.close()

    def add(
        self, name: str, image_size: tuple[int, int], found: FoundObjects, **facts: Any
    ) -> None:
        """Notes a picture, which gets the next id, and what was found in it.

        Args:
            name: file name of the picture or video.
            image_size: (height, width).
            found: objects with masks.
            **facts: more about the picture, such as the frame of a video.
        """
        self.num_pictures += 1
        height, width = image_size
        self._images.add(
            {"id": self.num_pictures, "file_name": name, "width": width, "height": height, **facts}
        )
        for box, score, label, rle in zip(
            found.boxes, found.scores, found.labels, found.rles or (), strict=True
        ):
            x1, y1, x2, y2 = (float(value) for value in box)
            self.num_objects += 1
            self._results.add(
                {
                    "image_id": self.num_pictures,
                    "category_id": self.category_ids[int(label)],
                    "bbox": [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)],
                    "score": round(float(score), 5),
                    "segmentation": {"size": [*rle["size"]], "counts": rle["counts"]},
                }
            )
