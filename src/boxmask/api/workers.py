"""How many processes may read pictures."""

from boxmask.ops.threads import own_cores


def free_workers(asked: int | None, devices: int = 1) -> int:
    """The number asked for, or the cores that training leaves free, at most 4 a device."""
    if asked is not None:
        return asked
    return max(min(len(own_cores()) // max(devices, 1) - 1, 4), 0)
