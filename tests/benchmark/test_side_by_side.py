"""Work in real processes: who gets which cores, what fails, what Ctrl+C leaves."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from boxmask.benchmark.run_list import finished_metrics, train_missing
from boxmask.benchmark.side_by_side import shares_of_cores, side_by_side
from boxmask.errors import UserError
from runs_side_by_side import STEPS, die, listed

TESTS = Path(__file__).resolve().parents[1]


def test_two_runs_at_a_time_in_processes_with_their_own_cores(tmp_path):
    said, details = [], []
    runs = listed(tmp_path, {"others": 2}, {"others": 2}, {})
    train_missing(runs, say=said.append, details=details.append, steps=STEPS, jobs=2)
    found = [finished_metrics(run) for run in runs]
    assert len({one["process"] for one in found}) == 2
    assert os.getpid() not in {one["process"] for one in found}
    shares = shares_of_cores(2)
    assert {one["threads"] for one in found} <= {len(share) for share in shares}
    if hasattr(os, "sched_setaffinity"):
        assert {one["cores"] for one in found[:2]} == {sum(share) for share in shares}
    assert said[0] == "3 of 3 runs are missing"
    assert [line.split(":")[0].strip() for line in said if "is finished" in line] == [
        f"{number} of 3 is finished" for number in (1, 2, 3)
    ]
    assert not details


def test_an_error_arrives_whole_and_what_is_finished_stays(tmp_path):
    runs = listed(tmp_path, {"others": 2, "seconds": 1}, {"fails": True}, {}, {})
    with pytest.raises(UserError) as caught:
        train_missing(runs, say=print, details=print, steps=STEPS, jobs=2)
    error = caught.value
    assert (error.what, error.where, error.fix) == ("no such picture", "a.json:3", "look there")
    assert finished_metrics(runs[0]) is not None
    assert not any((run.folder / "begun").exists() for run in runs[2:])


def nobody_is_left(group):
    """Whether all processes of a group end within ten seconds."""
    stop = time.monotonic() + 10
    while time.monotonic() < stop:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


IN_RUNS = """
    runs = listed(folder, *[{"seconds": 300}] * 3)
    train_missing(runs, say=print, details=print, steps=STEPS, jobs=2)
"""
ON_THE_WAY = """
    given = [SlowToArrive(folder / f"run{n}" / "begun") for n in range(2)]
    for one in given:
        one.begun.parent.mkdir()
    list(side_by_side(touch_beside, given, 2))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of terminals are sent otherwise")
@pytest.mark.parametrize(
    ("code", "sent"),
    [
        pytest.param(IN_RUNS, signal.SIGINT, id="Ctrl+C in runs", marks=pytest.mark.slow),
        pytest.param(ON_THE_WAY, signal.SIGINT, id="Ctrl+C before them"),
        pytest.param(
            IN_RUNS, signal.SIGKILL, id="the first process is killed", marks=pytest.mark.slow
        ),
    ],
)
def test_no_process_is_left(tmp_path, code, sent):
    script = tmp_path / "script.py"
    head = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from pathlib import Path
from boxmask.benchmark.run_list import train_missing
from boxmask.benchmark.side_by_side import side_by_side
from runs_side_by_side import STEPS, SlowToArrive, listed, touch_beside
if __name__ == "__main__":
    folder = Path({str(tmp_path)!r})
"""
    script.write_text(head + code, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, script], start_new_session=True, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            stop = time.monotonic() + 60
            while len(list(tmp_path.glob("*/begun"))) < 2 and time.monotonic() < stop:
                time.sleep(0.05)
            (os.killpg if sent == signal.SIGINT else os.kill)(process.pid, sent)
            _, complaint = process.communicate(timeout=60)
            assert nobody_is_left(process.pid)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode != 0
    assert sent == signal.SIGKILL or "KeyboardInterrupt" in complaint
    assert not list(tmp_path.glob("*/done.json"))


@pytest.mark.skipif(os.name != "posix", reason="processes are ended otherwise")
def test_a_process_that_the_system_ends_is_told_in_words():
    with pytest.raises(UserError, match="memory ran out") as caught:
        list(side_by_side(die, [1, 2], 2))
    assert "--jobs" in caught.value.fix


@pytest.mark.parametrize("jobs", [1, 2, 3, 50])
def test_cores_are_dealt_out_evenly(jobs, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 5, 6, 7, 9}, raising=False)
    shares = shares_of_cores(jobs)
    assert len(shares) == jobs
    assert {core for share in shares for core in share} == {4, 5, 6, 7, 9}
    if jobs <= 5:
        assert sorted(core for share in shares for core in share) == [4, 5, 6, 7, 9]
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
