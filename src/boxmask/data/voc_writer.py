"""Writes masks as a Pascal VOC folder: XML files and index pictures.

- `Annotations/NAME.xml`: a copy where the source is VOC, without the objects that reading left
  out; else a new file. Corners are 1-based and inclusive; boxes between pixels keep their
  decimals. `crowd` marks group boxes (`difficult` to other tools), and `source_id` keeps each
  object's id; `read_voc` reads both.
- `SegmentationObject/NAME.png`: pixel value k for the k-th object of the XML, VOC's colours.
  Where masks overlap, the pixels go to the smaller one. Over 254 objects: 16-bit grey.
- `SegmentationClass/NAME.png`: pixel value label + 1, crowds 255, VOC's colours.
  Over 254 classes: 16-bit grey, crowds 65535.
- `JPEGImages/NAME`: a symbolic link to the original (a copy where the system bars links).
- `ImageSets/Main/<split>.txt`, `ImageSets/Segmentation/<split>.txt`, `class_names.txt`.

A picture whose name, without its ending, is taken gets its ending twice (`a.png.png`).
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from boxmask.data.labels import LabelledRecord, WriteReport
from boxmask.data.masks import mask_area
from boxmask.data.output_files import FreeNames, check_not_source, link_picture, write_whole
from boxmask.data.records import DataFolder, DataSplit, ImageRecord

VOID = 255
"""Value of pixels in class pictures that belong to no single object (crowds)."""

DEEP_VOID = 65535
"""The same in 16-bit pictures."""

_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_voc(
    out: Path | str,
    split: DataSplit,
    folder: DataFolder,
    labelled: Iterable[LabelledRecord],
) -> WriteReport:
    """Writes one split as a VOC folder; call it once for each split.

    What is written is listed at the head of this file.

    Args:
        out: folder to write into.
        split: the split that is written.
        folder: the data set that it belongs to.
        labelled: its pictures with masks; each is written before the next is asked for.

    Returns:
        How much of each mask is left after the overlaps were given to the smaller ones.

    Raises:
        UserError: If `out` is the source itself, or another file is in the place of a picture.
    """
    out = Path(out)
    report = WriteReport()
    check_not_source(out, folder.root)
    names = FreeNames(_stems_of_other_splits(out, split.name))
    stems = []
    _write_list(out / "class_names.txt", folder.class_names)
    for item in labelled:
        name = names.take(item.record.name)
        stem = PurePosixPath(name).with_suffix("").as_posix()
        link_picture(item.record.path, out / "JPEGImages" / name)
        _write_xml(out / "Annotations" / f"{stem}.xml", item, folder)
        report.ious.extend(_write_index_pictures(out, stem, item, len(folder.class_names)))
        report.num_pictures += 1
        stems.append(stem)
    for kind in ("Main", "Segmentation"):
        _write_list(out / "ImageSets" / kind / f"{split.name}.txt", stems)
    return report


def voc_palette() -> list[int]:
    """VOC's 256 colours as flat red, green, blue values."""
    numbers = np.arange(256)
    colors = np.zeros((256, 3), dtype=np.int64)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= ((numbers >> (3 * bit + channel)) & 1) << (7 - bit)
    return colors.reshape(-1).tolist()


def _write_list(path: Path, lines: Iterable[str]) -> None:
    write_whole(path, lambda stream: stream.writelines(f"{line}\n" for line in lines))


