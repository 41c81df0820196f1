"""Cores that other programs keep busy, while threads of ours would wait for each other on them."""

import os
import time
from pathlib import Path

import torch

from boxmask.ops.threads import own_cores

STATISTICS = Path("/proc/stat")
WATCHED = 0.25
"""Seconds that the cores are watched; the system counts in hundredths."""
NOISE = 0.5
"""Cores' worth of work that is too little to be in the way."""


def busy_cores_warning(device: torch.device) -> list[str]:
    """Lines that warn where other programs work on the cores that a CPU's threads need; or none.

    An operator's threads wait for each other by keeping their cores busy. Where two programs do so
    on the same cores, the threads that are waited for do not get one: a step of 0.3 s took 10 s in
    both of two runs with two threads each on two cores.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads <= 1:
        return []
    cores, busy = len(own_cores()), cores_of_others(WATCHED)
    if busy is None or busy < NOISE or threads + busy < cores + NOISE:
        return []
    share = max(int(cores - busy), 1)
    return [
        f"! other programs use {busy:.1f} of {cores} cores: where threads have to wait "
        "for each other, this program and the others may become many times slower",
        f"  -> wait for them, or give each its share of the cores, here OMP_NUM_THREADS={share}",
    ]


def cores_of_others(seconds: float) -> float | None:
    """How many of this process's cores other processes keep busy on average.

    Args:
        seconds: how long they are watched.

    Returns:
        0 to the number of cores; None where the system does not tell.
    """
    before = _busy_ticks()
    if before is None:
        return None
    own, start = time.process_time(), time.perf_counter()
    time.sleep(seconds)
    after = _busy_ticks()
    own, passed = time.process_time() - own, time.perf_counter() - start
    if after is None:
        return None
    return max((after - before) / os.sysconf("SC_CLK_TCK") - own, 0.0) / passed


def busy_ticks(statistics: str, cores: list[int]) -> int:
    """Ticks that some cores have worked since the system's start, from the text of /proc/stat.

    The columns of a core are user, nice, system, idle, iowait, irq, softirq, steal; what guests
    did comes after them and is in user already.
    """
    names = {f"cpu{core}" for core in cores}
    rows = [line.split() for line in statistics.splitlines()]
    times = [[int(word) for word in row[1:9]] for row in rows if row and row[0] in names]
    return sum(sum(one) - sum(one[3:5]) for one in times)


def _busy_ticks() -> int | None:
    try:
        return busy_ticks(STATISTICS.read_text(), own_cores())
    except OSError:  # only Linux has it
        return None
