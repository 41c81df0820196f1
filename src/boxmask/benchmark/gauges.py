"""Clock and scales of the speed benchmark: seconds and memory of one call."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from boxmask.freed_memory import give_back_memory

MEBI = 2**20
QUEUED = 20  # products that a GPU has to do before a call that is timed, some 20 to 40 ms


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    """How long one call takes, until the device is done."""
    wait_for(device)
    start = time.perf_counter()
    run()
    wait_for(device)
    return time.perf_counter() - start


def busy_seconds(run: Callable[[], Any], device: torch.device, *, calls: int = 5) -> float:
    """How long a device is at work on one call, in seconds.

    On a CPU that is how long the call takes. A GPU gets the calls while it still has other work,
    and times them itself, so that the host's launching does not count, unless the calls make the
    host wait.

    Args:
        run: what is timed.
        device: where it works.
        calls: how many a GPU does, of which this is the mean.
    """
    if device.type != "cuda":
        return seconds(run, device)
    matrix = torch.ones(8192, 8192, dtype=torch.bfloat16, device=device)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(QUEUED):
        torch.mm(matrix, matrix)
    start.record()
    for _ in range(calls):
        run()
    end.record()
    wait_for(device)
    return start.elapsed_time(end) / 1e3 / calls


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


def forget_largest() -> None:
    """From now on `largest_gigabytes` counts anew, where the system lets it."""
    give_back_memory()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def largest_gigabytes() -> float | None:
    """Most memory that was in use at once: of the GPU if there is one, else of this process.

    Processes that read pictures are not counted. None where the system does not tell.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    file = Path("/proc/self/status")
    if not file.is_file():
        return None
    lines = dict(line.split(":", 1) for line in file.read_text(encoding="utf-8").splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024 / 1e9


def resident_bytes() -> int | None:
    """Memory of this process; None on systems without /proc."""
    file = Path("/proc/self/statm")
    if not file.is_file():
        return None
    import resource

    return int(file.read_text().split()[1]) * resource.getpagesize()


def wait_for(device: torch.device) -> None:
    """Until a device has done all it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
