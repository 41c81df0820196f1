"""Speed: each hot path beside its plain form, on the same numbers; whole steps; pictures a second.

`boxmask benchmark speed --quick` takes less than a minute on two cores.
"""

import json
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from boxmask.benchmark.gauges import MEBI, busy_seconds, peak_memory
from boxmask.benchmark.hot_paths import HotPath, Results, hot_paths
from boxmask.benchmark.score_table import markdown_table
from boxmask.benchmark.settings import SpeedSettings
from boxmask.benchmark.throughput import Flow, measure_flows
from boxmask.benchmark.whole_steps import StepTimes, time_steps
from boxmask.engine.run_folder import describe_machine

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One path at one size.

    Attributes:
        name: of the path.
        size: (height, width) of the picture in pixels.
        num_objects: masks.
        ours_ms: median of some runs, see `busy_seconds`.
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
    say("\n" + path_table(found))
    step_cases = settings.step_cases
    if device.type == "cuda":
        step_cases += settings.gpu_step_cases
    steps = [
        times for case in step_cases for times in time_steps(case, settings.step_repeats, device)
    ]
    say("\n" + step_table(steps))
    flow_cases = settings.flows
    if device.type == "cuda":
        flow_cases += settings.gpu_flows
    flows = [flow for case in flow_cases for flow in measure_flows(case, device)]
    say("\n" + flow_table(flows))
    if settings.json is not None:
        _write(settings.json, rates, found, steps, flows)
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
        times["ours"].append(busy_seconds(path.ours, device))
        times["plain"].append(busy_seconds(path.plain, device))
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


def machine_rates(device: torch.device) -> MachineRates:
    """Measures a large copy and a large product of random numbers."""
    mebi, side = (1024, 8192) if device.type == "cuda" else (64, 1024)
    source = torch.ones(mebi * MEBI // 4, device=device)
    target = torch.empty_like(source)
    matrix = torch.randn(side, side, device=device)
    for warm in (lambda: target.copy_(source), lambda: matrix @ matrix):
        warm()
    copies = [busy_seconds(lambda: target.copy_(source), device) for _ in range(7)]
    products = [busy_seconds(lambda: matrix @ matrix, device) for _ in range(7)]
    return MachineRates(
        bytes_per_second=2 * source.numel() * 4 / min(copies),
        flops_per_second=2 * side**3 / min(products),
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
            _ms(one.ours_ms),
            _ms(one.plain_ms),
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
    """Whole training steps, each as a multiple of the first of its case."""
    head = ["training step", "method", "batch", "objects", "ms", "times boxinst",
            "pictures a second", "outside the backbone", "weak losses ms",
            "their share", "MiB"]  # fmt: skip
    rows = []
    for one in steps:
        case = one.case
        base = next(other for other in steps if other.case == case)
        rows.append(
            [
                case.title,
                one.method,
                f"{case.batch} x {case.size[0]} x {case.size[1]}",
                str(case.num_objects),
                f"{one.milliseconds:.0f}",
                f"{one.milliseconds / base.milliseconds:.2f}",
                f"{case.batch / one.milliseconds * 1e3:.1f}",
                f"{1 - one.backbone_milliseconds / one.milliseconds:.2f}",
                f"{one.loss_milliseconds:.0f}",
                f"{one.loss_milliseconds / one.milliseconds:.3f}",
                _mib(one.mebibytes),
            ]
        )
    return markdown_table(head, rows)


def flow_table(flows: Sequence[Flow]) -> str:
    """Pictures a second of everything that is no training step."""
    head = ["work", "model", "pixels", "batch", "pictures a second"]
    rows = [
        [
            one.name,
            one.model,
            f"{one.size[0]} x {one.size[1]}",
            str(one.batch),
            f"{one.images_per_second:.1f}",
        ]
        for one in flows
    ]
    return markdown_table(head, rows)


def _ms(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.3f}"


def _mib(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


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
    file: Path,
    rates: MachineRates,
    found: Sequence[Measured],
    steps: Sequence[StepTimes],
    flows: Sequence[Flow],
) -> None:
    content = {
        "machine": describe_machine().splitlines(),
        "commit": _commit(),
        "rates": asdict(rates),
        "paths": [{**asdict(one), "ratio": one.ratio} for one in found],
        "steps": [asdict(one) for one in steps],
        "flows": [asdict(one) for one in flows],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
