"""A timm body as a list of stages, so that its first, frozen ones can be run apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from timm.layers import DropPath, Format
from timm.models import FeatureListNet
from timm.models.efficientnet import EfficientNetFeatures
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

# Modules that do something else in training mode than in evaluation mode.
_RESTLESS = (_BatchNorm, _DropoutNd, DropPath)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One module of the chain; where `returned`, its output is one of the body's maps."""

    module: nn.Module
    returned: bool


@dataclass(frozen=True, kw_only=True)
class PartialMaps:
    """How far a body has come.

    Attributes:
        last: the last stage's output.
        maps: those of the body's maps that were found on the way.
        channels_last: whether the body's maps are (B, h, w, C), as Swin's, and not (B, C, h, w).
    """

    last: Tensor
    maps: tuple[Tensor, ...] = ()
    channels_last: bool = False

    @property
    def appearance(self) -> Tensor:
        """(B, C, h, w) features of the last stage."""
        return self.last.permute(0, 3, 1, 2) if self.channels_last else self.last


def stages_of(body: nn.Module) -> list[Stage]:
    """The chain of a timm `features_only` body; empty where it is not known to be a chain.

    Known are ResNets, EfficientNets, ConvNeXts, Swins and all others that timm cuts in the same
    way as these.
    """
    if isinstance(body, FeatureListNet) and not body.concat:
        return [
            Stage(module=module, returned=name in body.return_layers)
            for name, module in body.items()
        ]
    if isinstance(body, EfficientNetFeatures) and body.feature_hooks is None:
        returned = set(body.feature_info.module_name())
        return [
            Stage(module=module, returned=name in returned) for name, module in _efficientnet(body)
        ]
    return []


def _efficientnet(body: EfficientNetFeatures) -> Iterator[tuple[str, nn.Module]]:
    yield "conv_stem", body.conv_stem
    yield "bn1", body.bn1
    for index, block in enumerate(body.blocks):
        yield f"blocks.{index}", block


def has_channels_last(body: nn.Module) -> bool:
    """Whether the maps of a timm `features_only` body are (B, h, w, C)."""
    return getattr(body, "output_fmt", Format.NCHW) == Format.NHWC


def count_frozen(stages: Sequence[Stage]) -> int:
    """How many of the first stages always do the same: no weight learns, nothing is random.

    Modes are taken as they are now: a batch norm in training mode moves, a dropout draws.
    """
    return len(list(takewhile(lambda stage: _is_frozen(stage.module), stages)))


def _is_frozen(module: nn.Module) -> bool:
    moving = any(m.training and isinstance(m, _RESTLESS) for m in module.modules())
    return not moving and not any(p.requires_grad for p in module.parameters())


def run_stages(stages: Sequence[Stage], start: PartialMaps) -> PartialMaps:
    """Goes on from `start` through stages."""
    last, maps = start.last, [*start.maps]
    for stage in stages:
        last = stage.module(last)
        if stage.returned:
            maps.append(last)
    return replace(start, last=last, maps=tuple(maps))
