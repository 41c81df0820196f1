"""The speed table: what is measured, what is written."""

import json

import pytest
import torch

from boxmask.benchmark.hot_paths import HotPath
from boxmask.benchmark.settings import SpeedSettings
from boxmask.benchmark.speed import (
    MEBI,
    MachineRates,
    Measured,
    difference,
    machine_rates,
    measure,
    measure_path,
    path_table,
    peak_memory,
    resident_bytes,
    step_table,
)
from boxmask.benchmark.whole_steps import StepTimes, drawn_batch, time_steps

CPU = torch.device("cpu")
RATES = MachineRates(bytes_per_second=1e9, flops_per_second=1e9)


def path(ours, plain):
    return HotPath(
        name="a path", size=(64, 96), num_objects=3, ours=ours, plain=plain,
        least_bytes=1e3, least_flops=2e3,
    )  # fmt: skip


def test_a_path_is_measured_on_both_forms():
    calls = []

    def run(form):
        calls.append(form)
        return (torch.tensor([1.0, 2.0 if form == "plain" else 2.2]),)

    found = measure_path(path(lambda: run("ours"), lambda: run("plain")), CPU, RATES, repeats=2)
    assert calls == ["ours", "plain"] * 3 + ["ours", "plain"]  # warm, timed in turn, memory
    assert found.difference == pytest.approx(0.2 / 3)
    assert found.floor_share == pytest.approx(2e-6 / (found.ours_ms / 1e3))  # the larger floor
    assert found.ratio == pytest.approx(found.plain_ms / found.ours_ms)


def test_differences_are_relative_to_the_mean_and_the_largest_counts():
    found = (torch.tensor([1.0, 101.0]), torch.tensor([4.0]))
    expected = (torch.tensor([1.0, 100.0]), torch.tensor([5.0]))
    assert difference(found, expected) == pytest.approx(0.2)


@pytest.mark.skipif(resident_bytes() is None, reason="the system does not tell sizes")
def test_memory_of_a_call_is_seen():
    def run():
        return torch.ones(64 * MEBI // 4).sum()

    assert 48 < peak_memory(run, CPU) < 160


def test_tables():
    one = Measured(
        name="a path", size=(64, 96), num_objects=3, ours_ms=2.0, plain_ms=30.0, ours_mib=None,
        plain_mib=12.3, floor_share=0.25, difference=1.2e-7,
    )  # fmt: skip
    assert path_table([one]).splitlines()[-1] == (
        "| a path | 64 x 96 | 3 | 2.0 | 30.0 | 15.0 | - | 12 | 0.25 | 1e-07 |"
    )
    steps = [
        StepTimes(name=name, batch=4, size=(64, 96), milliseconds=ms)
        for name, ms in (("boxinst", 100.0), ("sim", 131.0))
    ]
    assert step_table(steps).splitlines()[-1] == "| sim | 4 x 64 x 96 | 131 | 1.31 |"


def test_rates_are_those_of_a_machine():
    rates = machine_rates(CPU)
    assert rates.bytes_per_second > 1e8
    assert rates.flops_per_second > 1e8


def test_steps_of_both_methods_are_timed():
    steps = time_steps((64, 64), 2, 1, CPU)
    assert [one.name for one in steps] == ["boxinst", "sim"]
    assert all(one.milliseconds > 0 for one in steps)


def test_drawn_boxes_lie_in_the_picture():
    for target in drawn_batch((64, 96), 50, seed=3).targets:
        assert (target.boxes >= 0).all()
        assert (target.boxes <= torch.tensor([96.0, 64.0, 96.0, 64.0])).all()
        assert (target.boxes[:, 2:] - target.boxes[:, :2] >= torch.tensor([16.0, 10.6])).all()


def test_sizes_of_the_quick_and_of_the_whole_table():
    assert len(SpeedSettings(quick=True).cases) == 2
    cases = SpeedSettings().cases
    assert {number for _, number in cases} == {1, 16, 64, 256}
    assert ((800, 1333), 256) in cases


@pytest.mark.slow
def test_everything_is_written(tmp_path):
    lines = []
    file = tmp_path / "speed.json"
    measure(SpeedSettings(quick=True, json=file), say=lines.append)
    content = json.loads(file.read_text())
    assert len(content["paths"]) == 5  # colours do not depend on the number of objects
    assert all(path["ratio"] > 0 and path["difference"] < 1e-4 for path in content["paths"])
    assert content["machine"]
    assert content["commit"]
    assert any("times faster" in line for line in lines)
