"""Where a model runs."""

import torch

from boxmask.errors import UserError


def usable_devices() -> list[str]:
    """Names that `pick_device` takes here."""
    return ["auto", "cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]


def pick_device(name: str) -> torch.device:
    """The device that a user asks for; "auto" is the first GPU, else the CPU.

    Raises:
        UserError: If there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device {name!r} cannot be used on this machine",
            fix=f"choose one of: {', '.join(usable_devices())}",
        ) from error
    return device
