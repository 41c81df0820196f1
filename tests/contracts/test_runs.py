"""What every architecture gets from the package: whole runs, small and short."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pytest
import torch
from hosts import NAMES
from safetensors.torch import load_file

import boxmask
from box_only_data import without_segmentations
from boxmask.data.synthetic import SyntheticSettings, write_synthetic

TINY = {"image_size": 64, "workers": 0, "pretrained": False, "batch": 2, "epochs": 3}
SIM = {
    "settings": (
        "bank_capacity=2",
        "warmup=0.3",
        "paste_probability=1",
        "paste_passes=0",
        "paste_fit=0",
    )
}


class StoppedError(Exception):
    """The run is to end here."""


def silent(line):
    pass


def stop_at_the_second_epoch(line):
    if line.startswith("epoch 2"):
        raise StoppedError


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    settings = SyntheticSettings(num_train=4, num_val=2, image_size=(48, 64), num_shapes=(2, 3))
    return write_synthetic(tmp_path_factory.mktemp("sets") / "shapes", settings)


@pytest.fixture(scope="module")
def boxes(shapes, tmp_path_factory):
    """The same pictures without a single mask."""
    return without_segmentations(shapes, tmp_path_factory.mktemp("sets") / "shapes")


@pytest.fixture(scope="module", params=NAMES)
def resumed(request, shapes, tmp_path_factory):
    """A run on data with masks, stopped in the second of three epochs and resumed."""
    out = tmp_path_factory.mktemp("runs") / request.param
    model = f"{request.param}-lite0"
    with pytest.raises(StoppedError):
        boxmask.train(shapes, say=stop_at_the_second_epoch, model=model, out=out, **SIM, **TINY)
    run = boxmask.train(say=silent, out=out, resume=True)
    return model, run


def test_box_only_and_resumed_equals_masks_ignored_and_whole(resumed, boxes, tmp_path):
    """Two promises at once: masks are not read, and an interruption changes no bit."""
    model, run = resumed
    whole = boxmask.train(boxes, say=silent, model=model, out=tmp_path / "run", **SIM, **TINY)
    first, second = load_file(run.best), load_file(whole.best)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    one, other = (
        torch.load(each.dir / "weights" / "last.ckpt", weights_only=False)["state_dict"]
        for each in (run, whole)
    )
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert "mask_ap" in run.metrics
    assert "mask_ap" not in whole.metrics


def test_val_predict_label_and_explain(resumed, shapes, tmp_path):
    _, run = resumed
    metrics = boxmask.val(run.dir, say=silent, out=tmp_path / "val")
    assert 0 <= metrics["label_iou"] <= 1
    found = boxmask.predict(run.dir, shapes / "images", say=silent, out=tmp_path / "found")
    assert found
    labelled = boxmask.label(shapes, run.dir, say=silent, out=tmp_path / "labelled")
    assert labelled
    given = json.loads((shapes / "train.json").read_text())["annotations"]
    content = json.loads((tmp_path / "labelled" / "train.json").read_text())
    assert [a["id"] for a in content["annotations"]] == [a["id"] for a in given]
    assert all(a["segmentation"] for a in content["annotations"])
    picture = content["images"][0]["file_name"]
    boxmask.explain(run.dir, [Path(picture).name], say=silent, out=tmp_path / "explained")
    assert (tmp_path / "explained" / "masks.png").is_file()
    assert (tmp_path / "explained" / "weights.png").is_file()
