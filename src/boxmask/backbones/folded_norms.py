"""Frozen batch norms as part of the convolution before them.

A frozen norm is one factor and one number for each channel. Multiplied into the convolution's
weights it costs nothing, where on its own it reads and writes a whole map, forward and backward,
and keeps one for the backward pass.
"""

from typing import Any, cast

import torch
from timm.layers import BatchNormAct2d, Conv2dSame, conv2d_same
from torch import Tensor, nn


class _WithNorm(nn.Conv2d):
    """A convolution that does the work of the frozen norm behind it."""

    norm_behind: tuple[nn.BatchNorm2d]  # in a tuple: it is a part of another module
    norm_scale: Tensor  # (C, 1, 1, 1) the norm's factors
    norm_shift: Tensor  # (C,) what it adds to them

    def remember_norm(self) -> None:
        """Finds once what the norm does; to be called again where its numbers change."""
        (norm,) = self.norm_behind
        assert norm.running_mean is not None
        assert norm.running_var is not None
        with torch.inference_mode(False), torch.no_grad():
            scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
            shift = norm.bias - norm.running_mean * scale
        self._keep("norm_scale", scale[:, None, None, None])
        self._keep("norm_shift", shift)

    def _keep(self, name: str, values: Tensor) -> None:
        """In the same place as before, where somebody may have noted it."""
        kept = getattr(self, name, None)
        if kept is None or kept.device != values.device or kept.dtype != values.dtype:
            self.register_buffer(name, values, persistent=False)
            return
        with torch.no_grad():
            kept.copy_(values)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of both together."""
        bias = self.norm_shift
        if self.bias is not None:
            bias = bias + self.bias * self.norm_scale.flatten()
        return self.weight * self.norm_scale, bias

    def forward(self, input: Tensor) -> Tensor:
        """Convolution and norm."""
        return self._conv_forward(input, *self.folded())


class _SameWithNorm(_WithNorm):
    """The same with TensorFlow's padding."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolution and norm."""
        own = cast(Any, self)  # timm's types are narrower than torch's
        return conv2d_same(input, *self.folded(), own.stride, own.padding, own.dilation, own.groups)


class _DoneNorm(nn.BatchNorm2d):
    """A norm whose work is done before."""

    def forward(self, input: Tensor) -> Tensor:
        """Nothing is left to do."""
        return input


class _DoneNormAct(BatchNormAct2d):
    """timm's norm with an activation; that is left."""

    def forward(self, x: Tensor) -> Tensor:
        """The activation."""
        return self.act(self.drop(x))


_CONVOLUTIONS: dict[type, type] = {nn.Conv2d: _WithNorm, Conv2dSame: _SameWithNorm}
_NORMS: dict[type, type] = {nn.BatchNorm2d: _DoneNorm, BatchNormAct2d: _DoneNormAct}


@torch.no_grad()
def fold_frozen_norms(body: nn.Module) -> int:
    """Folds norms that do not learn into the convolutions whose output they take.

    Names and values of weights stay as they are. What a norm does is found once, and again where
    the body, or a model that it is a part of, loads other weights: change them in no other way. A
    body that takes a convolution's output also without its norm is left as it is.

    Args:
        body: takes (B, 3, H, W) images; its batch norms are in evaluation mode and do not learn.

    Returns:
        How many norms were folded.
    """
    if not any(type(module) in _NORMS for module in body.modules()):
        return 0
    picture = next(body.parameters()).new_empty(3 * 64 * 64)
    picture = torch.linspace(-1, 1, len(picture), out=picture).view(1, 3, 64, 64)
    pairs, expected = _pairs(body, picture)
    kinds = [(type(convolution), type(norm)) for convolution, norm in pairs]
    for convolution, norm in pairs:
        convolution.__class__ = _CONVOLUTIONS[type(convolution)]
        norm.__class__ = _NORMS[type(norm)]
        convolution.norm_behind = (norm,)
        convolution.remember_norm()
    if all(map(_nearly_equal, body(picture), expected)):
        body.register_load_state_dict_post_hook(_remember_norms)
        return len(pairs)
    for (convolution, norm), (plain_convolution, plain_norm) in zip(pairs, kinds, strict=True):
        convolution.__class__, norm.__class__ = plain_convolution, plain_norm
        del convolution.norm_behind, convolution.norm_scale, convolution.norm_shift
    return 0


def _remember_norms(body: nn.Module, *_: Any) -> None:
    """After other weights were loaded."""
    for module in body.modules():
        if isinstance(module, _WithNorm):
            module.remember_norm()


def _nearly_equal(maps: Tensor, expected: Tensor) -> bool:
    return bool((maps - expected).abs().max() <= 1e-2 * expected.abs().max())


def _pairs(body: nn.Module, picture: Tensor) -> tuple[list[tuple[Any, Any]], list[Tensor]]:
    """Convolutions with the norms that take their outputs, found in one run, and its maps."""
    sources: dict[int, tuple[nn.Module, Tensor]] = {}  # by output, which must not be freed
    pairs: dict[nn.Module, nn.Module] = {}

    def remember(module: nn.Module, _: Any, output: Tensor) -> None:
        sources[id(output)] = (module, output)

    def look_up(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        source = sources.get(id(inputs[0]))
        if source is not None:
            pairs[module] = source[0]

    hooks = [m.register_forward_hook(remember) for m in body.modules() if type(m) in _CONVOLUTIONS]
    hooks += [m.register_forward_pre_hook(look_up) for m in body.modules() if type(m) in _NORMS]
    try:
        maps = list(body(picture))
    finally:
        for hook in hooks:
            hook.remove()
    return [(convolution, norm) for norm, convolution in pairs.items()], maps
