"""Training through its public function: box-only, exact resuming, what the run folder holds."""

import csv
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch._dynamo.exc import BackendCompilerFailed

from box_only_data import without_segmentations
from boxmask.api.train import train
from boxmask.data.synthetic import SyntheticSettings, write_synthetic
from boxmask.errors import UserError

TINY = {"image_size": 64, "workers": 0, "pretrained": False}
# SIM with all its parts at work in a few steps: a full bank, pasting, prototypes of every class.
SIM = {
    "method": "sim",
    "settings": ("bank_capacity=3", "warmup=0.3", "paste_probability=1", "paste_passes=0"),
}


def silent(line: str) -> None:
    """Takes lines of progress."""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("shapes")
    return write_synthetic(out, SyntheticSettings(num_train=8, num_val=4, image_size=(64, 80)))


@pytest.fixture(scope="module")
def finished(shapes, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    return train(shapes, say=silent, epochs=4, out=out, **SIM, **TINY)


def weights(file: Path) -> dict[str, torch.Tensor]:
    return load_file(file)


def assert_same_weights(first: Path, second: Path) -> None:
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_run_folder_has_all_its_files(finished):
    names = {str(p.relative_to(finished.dir)) for p in finished.dir.rglob("*") if p.is_file()}
    assert names >= {
        "args.yaml", "env.txt", "results.csv", "results.png", "size_ap.png", "metrics.json",
        "train_batch0.jpg", "val_labels.jpg", "val_pred.jpg", "val_truth.jpg",
        "weights/best.safetensors", "weights/last.ckpt",
    }  # fmt: skip
    with (finished.dir / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert all(float(row["train/loss_projection"]) > 0 for row in rows)
    assert {"box_ap", "mask_ap", "label_iou", "fill"} <= finished.metrics.keys()


def test_training_leaves_frozen_statistics_alone(finished):
    for name, value in weights(finished.best).items():
        if name.endswith("running_var"):
            assert torch.all(value == 1), name  # as they were made


def test_deleting_every_segmentation_changes_no_bit(shapes, finished, tmp_path):
    boxes = without_segmentations(shapes, tmp_path / "boxes")
    run = train(boxes, say=silent, epochs=4, out=tmp_path / "run", **SIM, **TINY)
    assert_same_weights(run.best, finished.best)
    assert run.metrics["box_ap"] == finished.metrics["box_ap"]
    assert "mask_ap" not in run.metrics
    assert run.metrics["box_tightness"] == finished.metrics["box_tightness"]


def train_in_a_process(data: Path, out: Path, workers: int) -> None:
    train(data, say=silent, epochs=4, out=out, **SIM, **{**TINY, "workers": workers})


def test_sim_pastes_and_moves_its_prototypes(finished):
    with (finished.dir / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["train/loss_paste"]) > 0
    assert float(rows[-1]["train/loss_pseudo"]) > 0
    assert float(rows[-1]["train/pseudo_foreground"]) > 0
    state = torch.load(finished.dir / "weights" / "last.ckpt", weights_only=False)["state_dict"]
    bank = "step.objective.losses.loss_pseudo.bank."
    assert (state[bank + "updates"] > 0).all()
    lengths = state[bank + "vectors"].norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))
    remembered = state["step.objective.losses.loss_pseudo.paste_bank._extra_state"]
    assert len(remembered["pictures"]) == 3


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_killed_and_resumed_equals_uninterrupted(shapes, finished, tmp_path, workers):
    out = tmp_path / "run"
    process = multiprocessing.get_context("spawn").Process(
        target=train_in_a_process, args=(shapes, out, workers)
    )
    process.start()
    checkpoint = out / "weights" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    rows_when_killed = len((out / "results.csv").read_text().splitlines())
    assert rows_when_killed < 5, "the run ended before it could be killed"
    resumed = train(say=silent, out=out, resume=True)
    assert_same_weights(resumed.best, finished.best)
    first, second = (
        torch.load(run.dir / "weights" / "last.ckpt", weights_only=False)
        for run in (resumed, finished)
    )
    # The moving average, the prototypes and the bank are in there too.
    torch.testing.assert_close(first["state_dict"], second["state_dict"], rtol=0, atol=0)
    assert first["global_step"] == second["global_step"]
    rows = (out / "results.csv").read_text().splitlines()
    assert len(rows) == 5


def test_accumulated_parts_make_the_same_number_of_steps(shapes, tmp_path):
    run = train(shapes, say=silent, epochs=1, accumulate=2, out=tmp_path / "run", **TINY)
    with (run.dir / "results.csv").open() as file:
        assert next(csv.DictReader(file))["step"] == "2"


def test_full_masks_and_trusted_masks_train(shapes, tmp_path):
    full = train(shapes, say=silent, method="full", epochs=1, out=tmp_path / "full", **TINY)
    assert "train/loss_mask" in (full.dir / "results.csv").read_text()
    mixed = train(shapes, say=silent, use_masks="trusted", epochs=1, out=tmp_path / "mixed", **TINY)
    header = (mixed.dir / "results.csv").read_text().splitlines()[0]
    assert "train/loss_mask" in header
    assert "train/loss_pairwise" in header


