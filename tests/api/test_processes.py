"""Several real processes train together: a resumed run is the uninterrupted one."""

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessException

from boxmask.api.train import train
from boxmask.data.synthetic import SyntheticSettings, write_synthetic
from boxmask.engine.module import OTHER_PROCESSES
from boxmask.errors import UserError

OPTIONS = {
    "image_size": 64, "workers": 0, "pretrained": False, "epochs": 4, "batch": 4, "devices": 2,
    "accelerator": "cpu", "method": "sim",
    "settings": (
        "bank_capacity=2", "warmup=0.3", "paste_probability=1", "paste_passes=0", "paste_fit=0",
    ),
}  # fmt: skip
BANK = "step.objective.losses.loss_pseudo.paste_bank._extra_state"


class StoppedError(Exception):
    """The run is to end here."""


def silent(line):
    """Takes lines of progress."""


def stop_after_the_third_epoch(line):
    if line.startswith("epoch 4"):
        raise StoppedError


def checkpoint_of(run):
    return torch.load(run / "weights" / "last.ckpt", weights_only=False)


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_gloo_available(), reason="needs gloo")
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path):
    settings = SyntheticSettings(num_train=8, num_val=2, image_size=(48, 64), num_shapes=(2, 3))
    shapes = write_synthetic(tmp_path / "shapes", settings)
    train(shapes, say=silent, out=tmp_path / "whole", **OPTIONS)
    with pytest.raises(Exception, match="StoppedError"):
        train(shapes, say=stop_after_the_third_epoch, out=tmp_path / "parts", **OPTIONS)
    (theirs,) = checkpoint_of(tmp_path / "parts")[OTHER_PROCESSES]
    mine = checkpoint_of(tmp_path / "parts")["state_dict"][BANK]
    assert len(mine["pictures"]) == len(theirs[BANK]["pictures"]) == 2
    assert str(mine) != str(theirs[BANK])
    train(say=silent, out=tmp_path / "parts", resume=True)
    first, second = checkpoint_of(tmp_path / "whole"), checkpoint_of(tmp_path / "parts")
    for key in ("state_dict", OTHER_PROCESSES):
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=0)


class BreakingPictures:
    """Cuts most pictures short when the run begins: later than all checks."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, line):
        if line.startswith("run "):
            for picture in sorted(self.folder.rglob("*train*.png"))[8:]:
                picture.write_bytes(picture.read_bytes()[:900])


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_gloo_available(), reason="needs gloo")
def test_a_mistake_that_ends_a_process_is_told_as_one(tmp_path):
    settings = SyntheticSettings(num_train=24, num_val=2, image_size=(48, 64), num_shapes=(2, 3))
    shapes = write_synthetic(tmp_path / "shapes", settings)
    with pytest.raises(UserError) as caught:
        train(shapes, say=BreakingPictures(shapes), out=tmp_path / "run", **OPTIONS)
    assert isinstance(caught.value.__cause__, ProcessException)
    assert "train_00" in f"{caught.value.what} {caught.value.where}"
