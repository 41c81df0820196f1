"""A GPU that is not there: tensors that know their device and their shape, and have no values.

Mixing two devices fails on them as it does on a real GPU. What the host asks the device for is
counted and answered with made-up numbers, since nothing is computed; there is no backward pass.
What is on the host has its values.
"""

import collections
import contextlib
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import boxmask
from boxmask.ops.points import _kept_point_grid
from boxmask.waitless import constants

PACKAGE = Path(boxmask.__file__).parent
# Operators whose result has a size that only the device knows, or that give the host a number.
ASKING = {
    "aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2",
    "aten::unique_dim", "aten::bincount", "aten::repeat_interleave.Tensor", "aten::equal",
    "torchvision::nms",
}  # fmt: skip
INDEXING = {"aten::index.Tensor", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
LISTED = 12  # entries of a list whose length only the device knows
CHOSEN = 2  # entries that a bool mask picks


class AbsentGPU(TorchDispatchMode):
    """Answers what only a device could.

    Attributes:
        device: the GPU.
        waits: how often the host asked it for something, by function of the package.
        operators: how many it was asked for, views among them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.device = torch.device("cuda")
        self.waits: collections.Counter[str] = collections.Counter()
        self.operators = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func.name(), kwargs or {}
        if not _concerns_gpu(args, kwargs):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        # Python asks tensors without values for their device by dispatch, a number of times that
        # varies; a GPU never hears of it.
        self.operators += not name.startswith("prim::")
        if _asks(name, args, kwargs):
            self.waits[calling_function()] += 1
        answer = ANSWERS.get(name)
        if answer is not None:
            return answer(*args)
        if name in ("aten::_to_copy", "aten::copy_") and _target(name, args, kwargs) == "cpu":
            return _on_host(name, args, kwargs)
        if "_foreach_" in name:
            _check_devices([one for many in args if isinstance(many, list) for one in many])
        if name in INDEXING:
            known = [index for index in args[1] if index is not None]
            _check_devices([args[0], *(one for one in known if one.device.type != "cpu")])
            indices = [_numbers(index) for index in args[1]]
            args = (args[0], [one for index in indices for one in index], *args[2:])
        return func(*args, **kwargs)


def _concerns_gpu(args: Any, kwargs: Any) -> bool:
    leaves = tree_leaves((args, kwargs))
    devices = [one.device if isinstance(one, Tensor) else one for one in leaves]
    return any(isinstance(one, torch.device) and one.type == "cuda" for one in devices)


def _target(name: str, args: Any, kwargs: Any) -> str:
    """Type of the device that a copy is made on."""
    named = kwargs.get("device") if name == "aten::_to_copy" else None
    return (args[0].device if named is None else torch.device(named)).type


def _asks(name: str, args: Any, kwargs: Any) -> bool:
    """Whether the host has to wait for the GPU; copies from the host wait as well."""
    if name in ("aten::_to_copy", "aten::copy_"):
        source = args[0] if name == "aten::_to_copy" else args[1]
        waits = not kwargs.get("non_blocking") and args[2:] != (True,)
        return waits and source.device.type != _target(name, args, kwargs)
    if name in INDEXING:
        known = [index for index in args[1] if index is not None]
        return any(one.dtype == torch.bool or one.device.type == "cpu" for one in known)
    return name in ASKING and kwargs.get("output_size") is None


def calling_function() -> str:
    """Which function of the package asks."""
    frames = traceback.extract_stack()
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)]
    if not ours:
        return "elsewhere"
    return f"{Path(ours[-1].filename).relative_to(PACKAGE).as_posix()} {ours[-1].name}"


def _on_host(name: str, args: Any, kwargs: Any) -> Tensor:
    """A copy of what has no values, or the same tensor filled with it."""
    with unset_fake_temporarily():
        if name == "aten::copy_":
            return args[0].zero_()
        return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)


def _check_devices(tensors: list[Tensor]) -> None:
    """What these operators ask for and tensors without values do not."""
    if len({one.device for one in tensors}) > 1:
        raise RuntimeError(f"not on the same device: {[one.device for one in tensors]}")


def _numbers(index: Tensor | None) -> list[Tensor | None]:
    """A bool mask as the numbers that it stands for."""
    if index is None or index.dtype != torch.bool:
        return [index]
    return list(_places(index, CHOSEN, index.dim()).unbind(1))


def _places(mask: Tensor, most: int, dimensions: int) -> Tensor:
    count = min(most, mask.numel())
    return torch.zeros((count, dimensions), dtype=torch.int64, device=mask.device)


def _scalar(value: Tensor) -> float | bool:
    return {torch.bool: True, torch.int64: 1}.get(value.dtype, 0.0)


def _bincount(index: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    return torch.zeros(max(minlength, 1), dtype=torch.int64, device=index.device)


def _different(values: Tensor, axis: int, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Values, the place of each among them, and how often each comes."""
    length = values.shape[axis]
    found = values.narrow(axis, 0, min(CHOSEN, length)).clone()
    place = torch.zeros(length, dtype=torch.int64, device=values.device)
    return found, place, place[: found.shape[axis]].clone()


ANSWERS: dict[str, Callable[..., Any]] = {
    "aten::_local_scalar_dense": _scalar,
    "aten::nonzero": lambda mask: _places(mask, LISTED, mask.dim()),
    "aten::bincount": _bincount,
    "aten::unique_dim": _different,
    "torchvision::nms": lambda boxes, scores, *_: _places(scores, LISTED, 1)[:, 0],
}


@contextlib.contextmanager
def absent_gpu() -> Iterator[AbsentGPU]:
    """Within it, `cuda` is a device that computes nothing."""
    _forget_tensors()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), AbsentGPU() as gpu:
            yield gpu
    finally:
        _forget_tensors()  # those made within have no values


def _forget_tensors() -> None:
    """All that the package keeps by device."""
    constants.cache_clear()
    _kept_point_grid.cache_clear()


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