def test_trusted_masks_change_what_is_learned(shapes, finished, tmp_path):
    mixed = train(
        shapes, say=silent, use_masks="trusted", epochs=4, out=tmp_path / "m", **SIM, **TINY
    )
    name = "heads.controller.weight"
    assert not torch.equal(weights(mixed.best)[name], weights(finished.best)[name])


def test_full_masks_need_masks(shapes, tmp_path):
    boxes = without_segmentations(shapes, tmp_path / "boxes")
    with pytest.raises(UserError, match="full supervision needs a mask for each box"):
        train(boxes, say=silent, method="full", out=tmp_path / "run", **TINY)
    with pytest.raises(UserError, match="no mask to trust"):
        train(boxes, say=silent, use_masks="trusted", out=tmp_path / "run", **TINY)
    assert not (tmp_path / "run").exists()


def test_a_folder_with_a_run_is_not_overwritten(shapes, finished):
    before = finished.best.read_bytes()
    with pytest.raises(UserError, match="not empty"):
        train(shapes, say=silent, epochs=1, out=finished.dir, **TINY)
    assert finished.best.read_bytes() == before


def test_data_without_val_split_trains_and_keeps_the_last_weights(shapes, tmp_path):
    lone = tmp_path / "lone"
    lone.mkdir()
    (lone / "images").symlink_to(shapes / "images")
    (lone / "train.json").write_text((shapes / "train.json").read_text())
    lines = []
    run = train(lone, say=lines.append, epochs=1, out=tmp_path / "run", **TINY)
    assert run.best.is_file()
    assert any("no val split" in line for line in lines)


def test_pictures_can_be_put_aside_for_scoring(shapes, tmp_path):
    lone = tmp_path / "lone"
    lone.mkdir()
    (lone / "images").symlink_to(shapes / "images")
    (lone / "train.json").write_text((shapes / "train.json").read_text())
    run = train(lone, say=silent, epochs=1, val_fraction=0.4, out=tmp_path / "run", **TINY)
    assert "box_ap" in run.metrics


def test_resuming_a_finished_run_says_so(finished):
    lines = []
    before = finished.best.read_bytes()
    again = train(say=lines.append, out=finished.dir, resume=True)
    assert "all epochs of this run are done already" in lines
    assert again.metrics == finished.metrics
    assert finished.best.read_bytes() == before


def test_a_run_whose_last_epoch_has_no_checkpoint_is_not_finished(shapes, finished, tmp_path):
    """The row of an epoch is written before its checkpoint."""

    def stop(line):
        if line.startswith("epoch 4"):
            raise KeyboardInterrupt

    out = tmp_path / "run"
    with pytest.raises(SystemExit):  # as Lightning does
        train(shapes, say=stop, epochs=4, out=out, **SIM, **TINY)
    assert len((out / "results.csv").read_text().splitlines()) == 5
    resumed = train(say=silent, out=out, resume=True)
    assert_same_weights(resumed.best, finished.best)


def test_a_run_without_a_finished_epoch_begins_again(shapes, finished, tmp_path):
    def stop(line):
        if line.startswith("epoch 1"):
            raise KeyboardInterrupt

    out, lines = tmp_path / "run", []
    with pytest.raises(SystemExit):
        train(shapes, say=stop, epochs=4, out=out, **SIM, **TINY)
    assert not (out / "weights" / "last.ckpt").exists()
    resumed = train(say=lines.append, out=out, resume=True)
    assert "no epoch of this run was finished: it begins again" in lines
    assert_same_weights(resumed.best, finished.best)


def test_a_resumed_run_keeps_its_options(shapes, finished, tmp_path):
    with pytest.raises(UserError, match="keeps the data, the length and the options") as error:
        train(tmp_path, say=silent, out=finished.dir, resume=True, epochs=30, model="condinst-r50")
    assert error.value.where.splitlines()[1:] == [
        f"data: {shapes} there, {tmp_path} here",
        "--model: condinst-lite0 there, condinst-r50 here",
        "--epochs: 4 there, 30 here",
    ]
    lines = []
    train(shapes, say=lines.append, out=finished.dir, resume=True, epochs=4, workers=1)
    assert "all epochs of this run are done already" in lines


