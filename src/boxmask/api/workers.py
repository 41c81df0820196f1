"""How many processes may read pictures."""

import os


def free_workers(asked: int | None, devices: int = 1) -> int:
    """The number asked for, or the cores that training leaves free, at most 4 a device."""
    if asked is not None:
        return asked
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(min(cores // max(devices, 1) - 1, 4), 0)
