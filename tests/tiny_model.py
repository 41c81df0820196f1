"""A tiny trained run with random weights, and a tiny data set, for tests of whole commands."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from boxmask.data.synthetic import CLASS_NAMES, SyntheticSettings, write_synthetic
from boxmask.detectors.fcos import FCOSSettings
from boxmask.engine.run_folder import RunFolder, save_weights
from boxmask.recipes.models import build_recipe
from boxmask.recipes.saved_model import describe_model

IMAGE_SIZE = 64


def make_run(folder, data, class_names=CLASS_NAMES, seed=0):
    """A run folder whose model finds nonsense, but finds something."""
    torch.manual_seed(seed)
    recipe = build_recipe("condinst-lite0", "boxinst", len(class_names), pretrained=False)
    detector = replace(
        recipe.detector, pyramid_channels=64, branch_channels=16, fcos=FCOSSettings(tower_depth=1)
    )
    augmentation = replace(recipe.augmentation, image_size=IMAGE_SIZE)
    recipe = replace(recipe, detector=detector, augmentation=augmentation)
    model = detector.build()
    torch.nn.init.constant_(model.heads.fcos_head.cls_logits.bias, 0.5)
    run = RunFolder(root=folder)
    run.best.parent.mkdir(parents=True)
    ids = tuple(range(1, len(class_names) + 1))
    save_weights(run.best, model, describe_model(recipe, tuple(class_names), ids))
    run.write_arguments({"data": str(data)})
    return folder


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """A COCO folder of small pictures, with a crowd annotation, odd ids and extra keys."""
    settings = SyntheticSettings(num_train=4, num_val=2, image_size=(48, 64), num_shapes=(2, 3))
    folder = write_synthetic(tmp_path_factory.mktemp("sets") / "shapes", settings)
    file = folder / "train.json"
    content = json.loads(file.read_text())
    for entry in content["annotations"]:
        entry["id"] += 1000
        entry.pop("segmentation")
        entry["note"] = "mine"
    crowd = {"id": 7, "image_id": 1, "category_id": 1, "bbox": [1, 2, 20, 10], "iscrowd": 1}
    crowd["segmentation"] = {"size": [48, 64], "counts": [100, 5, 48 * 64 - 105]}
    content["annotations"].insert(1, crowd)
    file.write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def run(tmp_path_factory, shapes):
    """A run folder trained on `shapes`."""
    return make_run(tmp_path_factory.mktemp("runs") / "tiny", shapes)


@pytest.fixture
def own_shapes(shapes, tmp_path):
    """A copy of `shapes` that a test may spoil."""
    return shutil.copytree(shapes, tmp_path / "own")
