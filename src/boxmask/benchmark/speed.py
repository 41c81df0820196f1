"""Speed: each hot path beside its plain form, on the same numbers, in one run; and whole steps.

`boxmask benchmark speed --quick` takes less than a minute on two cores.
"""

import json
import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from boxmask.benchmark.hot_paths import HotPath, Results, hot_paths
from boxmask.benchmark.score_table import markdown_table
from boxmask.benchmark.settings import SpeedSettings
from boxmask.benchmark.whole_steps import StepTimes, time_steps
from boxmask.engine.run_folder import describe_machine

Say = Callable[[str], None]
MEBI = 2**20


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One path at one size.

    Attributes:
        name: of the path.
        size: (height, width) of the picture in pixels.
        num_objects: masks.
        ours_ms: median of some runs.
        plain_ms: the same of the plain form.
        ours_mib: largest memory beyond what was there before; None where it cannot be told.
        plain_mib: the same of the plain form.
        floor_share: 0..1, time that copying the least bytes, or multiplying the least numbers,
            takes on this machine, as a share of ours.
        difference: between the results of both forms, see `difference`.
    """

    name: str
    size: tuple[int, int]
    num_objects: int
    ours_ms: float
    plain_ms: float
    ours_mib: float | None
    plain_mib: float | None
    floor_share: float
    difference: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.plain_ms / self.ours_ms


@dataclass(frozen=True, kw_only=True)
class MachineRates:
    """What the machine can do.

    Attributes:
        bytes_per_second: read and written by a large copy.
        flops_per_second: of a large product of float32 matrices.
    """

    bytes_per_second: float
    flops_per_second: float


def measure(settings: SpeedSettings | None = None, *, say: Say = print) -> list[Measured]:
    """Measures, prints and writes one table.

    Args:
        settings: sizes, and where to write.
        say: takes each line.
    """
    settings = settings or SpeedSettings()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rates = machine_rates(device)
    say(describe_machine())
    say(f"commit {_commit()}")
    say(
        f"copy {rates.bytes_per_second / 1e9:.1f} GB/s  "
        f"float32 product {rates.flops_per_second / 1e9:.0f} GFLOP/s"
    )
    found = []
    for size, num_objects in settings.cases:
        for path in hot_paths(size, num_objects, device):
            measured = {(one.name, one.size) for one in found}
            if path.once_a_picture and (path.name, size) in measured:
                continue
            found.append(measure_path(path, device, rates, repeats=settings.repeats))
    steps = time_steps(settings.step_size, settings.step_objects, settings.repeats, device)
    say("\n" + path_table(found) + "\n\n" + step_table(steps))
    if settings.json is not None:
        _write(settings.json, rates, found, steps)
        say(f"\nwritten {settings.json}")
    return found


def measure_path(
    path: HotPath, device: torch.device, rates: MachineRates, *, repeats: int
) -> Measured:
    """Both forms in turn, so that what else the machine does meets both alike."""
    ours, plain = path.ours(), path.plain()  # also warms up
    gap = difference(ours, plain)
    del ours, plain
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(repeats):
        times["ours"].append(seconds(path.ours, device))
        times["plain"].append(seconds(path.plain, device))
    ours_s, plain_s = (statistics.median(times[form]) for form in ("ours", "plain"))
    floor = max(
        path.least_bytes / rates.bytes_per_second, path.least_flops / rates.flops_per_second
    )
    return Measured(
        name=path.name,
        size=path.size,
        num_objects=path.num_objects,
        ours_ms=ours_s * 1e3,
        plain_ms=plain_s * 1e3,
        ours_mib=peak_memory(path.ours, device),
        plain_mib=peak_memory(path.plain, device),
        floor_share=floor / ours_s,
        difference=gap,
    )


def difference(found: Results, expected: Results) -> float:
    """Mean difference relative to the mean value, the largest of values and gradients.

    Means, because a rounding error can turn a ReLU on whose input is next to zero, which changes
    single gradients by as much as they are.
    """
    return max(
        float((one - other).abs().sum() / other.abs().sum().clamp(min=1e-12))
        for one, other in zip(found, expected, strict=True)
    )


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    """How long one call takes, until the device is done."""
    _wait(device)
    start = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - start


def peak_memory(run: Callable[[], Any], device: torch.device) -> float | None:
    """MiB that a call needs beyond what is in use; None where the system does not tell.

    On a CPU the process's size is looked at every half millisecond meanwhile.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return (torch.cuda.max_memory_allocated(device) - before) / MEBI
    give_back_memory()  # else freed memory is used again, and nothing is seen
    before = resident_bytes()
    if before is None:
        return None
    largest, done = before, threading.Event()

    def watch() -> None:
        nonlocal largest
        while not done.wait(0.0005):
            largest = max(largest, resident_bytes() or 0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    kept = run()  # its results count, too
    largest = max(largest, resident_bytes() or 0)
    done.set()
    watcher.join()
    del kept
    return (largest - before) / MEBI


def give_back_memory() -> None:
    """Gives freed memory back to the system, where its C library can."""
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def resident_bytes() -> int | None:
    """Memory of this process; None on systems without /proc."""
    file = Path("/proc/self/statm")
    if not file.is_file():
        return None
    import resource

    return int(file.read_text().split()[1]) * resource.getpagesize()


def machine_rates(device: torch.device) -> MachineRates:
    """Measures a large copy and a large product."""
    source = torch.ones(64 * MEBI // 4, device=device)
    target = torch.empty_like(source)
    matrix = torch.ones(1024, 1024, device=device)
    for warm in (lambda: target.copy_(source), lambda: matrix @ matrix):
        warm()
    copies = [seconds(lambda: target.copy_(source), device) for _ in range(7)]
    products = [seconds(lambda: matrix @ matrix, device) for _ in range(7)]
    return MachineRates(
        bytes_per_second=2 * source.numel() * 4 / min(copies),
        flops_per_second=2 * 1024**3 / min(products),
    )


def path_table(found: Sequence[Measured]) -> str:
    """One row a path and size."""
    head = ["path", "pixels", "objects", "ours ms", "plain ms", "times faster", "ours MiB",
            "plain MiB", "share of floor", "difference"]  # fmt: skip
    rows = [
        [
            one.name,
            f"{one.size[0]} x {one.size[1]}",
            str(one.num_objects),
            f"{one.ours_ms:.1f}",
            f"{one.plain_ms:.1f}",
            f"{one.ratio:.1f}",
            _mib(one.ours_mib),
            _mib(one.plain_mib),
            f"{one.floor_share:.2f}",
            f"{one.difference:.0e}",
        ]
        for one in found
    ]
    return markdown_table(head, rows)


def step_table(steps: Sequence[StepTimes]) -> str:
    """Whole training steps, each as a multiple of the first."""
    head = ["training step", "pixels", "ms", f"of {steps[0].name}"]
    rows = [
        [
            one.name,
            f"{one.batch} x {one.size[0]} x {one.size[1]}",
            f"{one.milliseconds:.0f}",
            f"{one.milliseconds / steps[0].milliseconds:.2f}",
        ]
        for one in steps
    ]
    return markdown_table(head, rows)


def _mib(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _commit() -> str:
    """Of the repository that this package is in; "unknown" outside of one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _write(
    file: Path, rates: MachineRates, found: Sequence[Measured], steps: Sequence[StepTimes]
) -> None:
    content = {
        "machine": describe_machine().splitlines(),
        "commit": _commit(),
        "rates": asdict(rates),
        "paths": [{**asdict(one), "ratio": one.ratio} for one in found],
        "steps": [asdict(one) for one in steps],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
