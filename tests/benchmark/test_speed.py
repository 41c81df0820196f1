"""The speed table: what is measured, what is written."""

import json

import pytest
import torch

from boxmask.benchmark.gauges import (
    MEBI,
    forget_largest,
    largest_gigabytes,
    peak_memory,
    resident_bytes,
)
from boxmask.benchmark.hot_paths import HotPath
from boxmask.benchmark.settings import FlowSettings, SpeedSettings, StepCase
from boxmask.benchmark.speed import (
    MachineRates,
    Measured,
    difference,
    flow_table,
    machine_rates,
    measure,
    measure_path,
    path_table,
    step_table,
)
from boxmask.benchmark.throughput import Flow, measure_flows
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


@pytest.mark.skipif(resident_bytes() is None, reason="the system does not tell sizes")
def test_largest_size_counts_anew():
    torch.ones(512 * MEBI // 4).sum()  # large, and gone
    forget_largest()
    small = largest_gigabytes()
    torch.ones(128 * MEBI // 4).sum()
    large = largest_gigabytes()
    assert 0.1 < large - small < 0.3


def test_tables():
    one = Measured(
        name="a path", size=(64, 96), num_objects=3, ours_ms=2.0, plain_ms=30.0, ours_mib=None,
        plain_mib=12.3, floor_share=0.25, difference=1.2e-7,
    )  # fmt: skip
    assert path_table([one]).splitlines()[-1] == (
        "| a path | 64 x 96 | 3 | 2.0 | 30.0 | 15.0 | - | 12 | 0.25 | 1e-07 |"
    )
    case = StepCase(size=(64, 96))
    steps = [
        StepTimes(
            method=method, case=case, milliseconds=ms, backbone_milliseconds=65.5,
            loss_milliseconds=10.0, mebibytes=None,
        )
        for method, ms in (("boxinst", 100.0), ("sim", 131.0))
    ]  # fmt: skip
    assert step_table(steps).splitlines()[-1] == (
        "| condinst-lite0 | sim | 4 x 64 x 96 | 4 | 131 | 1.31 | 30.5 | 0.50 | 10 | 0.076 | - |"
    )
    flows = [
        Flow(name="drawing", model="a model", size=(32, 64), batch=16, images_per_second=123.45)
    ]
    assert flow_table(flows).splitlines()[-1] == "| drawing | a model | 32 x 64 | 16 | 123.5 |"


def test_rates_are_those_of_a_machine():
    rates = machine_rates(CPU)
    assert rates.bytes_per_second > 1e8
    assert rates.flops_per_second > 1e8


@pytest.mark.parametrize("bf16", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_steps_of_both_methods_are_timed(bf16):
    case = StepCase(batch=2, size=(64, 64), num_objects=2, bf16=bf16)
    steps = time_steps(case, 1, CPU)
    assert [one.method for one in steps] == ["boxinst", "sim"]
    for one in steps:
        assert 0 < one.loss_milliseconds < one.milliseconds
        assert one.backbone_milliseconds > 0
        assert one.case == case


def test_drawn_boxes_lie_in_the_picture():
    batch = drawn_batch(StepCase(size=(64, 96), num_objects=50), seed=3)
    assert len(batch) == 4
    for target in batch.targets:
        assert (target.boxes >= 0).all()
        assert (target.boxes <= torch.tensor([96.0, 64.0, 96.0, 64.0])).all()
        assert (target.boxes[:, 2:] - target.boxes[:, :2] >= torch.tensor([16.0, 10.6])).all()


def test_pictures_a_second_of_all_other_work():
    settings = FlowSettings(size=(64, 64), num_images=4, num_objects=2, batches=(1, 4))
    flows = measure_flows(settings, CPU)
    find = ["model", "post-processing", "drawing"]
    assert [one.name for one in flows[1:]] == [*find, *find, "masks for given boxes"]
    assert flows[0].name.startswith("reading for training")
    assert [one.batch for one in flows] == [4, 1, 1, 1, 4, 4, 4, 4]
    assert all(one.images_per_second > 0 for one in flows)


def test_sizes_of_the_quick_and_of_the_whole_table():
    assert len(SpeedSettings(quick=True).cases) == 2
    assert len(SpeedSettings(quick=True).step_cases) == 1
    assert {case.model for case in SpeedSettings().step_cases} == {"condinst-lite0", "condinst-r50"}
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
    assert len(content["steps"]) == 2
    assert len(content["flows"]) == 5
    assert content["machine"]
    assert content["commit"]
    assert any("times faster" in line for line in lines)
