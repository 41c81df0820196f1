"""The command line as people meet it: help, mistakes, interruptions, exit codes."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from boxmask.cli import main as cli
from boxmask.cli.train import resume_sugar
from boxmask.errors import UserError

PROGRAM = str(Path(sys.executable).parent / "boxmask")


def run_cli(capsys, *words):
    code = cli.run([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("start", [[PROGRAM], [sys.executable, "-m", "boxmask"]])
def test_help_as_a_real_process(start):
    if start == [PROGRAM] and not Path(PROGRAM).is_file():
        pytest.skip("the script is not installed")
    done = subprocess.run([*start, "--help"], capture_output=True, text=True, check=True)
    for command in ("check", "train", "val", "predict", "label"):
        assert command in done.stdout


def test_help_loads_nothing_heavy_and_answers_at_once():
    code = (
        "import sys, boxmask.cli.main as m\n"
        "m.run(['--help']); m.run(['label', '--help']); m.run(['train', 'x', 'epochs=3'])\n"
        "heavy = ('torch', 'numpy', 'pydantic', 'pytorch_lightning', 'matplotlib', 'PIL')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    times = []
    for _ in range(2):
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        times.append(time.perf_counter() - begin)
        assert done.stderr.splitlines()[-1] == "[]"
    assert min(times) < 2  # half a second alone; the machine may be busy


def test_version(capsys):
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("boxmask ")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["train", "x", "epochs=12"], "did you mean --epochs 12?"),
        (["train", "x", "imgsz=640"], "did you mean --image-size 640?"),
        (["train", "x", "image_size=640"], "did you mean --image-size 640?"),
        (["train", "data=parts"], "did you mean boxmask train parts?"),
        (["train", "x", "pretrained=False"], "did you mean --no-pretrained?"),
        (["label", "x", "weight=a"], "did you mean --weights a?"),
        (["train", "x", "--epoch", "3"], "Did you mean --epochs?"),
        (["trian", "x"], 'Did you mean "train"?'),
        (["train", "x", "--epochs", "many"], "unable to convert"),
        (["train", "x", "--epochs", "0"], "epochs: expected at least 1"),
        (["train"], "train needs data"),
        (["train", "--resume"], "name its folder with --out"),
        (["check", "nowhere"], "no such folder or file"),
    ],
)
def test_mistakes_are_answered_in_short_lines(capsys, words, answer):
    code, out, err = run_cli(capsys, *words)
    assert code == 2
    assert out == ""
    assert answer in err
    assert len(err.splitlines()) <= 3
    assert "Traceback" not in err


def test_debug_shows_the_traceback():
    with pytest.raises(UserError):
        cli.run(["check", "nowhere", "--debug"])


def test_our_own_mistakes_exit_1(capsys, monkeypatch):
    monkeypatch.setattr("boxmask.api.check.read_data", lambda data: 1 / 0)
    code, _, err = run_cli(capsys, "check", "x")
    assert code == 1
    assert "ZeroDivisionError" in err
    assert "--debug" in err


def test_check_leaves_with_2_on_errors(capsys, own_shapes, tmp_path):
    assert run_cli(capsys, "check", own_shapes, "--out", tmp_path)[0] == 0
    file = own_shapes / "train.json"
    file.write_text(file.read_text().replace('"category_id": 1', '"category_id": 99'))
    code, out, _ = run_cli(capsys, "check", own_shapes, "--out", tmp_path, "--json")
    assert code == 2
    seen = json.loads(out)
    errors = [problem for problem in seen["problems"] if problem["level"] == "error"]
    assert seen["summary"]["num_errors"] == len(errors) > 0


def test_label_then_check_what_it_wrote(capsys, shapes, run, tmp_path):
    out = tmp_path / "masks"
    words = ["label", shapes, "--weights", run, "--out", out, "--format", "coco"]
    code, text, _ = run_cli(capsys, *words, "--format", "yolo", "--workers", 0)
    assert code == 0
    assert "box IoU of masks: median" in text
    code, text, _ = run_cli(capsys, "check", out, "--out", tmp_path / "check")
    assert code == 0
    assert text.count("masks: all") == 2


def test_val_and_predict_speak_json(capsys, shapes, run, tmp_path):
    code, text, _ = run_cli(capsys, "val", run, "--json", "--out", tmp_path, "--workers", 0)
    assert code == 0
    assert "box_ap" in json.loads(text)
    words = ["predict", run, shapes / "images", "--json", "--no-pictures", "--threshold", "0.05"]
    code, text, _ = run_cli(capsys, *words, "--out", tmp_path / "out", "--workers", 0)
    assert code == 0
    assert json.loads(text)["num_pictures"] == 6


def test_an_interrupted_label_says_how_to_go_on(capsys, shapes, run, tmp_path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("boxmask.api.label.label_split", stop)
    out = tmp_path / "my masks"
    code, _, err = run_cli(capsys, "label", shapes, "--weights", run, "--out", out, "--batch", 2)
    assert code == 130
    assert len(err.strip().splitlines()) == 1
    assert f"--out '{out}' --batch 2 --resume" in err


def test_an_interrupted_run_says_how_to_go_on(monkeypatch, tmp_path, capsys):
    given = {}

    def train(data, say, **options):
        given.update(options, data=data)
        say(f"run    {tmp_path}")
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)  # as Lightning does

    monkeypatch.setattr("boxmask.api.train.train", train)
    code, _, err = run_cli(capsys, "train", "--resume", tmp_path)
    assert given["data"] is None  # the run knows
    assert (given["out"], given["resume"]) == (tmp_path, True)
    assert code == 130
    assert f"boxmask train --resume {tmp_path}" in err


def _heed_interrupts():
    """A shell has those of its background jobs ignored, and tests may run in one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def boxmask_process(words, *, until, folder):
    """A `boxmask` in a process group of its own that has printed a line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "boxmask", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        cwd=folder, preexec_fn=_heed_interrupts,  # noqa: PLW1509 - one call, no lock
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith(until):
            break
    return process


def alive_in_group(group):
    found = subprocess.run(
        ["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [line for line in found if line.split()[0] == str(group) and "Z" not in line]


@pytest.mark.skipif(os.name == "nt" or shutil.which("ps") is None, reason="needs signals and ps")
@pytest.mark.parametrize(
    ("send", "number", "code"),
    [
        (os.killpg, signal.SIGTERM, 143),
        pytest.param(os.kill, signal.SIGTERM, 143, marks=pytest.mark.slow),
        (os.killpg, signal.SIGINT, 130),
    ],
)
def test_a_real_run_stops_when_it_is_told_to(shapes, tmp_path, send, number, code):
    words = ["train", shapes, "--epochs", 500, "--image-size", 64, "--no-pretrained",
             "--method", "boxinst", "--workers", 2, "--out", "my run"]  # fmt: skip
    process = boxmask_process(words, until="epoch 1", folder=tmp_path)
    time.sleep(1)  # somewhere in a later epoch
    send(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err.strip().splitlines()[-1] == "stopped; go on with: boxmask train --resume 'my run'"
    assert "Traceback" not in err
    assert "bug" not in err
    assert not alive_in_group(process.pid)


@pytest.mark.parametrize("command", ["train", "label", "predict", "explain", "val", "check"])
def test_a_file_in_the_place_of_out(capsys, shapes, run, tmp_path, command):
    (tmp_path / "file").touch()
    words = {
        "train": ["train", shapes],
        "label": ["label", shapes, "--weights", run],
        "predict": ["predict", run, shapes / "images"],
        "explain": ["explain", run, "a.png"],
        "val": ["val", run],
        "check": ["check", shapes],
    }[command]
    code, _, err = run_cli(capsys, *words, "--out", tmp_path / "file")
    assert code == 2
    assert "a file is in the place of the output folder" in err
    assert str(tmp_path / "file") in err


def test_a_full_disk_is_no_bug_of_ours(capsys, monkeypatch):
    def full(*given, **options):
        raise OSError(errno.ENOSPC, "No space left on device", "runs/a.json")

    monkeypatch.setattr("boxmask.api.check.read_data", full)
    code, _, err = run_cli(capsys, "check", "x")
    assert code == 2
    assert err.splitlines()[:2] == ["error: No space left on device", "  runs/a.json"]


def test_resume_sugar_leaves_other_words_alone():
    assert resume_sugar(["train", "--resume", "r"]) == ["train", "--resume", "--out", "r"]
    assert resume_sugar(["train", "d", "--resume", "--out", "r"])[1] == "d"
    assert resume_sugar(["train", "--resume"]) == ["train", "--resume"]
    assert resume_sugar(["train", "r", "--resume"]) == ["train", "--resume", "--out", "r"]
    assert resume_sugar(["train", "--resume", "r", "--epochs", "3"]) == [
        "train", "--resume", "--out", "r", "--epochs", "3",
    ]  # fmt: skip
    assert resume_sugar(["label", "d", "--resume"]) == ["label", "d", "--resume"]
