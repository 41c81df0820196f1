import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from boxmask.data.synthetic import (
    CLASS_NAMES,
    SyntheticSettings,
    draw_synthetic,
    write_synthetic,
)

SMALL = SyntheticSettings(num_train=6, num_val=3, image_size=(64, 80), num_shapes=(1, 5))


def draw(count=12, **changes):
    settings = SyntheticSettings(**({"image_size": (96, 112), "num_shapes": (3, 5)} | changes))
    return [draw_synthetic(settings, np.random.default_rng(seed)) for seed in range(count)]


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_written_folder_is_valid_coco(tmp_path):
    out = write_synthetic(tmp_path / "shapes", SMALL)
    assert out == tmp_path / "shapes"
    for split, count in (("train", 6), ("val", 3)):
        coco = COCO(str(out / f"{split}.json"))
        assert [category["name"] for category in coco.dataset["categories"]] == list(CLASS_NAMES)
        assert len(coco.imgs) == count
        for image in coco.dataset["images"]:
            with Image.open(out / "images" / image["file_name"]) as picture:
                assert (picture.mode, picture.size) == ("RGB", (80, 64))
            assert coco.getAnnIds(image["id"])


def test_boxes_and_areas_are_those_of_the_masks(tmp_path):
    out = write_synthetic(tmp_path, SMALL)
    content = json.loads((out / "train.json").read_text())
    for annotation in content["annotations"]:
        rle = annotation["segmentation"]
        assert isinstance(rle["counts"], str)
        assert rle["size"] == [64, 80]
        assert coco_mask.toBbox(rle).tolist() == annotation["bbox"]
        assert coco_mask.area(rle) == annotation["area"] > 0
        assert annotation["iscrowd"] == 0
    ids = [annotation["id"] for annotation in content["annotations"]]
    assert ids == list(range(1, len(ids) + 1))


def test_equal_seeds_give_equal_files_and_others_do_not(tmp_path):
    first = files_of(write_synthetic(tmp_path / "a", SMALL))
    second = files_of(write_synthetic(tmp_path / "b", SMALL))
    other = SyntheticSettings(num_train=6, num_val=3, image_size=(64, 80), seed=1)
    assert first == second
    assert first != files_of(write_synthetic(tmp_path / "c", other))
    assert len(set(first.values())) == len(first)  # no picture comes twice


def test_visible_masks_never_overlap():
    for _picture, visible in draw(crowding=1.0):
        assert visible
        assert np.sum([mask for _, mask in visible], axis=0).max() == 1


def test_every_class_appears_and_concave_ones_leave_much_of_their_box():
    fills = {label: [] for label in range(len(CLASS_NAMES))}
    for _picture, visible in draw(40, num_shapes=(1, 1)):
        for label, mask in visible:
            columns, rows = mask.any(axis=0).sum(), mask.any(axis=1).sum()
            fills[label].append(mask.sum() / (columns * rows))
    assert all(fills.values())
    assert np.mean(fills[0]) > 0.7
    assert np.mean(fills[1]) < 0.6
    assert np.mean(fills[2]) < 0.65


def test_objects_differ_from_background_in_colour_unless_camouflaged():
    def distance(camouflage):
        distances = []
        for picture, visible in draw(camouflage=camouflage):
            rest = ~np.any([mask for _, mask in visible], axis=0)
            for _, mask in visible:
                if mask.sum() > 200:
                    gap = picture[mask].mean(axis=0) - picture[rest].mean(axis=0)
                    distances.append(np.linalg.norm(gap))
        return np.array(distances)

    assert distance(0.0).min() > 40
    assert np.median(distance(1.0)) < 15
    assert np.median(distance(1.0)) < np.median(distance(0.5)) < np.median(distance(0.0))


def test_crowding_brings_objects_together():
    def touching(crowding):
        pictures = draw(20, num_shapes=(3, 3), radius=(0.1, 0.14), crowding=crowding)
        return np.mean([_num_islands(visible) / len(visible) for _, visible in pictures])

    assert touching(1.0) < 0.6 < touching(0.0)


def _num_islands(visible):
    from scipy import ndimage

    union = np.any([mask for _, mask in visible], axis=0)
    return ndimage.label(ndimage.binary_dilation(union, iterations=2))[1]


def test_without_overlap_each_object_is_whole():
    settings = {"num_shapes": (4, 4), "radius": (0.1, 0.2), "overlap": False}
    for _picture, visible in draw(10, **settings):
        layers = np.zeros((96, 112), dtype=int)
        for _, mask in visible:
            layers += mask
        assert layers.max() <= 1
    fills = [
        mask.sum() / (mask.any(axis=0).sum() * mask.any(axis=1).sum())
        for _, visible in draw(20, **settings)
        for label, mask in visible
        if label == 0
    ]
    assert min(fills) > 0.6


def test_well_hidden_shapes_are_left_out():
    crowd = {"num_shapes": (6, 6), "radius": (0.2, 0.3), "crowding": 1.0}
    strict = sum(len(visible) for _, visible in draw(10, **crowd, max_hidden=0.1))
    loose = sum(len(visible) for _, visible in draw(10, **crowd, max_hidden=1.0))
    assert strict < loose


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"image_size": (16, 64)}, "image_size"),
        ({"num_shapes": (0, 2)}, "num_shapes"),
        ({"radius": (0.3, 0.2)}, "radius"),
        ({"camouflage": 1.5}, "camouflage"),
        ({"crowding": -0.1}, "crowding"),
        ({"num_val": -1}, "num_val"),
    ],
)
def test_settings_out_of_range_are_named(changes, text):
    with pytest.raises(ValueError, match=text):
        SyntheticSettings(**changes)
