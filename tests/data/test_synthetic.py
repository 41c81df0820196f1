import hashlib
import json

import cv2
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


# Of twelve pictures, drawn before the two dials had all that they have now.
MASKS_WITHOUT_DIALS = "18e6bec56172512706f351b53727873f97a1015c99a561f84855aa4f1b530636"
MEANS_WITHOUT_DIALS = (
    154.92, 159.99, 137.44, 135.39, 138.23, 142.83, 148.19, 156.18, 144.01, 105.43, 131.88, 124.23,
)  # fmt: skip


def test_the_dials_at_zero_change_no_picture():
    digest, means = hashlib.sha256(), []
    for picture, visible in draw(12):
        for label, mask in visible:
            digest.update(bytes([label]) + np.packbits(mask).tobytes())
        means.append(picture.mean())
    assert digest.hexdigest() == MASKS_WITHOUT_DIALS
    np.testing.assert_allclose(means, MEANS_WITHOUT_DIALS, atol=0.02)


def lab_mean(picture, mask):
    """CIE-LAB of the mean colour of some pixels."""
    mean = picture[mask].mean(axis=0, dtype=np.float32) / 255
    return cv2.cvtColor(mean.reshape(1, 1, 3), cv2.COLOR_RGB2LAB)[0, 0]


def test_camouflage_takes_the_difference_in_mean_colour():
    def distances(camouflage):
        found = []
        for picture, visible in draw(camouflage=camouflage):
            rest = ~np.any([mask for _, mask in visible], axis=0)
            for _, mask in visible:
                if mask.sum() > 100:
                    gap = lab_mean(picture, mask) - lab_mean(picture, rest)
                    found.append(np.linalg.norm(gap))
        return np.array(found)

    assert distances(0.0).min() > 20
    assert distances(1.0).max() < 2.408  # where colour affinity falls under 0.3
    assert np.median(distances(0.5)) == pytest.approx(0.5 * np.median(distances(0.0)), rel=0.15)


def test_camouflaged_objects_keep_a_texture_of_their_own():
    gaps = []
    for picture, visible in draw(camouflage=1.0):
        rest = ~np.any([mask for _, mask in visible], axis=0)
        swing = picture[rest].std(axis=0).mean()
        gaps += [abs(picture[mask].std(axis=0).mean() - swing) for _, mask in visible]
    assert np.mean(np.array(gaps) > 2) > 0.8  # grey levels; the grain alone has 2


def test_crowding_brings_objects_together():
    def touching(crowding):
        pictures = draw(20, **HEAPS, crowding=crowding)
        shapes = [shape for _, visible in pictures for shape in with_neighbors(visible)]
        return np.mean([bool(neighbors) for _, _, neighbors in shapes])

    assert touching(0.0) < 0.1
    assert 0.4 < touching(0.5) < 0.8
    assert touching(1.0) > 0.85


def test_neighbours_share_class_and_colour_with_the_crowding():
    def alike(crowding):
        """Share of touching pairs of one class, and the middle LAB distance of all of them."""
        same, distances = [], []
        for picture, visible in draw(30, **HEAPS, crowding=crowding):
            for label, mask, neighbors in with_neighbors(visible):
                for other, other_mask in neighbors:
                    same.append(label == other)
                    gap = lab_mean(picture, mask) - lab_mean(picture, other_mask)
                    distances.append(np.linalg.norm(gap))
        return np.mean(same), np.median(distances)

    class_half, color_half = alike(0.5)
    class_full, color_full = alike(1.0)
    assert 0.4 < class_half < 0.9
    assert class_full == 1.0
    assert color_full < 12 < color_half


# Nothing touches by chance.
HEAPS = {"num_shapes": (3, 4), "radius": (0.12, 0.2), "overlap": False}


def with_neighbors(visible):
    """Each shape's label and mask, and those of the shapes that it touches."""
    for label, mask in visible:
        near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        yield (
            label,
            mask,
            [(other, m) for other, m in visible if m is not mask and (near & m).any()],
        )


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
