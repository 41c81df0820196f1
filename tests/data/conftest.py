"""Small data sets of each format, drawn where a test wants them."""

import json

import numpy as np
import pytest
from PIL import Image

from boxmask.data.folder import read_data


def draw_picture(path, size=(30, 40), orientation=None):
    """Saves a picture of (height, width) as stored, with an EXIF orientation if asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = size
    values = np.random.default_rng(height * width).integers(0, 255, (height, width, 3))
    image = Image.fromarray(values.astype(np.uint8))
    options = {}
    if orientation:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    image.save(path, **options)
    return path


def save_coco(file, images, annotations, categories=({"id": 1, "name": "cat"},), **more):
    """Writes a COCO file; pictures are not drawn."""
    content = {"images": images, "annotations": annotations, "categories": list(categories), **more}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def coco_annotation(number, image_id, bbox, category_id=1, **more):
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": list(bbox),
        "iscrowd": 0,
        **more,
    }


def save_voc_xml(file, objects, size=(30, 40), file_name="a.jpg"):
    """Writes a VOC file; objects are (name, xmin, ymin, xmax, ymax)."""
    rows = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for name, a, b, c, d in objects
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        f"<annotation><filename>{file_name}</filename><size><width>{size[1]}</width>"
        f"<height>{size[0]}</height><depth>3</depth></size>{rows}</annotation>",
        encoding="utf-8",
    )
    return file


@pytest.fixture(scope="session")
def make_picture():
    return draw_picture


@pytest.fixture(scope="session")
def make_coco():
    return save_coco


@pytest.fixture(scope="session")
def annotation():
    return coco_annotation


@pytest.fixture(scope="session")
def make_voc_xml():
    return save_voc_xml


@pytest.fixture
def one_picture_coco(tmp_path):
    """A function that writes root/train.json around one 30 x 40 picture and the annotations."""

    def build(annotations, **more):
        draw_picture(tmp_path / "images" / "a.png")
        image = {"id": 1, "file_name": "a.png", "width": 40, "height": 30}
        return save_coco(tmp_path / "train.json", [image], annotations, **more)

    return build


@pytest.fixture(scope="session")
def one_coco(tmp_path_factory):
    """A function that reads a data set of one 30 x 40 picture and the given annotations."""
    root = tmp_path_factory.mktemp("one")
    draw_picture(root / "a.png")

    def build(annotations):
        save_coco(root / "train.json", [{"id": 1, "file_name": "a.png"}], annotations)
        return read_data(root)

    return build
