"""The published sizes: a step at full size, and small pictures learned by heart."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

import boxmask
from boxmask.data.synthetic import SyntheticSettings, write_synthetic
from boxmask.engine.optimizer import OptimizerSettings
from boxmask.engine.teacher import MovingAverage
from boxmask.engine.training_step import TrainingStep
from boxmask.recipes.models import build_recipe
from boxmask.structures import Batch, Targets

LARGE = ("condinst-r101", "condinst-r101-dcn-bifpn", "condinst-swinb")


def batch_at(height, width):
    boxes = torch.tensor([[40.0, 60, 300, 420], [400, 100, 700, 500], [10, 500, 90, 640]])
    return Batch(
        images=torch.rand(1, 3, height, width),
        valid=torch.ones(1, height, width, dtype=torch.bool),
        targets=(Targets.from_boxes(boxes, torch.tensor([0, 1, 79])),),
        image_sizes=((height, width),),
        scales=torch.ones(1, 2),
        indices=(0,),
        names=("drawn",),
    )


@pytest.mark.slow
@pytest.mark.parametrize("model", LARGE)
@pytest.mark.parametrize("method", ["boxinst", "sim"])
def test_a_step_at_800_pixels(model, method):
    torch.manual_seed(0)
    recipe = build_recipe(model, method, 80, pretrained=False)
    detector = recipe.detector.build().train()
    step = TrainingStep(detector, recipe.build_objective(1000))
    losses, context = step(batch_at(800, 800), 0.9, MovingAverage(detector, 0.99).model)
    assert context.student.logits.shape[1:] == (200, 200)
    total = sum(losses.values())
    assert total.isfinite()
    total.backward()
    gradients = {n: p.grad for n, p in detector.named_parameters() if p.requires_grad}
    assert all(g is not None and g.isfinite().all() for g in gradients.values())


def quick(recipe):
    """Small steps suit few pictures and weights that start from nothing."""
    optimizer = OptimizerSettings(learning_rate=3e-4, weight_decay=0.0, backbone_factor=1.0)
    return replace(
        recipe,
        optimizer=optimizer,
        average_decay=0.9,
        augmentation=replace(recipe.augmentation, smallest_scale=1.0, flip=0.0),
    )


def repeat_pictures(file, times):
    """Lists copies of every picture of a COCO file, so many in all."""
    content = json.loads(file.read_text())
    pictures, objects = content["images"], content["annotations"]
    content["images"], content["annotations"] = [], []
    folder = file.parent / "images"
    for number in range(times):
        for one in pictures:
            name = f"{number}_{one['file_name']}"
            shutil.copy(folder / one["file_name"], folder / name)
            content["images"].append(one | {"id": one["id"] + 1000 * number, "file_name": name})
        content["annotations"] += [
            one | {"id": one["id"] + 1000 * number, "image_id": one["image_id"] + 1000 * number}
            for one in objects
        ]
    file.write_text(json.dumps(content))


@pytest.mark.slow
@pytest.mark.parametrize("model", LARGE)
def test_eight_pictures_are_learned_by_heart(model, tmp_path):
    settings = SyntheticSettings(num_train=8, num_val=8, image_size=(96, 128), num_shapes=(1, 3))
    data = write_synthetic(tmp_path / "shapes", settings)
    (data / "val.json").write_text((data / "train.json").read_text())
    repeat_pictures(data / "train.json", 10)  # an epoch ends with a checkpoint of 0.7 GB
    run = boxmask.train(
        data,
        model=model,
        method="full",
        pretrained=False,
        adjust=quick,
        image_size=128,
        epochs=6,
        batch=2,
        workers=0,
        precision="bf16",
        out=tmp_path / "run",
    )
    assert run.metrics["mask_ap50"] > 0.9