def _write_index_pictures(
    out: Path, stem: str, item: LabelledRecord, num_classes: int
) -> list[float]:
    """Paints both index pictures; the share of each object's mask that is left."""
    record = item.record
    areas = [mask_area(mask) for mask in item.masks]
    numbers = range(1, len(record) + 1)
    void = VOID if num_classes < VOID else DEEP_VOID
    objects = np.zeros(record.image_size, dtype=np.uint16)  # (H, W)
    classes = np.zeros(record.image_size, dtype=np.uint16)  # (H, W)
    full = [0] * len(record)
    # Large to small, crowds first of all: what is painted later stays on top.
    order = sorted(range(len(record)), key=lambda k: (not record.crowd[k], -areas[k], k))
    for position in order:
        mask = item.decode(position)
        full[position] = int(np.count_nonzero(mask))
        objects[mask] = numbers[position]
        classes[mask] = void if record.crowd[position] else int(record.labels[position]) + 1
    left = np.bincount(objects.reshape(-1), minlength=len(record) + 1)
    _save_index_picture(out / "SegmentationObject" / f"{stem}.png", objects, len(record))
    _save_index_picture(out / "SegmentationClass" / f"{stem}.png", classes, num_classes)
    return [
        int(left[number]) / total if total else 1.0
        for number, total in zip(numbers, full, strict=True)
    ]


def _save_index_picture(path: Path, values: NDArray[np.uint16], highest: int) -> None:
    """Saves pixel values of which `highest` is the largest that is not void."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if highest >= VOID:
        image = Image.fromarray(values)
    else:
        image = Image.fromarray(values.astype(np.uint8))
        image.putpalette(voc_palette())
    image.save(path, format="PNG")


def _stems_of_other_splits(out: Path, split: str) -> set[str]:
    """Pictures that earlier calls listed for other splits."""
    files = (out / "ImageSets" / "Main").glob("*.txt")
    return {
        stem
        for file in files
        if file.stem != split
        for stem in file.read_text(encoding="utf-8").splitlines()
    }


def _write_xml(path: Path, item: LabelledRecord, folder: DataFolder) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = item.record.extra.get("xml") if folder.format == "voc" else None
    if source is None:
        root = _new_tree(item, folder)
        ElementTree.indent(root, space="\t")
    else:
        root = _tree_without_errors(source, item.record)
        if root is None:
            shutil.copyfile(source, path)
            return
    text = ElementTree.tostring(root, encoding="unicode")
    write_whole(path, lambda stream: stream.write(text + "\n"))


def _tree_without_errors(source: Path, record: ImageRecord) -> ElementTree.Element | None:
    """A source without the objects that reading left out; None where it left out none."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    root = ElementTree.parse(source, parser).getroot()
    kept = {entry["index"]: k for k, entry in enumerate(record.annotations)}
    nodes = root.findall("object")
    if len(kept) == len(nodes):
        return None
    for index, node in enumerate(nodes, start=1):
        if index not in kept:
            root.remove(node)
        elif node.find("source_id") is None:  # its number in the file may change
            _add(node, "source_id", json.dumps(record.annotation_ids[kept[index]]))
    return root


def _new_tree(item: LabelledRecord, folder: DataFolder) -> ElementTree.Element:
    record = item.record
    root = ElementTree.Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", PurePosixPath(record.name).name)
    size = ElementTree.SubElement(root, "size")
    for side, length in zip(
        ("width", "height", "depth"), (*record.image_size[::-1], 3), strict=True
    ):
        _add(size, side, length)
    _add(root, "segmented", 1)
    for position in range(len(record)):
        node = ElementTree.SubElement(root, "object")
        _add(node, "name", folder.class_names[int(record.labels[position])])
        _add(node, "pose", "Unspecified")
        _add(node, "truncated", 0)
        _add(node, "difficult", int(record.crowd[position]))
        box = ElementTree.SubElement(node, "bndbox")
        x1, y1, x2, y2 = (float(value) for value in record.boxes[position])
        corners = {"xmin": x1 + 1, "ymin": y1 + 1, "xmax": x2, "ymax": y2}
        for key, value in corners.items():
            _add(box, key, int(value) if value.is_integer() else repr(value))
        _add(node, "crowd", int(record.crowd[position]))
        _add(node, "confidence", f"{item.confidences[position]:.5g}")
        _add(node, "source_id", json.dumps(record.annotation_ids[position]))
    return root


def _add(parent: ElementTree.Element, tag: str, value: object) -> None:
    ElementTree.SubElement(parent, tag).text = _NOT_IN_XML.sub("?", str(value))
