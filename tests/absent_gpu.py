"""A GPU that is not there: tensors that know their device and their shape, and have no values.

Mixing two devices fails on them as it does on a real GPU. What the host asks a device for is
answered with made-up numbers, since nothing is computed; there is no backward pass.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from boxmask.ops.waitless import constants

LISTED = 12  # entries of a list whose length only the device knows
CHOSEN = 2  # entries that a bool mask picks


class _Answers(TorchDispatchMode):
    """Answers what only a device could."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func.name(), kwargs or {}
        if name == "aten::_local_scalar_dense":
            return {torch.bool: True, torch.int64: 1}.get(args[0].dtype, 0.0)
        if name == "aten::nonzero":
            return _places(args[0], LISTED, args[0].dim())
        if name == "torchvision::nms":
            return _places(args[1], LISTED, 1)[:, 0]
        if name == "aten::unique_dim":
            return _different(args[0], args[1])
        if "_foreach_" in name:
            _check_devices([one for many in args if isinstance(many, list) for one in many])
        if name in ("aten::index.Tensor", "aten::index_put_", "aten::_index_put_impl_"):
            known = [index for index in args[1] if index is not None]
            _check_devices([args[0], *(one for one in known if one.device.type != "cpu")])
            indices = [_numbers(index) for index in args[1]]
            args = (args[0], [one for index in indices for one in index], *args[2:])
        return func(*args, **kwargs)


def _check_devices(tensors: list[Tensor]) -> None:
    """What these operators ask for and tensors without values do not."""
    if len({one.device for one in tensors}) > 1:
        raise RuntimeError(f"not on the same device: {[one.device for one in tensors]}")


def _numbers(index: Tensor | None) -> list[Tensor | None]:
    """A bool mask as the numbers that it stands for."""
    if index is None or index.dtype != torch.bool:
        return [index]
    return list(_places(index, CHOSEN, index.dim()).unbind(1))


def _different(values: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """Values, the place of each among them, and how often each comes."""
    length = values.shape[axis]
    found = values.narrow(axis, 0, min(CHOSEN, length)).clone()
    place = torch.zeros(length, dtype=torch.int64, device=values.device)
    return found, place, place[: found.shape[axis]].clone()


def _places(mask: Tensor, most: int, dimensions: int) -> Tensor:
    count = min(most, mask.numel())
    return torch.zeros((count, dimensions), dtype=torch.int64, device=mask.device)


@contextlib.contextmanager
def absent_gpu() -> Iterator[torch.device]:
    """Within it, `cuda` is a device that computes nothing."""
    constants.cache_clear()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), _Answers():
            yield torch.device("cuda")
    finally:
        constants.cache_clear()  # those made within have no values


def move(module: nn.Module, device: torch.device) -> None:
    """Gives a module tensors of the same shapes on another device, in place."""
    for part in module.modules():
        for name, one in part._parameters.items():
            if one is not None:
                part._parameters[name] = nn.Parameter(_like(one, device), one.requires_grad)
        for name, one in part._buffers.items():
            if one is not None:
                part._buffers[name] = _like(one, device)


def _like(values: Tensor, device: torch.device) -> Tensor:
    return torch.empty_strided(values.size(), values.stride(), dtype=values.dtype, device=device)
