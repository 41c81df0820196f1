"""Stored reference values: agreement, disagreement, missing keys, unusable files, exit codes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from boxmask.benchmark.reference import COMPARED, check_file, check_folder, main
from boxmask.benchmark.reference_comparison import Tolerance, compared
from boxmask.errors import UserError
from references import condinst, stored_values

STORED = Path(__file__).resolve().parents[3] / "shared" / "oracles"
OUTPUTS = {
    "aligned_bilinear": ["factor2", "factor3"],
    "color_affinity": ["affinity", "lab"],
    "copy_paste": ["out_image", "out_boxes_xyxy", "out_classes", "out_masks", "out_is_pasted"],
    "dice_loss": ["dice_per_instance", "dice_weighted_mean"],
    "feature_affinity": ["affinity"],
    "focal_loss_official": ["loss"],
    "pairwise_loss": ["per_edge", "loss", "grad_logits"],
    "projection_loss": ["loss", "grad_logits"],
    "self_correction": [
        "teacher_mean", "fused_map", "threshold", "pseudo_mask", "weight", "loss_before_ramp",
    ],
    "sinkhorn": ["assignment", "argmax"],
}  # fmt: skip


@pytest.fixture
def singles(tmp_path):
    """A folder with made-up files of everything but the heads."""
    for name, make in stored_values.SINGLE_FILES.items():
        stored_values.write(tmp_path, name, make(np.random.default_rng(3)))
    return tmp_path


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """A folder with made-up files of the heads."""
    folder = tmp_path_factory.mktemp("heads")
    condinst.write(folder, np.random.default_rng(5))
    return folder


def rewrite(file, **changes):
    """Changes arrays of a file; None takes one away."""
    with np.load(file) as stored:
        arrays = {key: stored[key] for key in stored} | changes
    np.savez(file, **{key: value for key, value in arrays.items() if value is not None})


def perturbed(array):
    """One value off by more than any tolerance: two grey levels, one class, 1 %, a flipped cell."""
    array = np.array(array)
    place = np.unravel_index(np.abs(array).argmax(), array.shape)
    if array.dtype.kind == "i":
        array[place] = array[place] - 1 if array[place] > 0 else 1
    else:
        array[place] += 0.01 * abs(array[place]) + (1 if abs(array[place]) >= 1 else 0)
    return array


def test_made_up_files_agree(singles, capsys):
    assert main([str(singles)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [f"{name}.npz" for name in COMPARED]
    for line in lines:
        assert line.endswith("missing" if line.startswith("condinst") else "ok")


def test_sizes_are_read_from_the_files(tmp_path):
    rng = np.random.default_rng(8)
    made = {
        "color_affinity": stored_values.color_affinity(rng, height=5, width=11),
        "pairwise_loss": stored_values.pairwise_loss(rng, count=3, height=8, width=5),
        "projection_loss": stored_values.projection_loss(rng, count=1, height=4, width=7),
        "self_correction": stored_values.self_correction(rng, samples=6, objects=3, height=5),
        "sinkhorn": stored_values.sinkhorn(rng, rows=13, columns=3, iterations=2),
    }
    for name, arrays in made.items():
        stored_values.write(tmp_path, name, arrays)
        assert check_file(tmp_path / f"{name}.npz").status == "ok"


def test_made_up_heads_agree(heads):
    reports = [report for report in check_folder(heads, say=str) if report.status != "missing"]
    assert [report.status for report in reports] == ["ok"] * 3
    assert all(report.count > 1000 for report in reports)


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name, keys in OUTPUTS.items() for key in keys]
)
def test_one_wrong_value_is_beyond_tolerance(tmp_path, name, key, capsys):
    arrays = stored_values.SINGLE_FILES[name](np.random.default_rng(3))
    stored_values.write(tmp_path, name, arrays)
    file = tmp_path / f"{name}.npz"
    rewrite(file, **{key: perturbed(np.load(file)[key])})
    assert main([str(tmp_path)]) == 1
    (line,) = (row for row in capsys.readouterr().out.splitlines() if "missing" not in row)
    assert line.startswith(f"{name}.npz")
    assert "BEYOND" in line


def copied(folder, target):
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def beyond_after_changes(file, keys):
    """What is beyond tolerance once a value of each key is wrong."""
    with np.load(file) as stored:
        changes = {key: perturbed(stored[key]) for key in keys}
    rewrite(file, **changes)
    return {one.name for one in check_file(file).comparisons if not one.ok}


@pytest.mark.parametrize("early", [True, False])
def test_wrong_values_of_training_are_all_seen(heads, tmp_path, early):
    """Masks and their losses are compared only where everything before them is right."""
    file = copied(heads, tmp_path) / "condinst_heads_train.npz"
    with np.load(file) as stored:
        first = {key for key in stored if "fcos" in key or key == "out.mask_feats"}
        later = {key for key in stored if "_loss_" in key or "out.mask_l" in key} - first
        later |= {"out.pos_labels", "out.pos_reg_targets", "out.pos_ctr_targets"}
    keys = first if early else later
    assert len(keys) == (4 if early else 9)
    assert beyond_after_changes(file, keys) == keys


@pytest.mark.parametrize(
    "key", ["boxes_xyxy", "scores", "locations", "levels", "mask_probs_stride4_first24"]
)
def test_wrong_values_in_use_are_all_seen(heads, tmp_path, key):
    file = copied(heads, tmp_path) / "condinst_heads_infer.npz"
    assert beyond_after_changes(file, {f"out.{key}"}) == {f"out.{key}"}


@pytest.mark.parametrize("key", ["out.classes", "out.im_inds"])
def test_detections_that_ours_lack_are_beyond_tolerance(heads, tmp_path, key):
    file = copied(heads, tmp_path) / "condinst_heads_infer.npz"
    assert beyond_after_changes(file, {key})


@pytest.mark.parametrize("group", ["pos", "kept"])
def test_points_that_ours_lack_are_beyond_tolerance(heads, tmp_path, group):
    file = copied(heads, tmp_path) / "condinst_heads_train.npz"
    places = np.array(np.load(file)[f"out.{group}_locations"])
    places[0] += 8
    rewrite(file, **{f"out.{group}_locations": places})
    wrong = {one.name for one in check_file(file).comparisons if not one.ok}
    assert wrong == {f"out.{group}, points"}


def test_a_missing_key_is_named(singles, capsys):
    rewrite(singles / "projection_loss.npz", grad_logits=None)
    assert main([str(singles)]) == 1
    (line,) = (row for row in capsys.readouterr().out.splitlines() if "unusable" in row)
    assert line.startswith("projection_loss.npz")
    assert "'grad_logits' is missing" in line


def test_a_missing_group_of_keys_is_named(singles):
    rewrite(singles / "aligned_bilinear.npz", factor2=None, factor3=None)
    assert "factor" in check_file(singles / "aligned_bilinear.npz").error


def test_broken_files_are_named(singles):
    (singles / "sinkhorn.npz").write_bytes(b"not a zip file")
    (singles / "dice_loss.npz").write_bytes((singles / "dice_loss.npz").read_bytes()[:300])
    with (singles / "copy_paste.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    reports = {report.name: report for report in check_folder(singles, say=str)}
    for name in ("sinkhorn.npz", "dice_loss.npz", "copy_paste.npz"):
        assert reports[name].status == "unusable"
        assert name in reports[name].error
    assert reports["projection_loss.npz"].status == "ok"


def test_arrays_that_do_not_fit_together_are_said(singles):
    rewrite(singles / "projection_loss.npz", box_masks=np.ones((2, 1, 3, 3)))
    rewrite(singles / "sinkhorn.npz", assignment=np.ones((2, 2)))
    assert "do not fit" in check_file(singles / "projection_loss.npz").error
    assert "'assignment' has shape (2, 2)" in check_file(singles / "sinkhorn.npz").error


def test_heads_need_their_weights(heads, tmp_path):
    file = tmp_path / "condinst_heads_train.npz"
    file.write_bytes((heads / file.name).read_bytes())
    assert "needs condinst_heads_weights.npz" in check_file(file).error


def test_a_missing_weight_is_named(heads, tmp_path):
    rewrite(copied(heads, tmp_path) / "condinst_heads_weights.npz", **{"controller.bias": None})
    for report in check_folder(tmp_path, say=str):
        if report.status != "missing":
            assert report.status == "unusable"
            assert "condinst_heads_weights.npz: " in report.error
            assert "controller.bias" in report.error


def test_files_of_other_names_are_said_to_be_unknown(singles, capsys):
    np.savez(singles / "surprise.npz", x=1.0)
    assert main([str(singles)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["surprise.npz", "unknown"]


@pytest.mark.parametrize("words", [[], ["nowhere"], ["."]])
def test_without_files_one_line_and_exit_code_2(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")


def test_json_has_every_comparison(singles, tmp_path, capsys):
    rewrite(singles / "focal_loss_official.npz", loss=np.nan)
    out = tmp_path / "report.json"
    assert main([str(singles), "--json", str(out)]) == 1
    rows = {row["file"]: row for row in json.loads(out.read_text())}
    assert rows["sinkhorn.npz"]["status"] == "ok"
    assert rows["sinkhorn.npz"]["values"] == sum(
        one["count"] for one in rows["sinkhorn.npz"]["comparisons"]
    )
    assert rows["focal_loss_official.npz"]["largest_error"] is None  # infinite
    assert main([str(singles), "--json", str(tmp_path / "no" / "where.json")]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_errors_are_measured_by_tolerance():
    tolerance = Tolerance(relative=0.1, absolute=1.0)
    found = compared("x", torch.tensor([11.0, 0.0]), torch.tensor([10.0, 1.1]), tolerance)
    assert found.count == 2
    assert found.largest_error == pytest.approx(1.1)
    assert found.of_tolerance == pytest.approx(1.1 / 1.11)
    assert found.ok
    nothing = compared("x", torch.zeros(0), torch.zeros(0))
    assert (nothing.count, nothing.largest_error, nothing.ok) == (0, 0.0, True)
    for bad in (torch.nan, torch.inf):
        assert not compared("x", torch.tensor(bad), torch.tensor(1.0)).ok
        assert not compared("x", torch.tensor(1.0), torch.tensor(bad)).ok


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no file to compare"):
        check_folder(tmp_path)


@pytest.mark.skipif(not STORED.is_dir(), reason="reference values are not beside the project")
def test_the_stored_values_agree(capsys):
    assert main([str(STORED)]) == 0
    assert capsys.readouterr().out.count("ok\n") == len(COMPARED)
