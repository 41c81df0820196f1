"""Cores that others keep busy: counted by hand, and by real processes."""

import os
import subprocess
import sys
import time

import pytest
import torch

from boxmask.api import busy_cores
from boxmask.api.busy_cores import busy_cores_warning, busy_ticks, cores_of_others
from boxmask.ops.threads import own_cores

CPU = torch.device("cpu")
# user nice system idle iowait irq softirq steal guest guest_nice
STATISTICS = """\
cpu  111 22 33 4440 55 6 7 8 99 0
cpu0 100 20 30 4000 50 5 6 7 90 0
cpu1 10 2 3 400 5 1 1 1 9 0
cpu10 1 0 0 40 0 0 0 0 0 0
intr 5 5
ctxt 9
"""
BURN = """
import os, sys
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {int(sys.argv[1])})
print("begun", flush=True)
while True:
    pass
"""


def test_ticks_of_some_cores():
    assert busy_ticks(STATISTICS, [0]) == 168
    assert busy_ticks(STATISTICS, [1, 10]) == 19
    assert busy_ticks(STATISTICS, [7]) == 0


@pytest.mark.skipif(not busy_cores.STATISTICS.exists(), reason="the system tells nothing of cores")
def test_a_busy_process_is_seen():
    core = own_cores()[-1]
    with subprocess.Popen(
        [sys.executable, "-c", BURN, str(core)], stdout=subprocess.PIPE, text=True
    ) as burner:
        try:
            assert burner.stdout.readline() == "begun\n"
            busy = cores_of_others(0.5)
        finally:
            burner.kill()
    # Tests beside this one take a part of that core or another core; neither takes it below.
    assert 0.4 < busy <= len(own_cores()) + 0.1


def test_where_the_system_tells_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(busy_cores, "STATISTICS", tmp_path / "missing")
    assert cores_of_others(0.0) is None
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert busy_cores_warning(CPU) == []


def test_what_this_process_does_itself_is_taken_off(monkeypatch):
    ticks = iter([1000, 1000 + os.sysconf("SC_CLK_TCK")])  # one second of work in between
    monkeypatch.setattr(busy_cores, "_busy_ticks", lambda: next(ticks))
    clocks = {"process_time": iter([5.0, 5.75]), "perf_counter": iter([8.0, 8.5])}
    for name, values in clocks.items():
        monkeypatch.setattr(time, name, lambda values=values: next(values))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert cores_of_others(0.5) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("threads", "busy", "device", "share"),
    [
        (4, 3.0, "cpu", 1),
        (4, 2.2, "cpu", 1),
        (4, 1.1, "cpu", 2),
        (4, 0.4, "cpu", None),  # next to nothing
        (2, 2.2, "cpu", None),  # there is room
        (1, 4.0, "cpu", None),  # nobody to wait for
        (4, 4.0, "cuda", None),
    ],
)
def test_warns_where_threads_would_wait(monkeypatch, threads, busy, device, share):
    monkeypatch.setattr(busy_cores, "own_cores", lambda: [0, 1, 2, 3])
    monkeypatch.setattr(busy_cores, "cores_of_others", lambda seconds: busy)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    lines = busy_cores_warning(torch.device(device))
    assert bool(lines) == (share is not None)
    if lines:
        assert f"other programs use {busy:.1f} of 4 cores" in lines[0]
        assert lines[1].endswith(f"OMP_NUM_THREADS={share}")