@pytest.mark.parametrize("model", ["condinst-nonsense", "condinst-vit_tiny_patch16_224"])
def test_a_wrong_backbone_leaves_nothing_behind(shapes, tmp_path, model):
    with pytest.raises(UserError, match=r"no timm model|cannot serve as a backbone"):
        train(shapes, say=silent, model=model, out=tmp_path / "run", **TINY)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_with_the_pictures_names(shapes, tmp_path, monkeypatch):
    from boxmask.box_supervision.projection_loss import ProjectionLoss
    from boxmask.structures import LossSum

    def broken(self, context):
        total = context.student.logits.sum() * float("nan")
        return LossSum(total, torch.ones(()))

    monkeypatch.setattr(ProjectionLoss, "forward", broken)
    with pytest.raises(UserError) as caught:
        train(shapes, say=silent, epochs=1, out=tmp_path / "run", **TINY)
    assert "loss_projection became NaN" in caught.value.what
    assert ".png" in caught.value.where


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 3}, "did you mean epochs"),
        ({"epochs": 0}, "at least 1"),
        ({"learning_rate": -1.0}, "more than 0"),
        ({"resume": True}, "--out"),
        ({"model": "condinst-nonsense"}, "no timm model"),
        ({"model": "yolo"}, "no model is called"),
        ({"batch": 3, "accumulate": 2}, "multiple of 2"),
        ({"method": "foo"}, "expected one of sim, boxinst, full"),
        ({"preset": "foo"}, "expected one of default, paper"),
        ({"settings": ("sharpnes=3",)}, "did you mean sharpness"),
        ({"settings": ("sharpness",)}, "expected NAME=VALUE"),
        ({"settings": ("sharpness=much",)}, "sharpness"),
        ({"settings": ("low=0.9",)}, "low <= lowest_high"),
        ({"method": "boxinst", "settings": ("sharpness=3",)}, "no setting 'sharpness'"),
        ({"method": "full", "settings": ("sharpness=3",)}, "has no settings"),
        ({"precision": "64"}, "expected one of auto, 32"),
        ({"epochs": "3"}, "epochs: expected a whole number"),
        ({"val_fraction": 1.0}, "below 1"),
        ({"accelerator": "gpu", "devices": 99}, "99 GPUs were asked for"),
    ],
)
def test_bad_options_say_what_to_do(shapes, tmp_path, options, message):
    given = {"out": tmp_path / "run", **TINY, **options}
    if options.get("resume"):
        del given["out"]
    with pytest.raises(UserError, match=message):
        train(shapes, say=silent, **given)


def test_bfloat16_trains(shapes, tmp_path):
    run = train(shapes, say=silent, epochs=1, precision="bf16", out=tmp_path / "run", **TINY)
    assert run.best.is_file()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_parts_train_like_plain_ones(shapes, tmp_path):
    plain = train(shapes, say=silent, epochs=1, out=tmp_path / "plain", **TINY)
    compiled = train(shapes, say=silent, epochs=1, compile=True, out=tmp_path / "one", **TINY)
    first, second = weights(plain.best), weights(compiled.best)
    assert first.keys() == second.keys()
    gaps = torch.cat([(v - second[n]).abs().flatten() for n, v in first.items()])
    assert gaps.mean() < 2e-4  # as below: AdamW's first steps have the gradient's sign


def test_a_failed_compilation_says_what_to_do(shapes, tmp_path, monkeypatch):
    def fail(part, **options):
        raise BackendCompilerFailed("inductor", RuntimeError("no compiler"), None)

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(UserError, match="could not be compiled") as error:
        train(shapes, say=silent, epochs=1, compile=True, out=tmp_path / "run", **TINY)
    assert "--compile" in error.value.fix


@pytest.mark.slow
def test_two_processes_train_like_one(shapes, tmp_path):
    settings = {"settings": ("paste_probability=0",)}  # what is pasted depends on the process
    one = train(shapes, say=silent, epochs=2, batch=4, out=tmp_path / "one", **settings, **TINY)
    two = train(
        shapes, say=silent, epochs=2, batch=4, devices=2, accelerator="cpu",
        out=tmp_path / "two", **settings, **TINY,
    )  # fmt: skip
    assert two.metrics["box_ap"] is not None
    first, second = weights(one.best), weights(two.best)
    gaps = torch.cat([(v - second[n]).abs().flatten() for n, v in first.items()])
    # AdamW's first steps have the gradient's sign: a rounding error can turn a tiny one around.
    assert gaps.mean() < 2e-4
    assert gaps.max() < 0.02


@pytest.mark.slow
# With SIM one object in a dozen may stay wrong: 0.87 and 0.89 with two forms of the code.
@pytest.mark.parametrize(("method", "goal"), [("boxinst", 0.9), ("sim", 0.85), ("full", 0.95)])
def test_overfits_eight_pictures(tmp_path, method, goal):
    settings = SyntheticSettings(num_train=8, num_val=1, num_shapes=(1, 3), image_size=(128, 128))
    data = write_synthetic(tmp_path / "data", settings)
    (data / "val.json").write_text((data / "train.json").read_text())
    run = train(data, say=silent, method=method, epochs=250, image_size=128, out=tmp_path / "run")
    assert run.metrics["mask_ap50"] > goal


def test_leaves_the_process_as_it_was(finished):
    assert not torch.are_deterministic_algorithms_enabled()
