"""Moving-average copy of a model."""

import copy
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Model = TypeVar("Model", bound=nn.Module)


class MovingAverage(nn.Module, Generic[Model]):
    """A copy of a model whose weights follow slowly; it never has a graph.

    Make it after the model's weights are loaded. `update` goes after the optimizer step. The
    decay warms up, min(decay, (1 + t) / (10 + t)), so that the first weights are soon forgotten
    and short runs have a useful average.

    Args:
        model: the model to follow.
        decay: share of the old value at each update, in 0..1, once warm.
    """

    def __init__(self, model: Model, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay: expected 0 <= decay < 1, got {decay}")
        self.model: Model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0
        self._same: list[tuple[Tensor, int]] = []  # both models' buffers and how often written to

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Moves every weight towards the model's; buffers are copied where they have changed."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        (mine, my_buffers), (theirs, buffers) = _tensors_of(self.model), _tensors_of(model)
        torch._foreach_lerp_(mine, theirs, 1 - decay)
        # Norms in training write into their statistics without a trace.
        if any(norm.training for norm in _norms_of(model)) or not _are(
            self._same, my_buffers + buffers
        ):
            torch._foreach_copy_(my_buffers, buffers)
            self._same = [(one, one._version) for one in my_buffers + buffers]
        self.updates += 1

    def get_extra_state(self) -> int:
        """How often it moved, for the state dict."""
        return self.updates

    def set_extra_state(self, state: int) -> None:
        """Takes the number back."""
        self.updates = state

    def train(self, mode: bool = True) -> "MovingAverage":
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(self, *args: Tensor) -> object:
        """The averaged model's outputs."""
        return self.model(*args)


def _are(known: list[tuple[Tensor, int]], tensors: list[Tensor]) -> bool:
    """Whether these are the known tensors, and nothing that leaves a trace has changed them."""
    return len(known) == len(tensors) and all(
        one is tensor and tensor._version == version
        for (one, version), tensor in zip(known, tensors, strict=True)
    )


_NORMS: WeakKeyDictionary[nn.Module, list[_BatchNorm]] = WeakKeyDictionary()


def _norms_of(model: nn.Module) -> list[_BatchNorm]:
    """The batch norms of a model, looked up once."""
    if model not in _NORMS:
        _NORMS[model] = [one for one in model.modules() if isinstance(one, _BatchNorm)]
    return _NORMS[model]


_PLACES: WeakKeyDictionary[nn.Module, list[Any]] = WeakKeyDictionary()


def _tensors_of(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters and buffers, no tensor twice.

    A walk over all modules takes the host longer than the step of the average. Where their tensors
    are kept is looked up once: a move to another device puts new ones into the same places, but a
    module that joins the model later is not seen.
    """
    if model not in _PLACES:
        _PLACES[model] = [(one._parameters, one._buffers) for one in model.modules()]
    parameters, buffers = (
        list(dict.fromkeys(tensor for place in places for tensor in place.values()))
        for places in zip(*_PLACES[model], strict=True)
    )
    return [one for one in parameters if one is not None], [
        one for one in buffers if one is not None
    ]
