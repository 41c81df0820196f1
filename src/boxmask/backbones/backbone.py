"""Backbone contract: images in, maps at strides 8, 16 and 32 (and 4) out. Any timm model serves."""

import warnings
from dataclasses import dataclass
from typing import Any, cast

import timm
import torch
from timm.layers import Conv2dSame
from timm.models import FeatureInfo
from torch import Tensor, nn

from boxmask.backbones.deformable import make_deformable
from boxmask.backbones.folded_norms import fold_frozen_norms
from boxmask.backbones.pretrained import (
    PACKAGES,
    check_reachable,
    load_packaged,
    packaged_file,
    unreachable,
)
from boxmask.backbones.stages import (
    PartialMaps,
    count_frozen,
    has_channels_last,
    run_stages,
    stages_of,
)
from boxmask.errors import UserError

DEFAULT_BACKBONE = "tf_efficientnet_lite0"


@dataclass(frozen=True, kw_only=True)
class BackboneSettings:
    """Which timm model, and how much of it learns.

    Attributes:
        name: any timm model that knows `features_only`.
        pretrained: start from ImageNet weights.
        frozen_norm: keep batch-norm statistics and scales as pretrained; right for small batches.
        frozen_stages: how many of the first stages do not learn: 0; 1, all before stride 4; 2, also
            the stage at stride 4, as published. Known for ResNets, EfficientNets, ConvNeXts
            and Swins.
        strides: of the maps that are returned, finest first.
        deform_interval: in a ResNet, blocks from one deformable convolution to the next; 0 for
            none. Published: 3.
    """

    name: str = DEFAULT_BACKBONE
    pretrained: bool = True
    frozen_norm: bool = True
    frozen_stages: int = 0
    strides: tuple[int, ...] = (8, 16, 32)
    deform_interval: int = 0

    def build(self) -> "Backbone":
        """The backbone, with weights loaded."""
        return Backbone(self)


# How parameters before stride 4, and those of the stage at stride 4, start in ResNets,
# EfficientNets, ConvNeXts and Swins.
FIRST_STAGES = (
    ("conv1.", "bn1.", "conv_stem.", "blocks.0.", "stem_", "patch_embed."),
    ("layer1.", "blocks.1.", "stages_0.", "layers_0."),
)


class Backbone(nn.Module):
    """A timm `features_only` model that takes RGB in 0..1 and normalises it itself.

    Attributes:
        channels: channels of each returned map.
        strides: input pixels of a cell of each returned map, as the settings ask.
        num_frozen: how many of the body's first stages never learn. Copies keep the number.
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
        self.train()  # frozen norms take their mode now: nobody may call train() later
        self._pads_by_size = any(isinstance(m, Conv2dSame) for m in self.body.modules())
        if settings.frozen_norm:
            fold_frozen_norms(self.body)
        self.num_frozen = count_frozen(stages_of(self.body))

    def forward(
        self, images: Tensor, valid: Tensor, frozen: PartialMaps | None = None
    ) -> list[Tensor]:
        """Maps from images.

        Args:
            images: (B, 3, H, W) RGB in 0..1, H and W multiples of 32.
            valid: (B, H, W) bool; padding becomes 0 after the normalisation.
            frozen: `frozen_maps` of the same images, by this backbone or by one that started from
                the same weights; spares the first stages.

        Returns:
            One map a stride (B, channels[i], H / strides[i], W / strides[i]).
        """
        if frozen is None:
            maps = self.body(self._normalized(images, valid))
        else:
            maps = run_stages(stages_of(self.body)[self.num_frozen :], frozen).maps
        if has_channels_last(self.body):
            return [found.permute(0, 3, 1, 2) for found in maps]
        return list(maps)

    @torch.no_grad()
    def frozen_maps(self, images: Tensor, valid: Tensor) -> PartialMaps | None:
        """What the first stages, which never learn, make of images; None where all stages learn.

        Arguments as for `forward`.
        """
        if self.num_frozen == 0:
            return None
        first = stages_of(self.body)[: self.num_frozen]
        start = PartialMaps(
            last=self._normalized(images, valid), channels_last=has_channels_last(self.body)
        )
        return run_stages(first, start)

    @property
    def map_parts(self) -> list[nn.Module]:
        """This backbone, if a compiler can make one code of it for pictures of all sizes.

        Convolutions padded as TensorFlow does it compute their padding from the size, layer upon
        layer: a tracer with symbols for sizes takes minutes over that.
        """
        return [] if self._pads_by_size else [self]

    def _normalized(self, images: Tensor, valid: Tensor) -> Tensor:
        normalized = (images - self.mean) / self.std * valid[:, None]
        return normalized.contiguous(memory_format=torch.channels_last)

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
        prefixes = sum(FIRST_STAGES[: self.settings.frozen_stages], ())
        for name, parameter in self.body.named_parameters():
            if name.startswith(prefixes) and prefixes:
                parameter.requires_grad_(False)


def _create(settings: BackboneSettings) -> nn.Module:
    """The timm model, pretrained from a package on disk, from timm's hub, or not at all."""
    name = settings.name
    if name not in timm.list_models():
        close = timm.list_models(f"*{name[:6]}*")[:5]
        raise UserError(
            f"no timm model is called {name!r}",
            fix=f"similar names: {', '.join(close) or 'none'}; see timm.list_models()",
        )
    packaged = packaged_file(name) if settings.pretrained else None
    from_hub = settings.pretrained and packaged is None
    options = _options(settings)
    if from_hub:
        check_reachable(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = timm.create_model(name, features_only=True, pretrained=from_hub, **options)
    except Exception as error:
        raise unreachable(name, str(error).splitlines()[0]) from error
    if packaged is not None:
        load_packaged(body, name, packaged)
    if settings.deform_interval:
        _deform(body, settings)
    return body


def _deform(body: nn.Module, settings: BackboneSettings) -> None:
    try:
        make_deformable(body, settings.deform_interval)
    except ValueError as error:
        raise UserError(str(error), where=settings.name, fix="leave out -dcn") from error


def _options(settings: BackboneSettings) -> dict[str, Any]:
    """What timm must be told: which maps, and that pictures may have any size.

    Raises:
        UserError: If the model has no maps at the wanted strides.
    """
    any_size: dict[str, Any] = {"strict_img_size": False} if "swin" in settings.name else {}
    try:
        body = timm.create_model(settings.name, features_only=True, pretrained=False, **any_size)
        reductions = [stage["reduction"] for stage in cast(FeatureInfo, body.feature_info).info]
        missing = sorted(set(settings.strides) - set(reductions))
        if missing:
            raise ValueError(f"it has no map at stride {missing}")
    except Exception as error:
        raise UserError(
            f"{settings.name} cannot serve as a backbone",
            where=str(error).splitlines()[0],
            fix="take a convolutional or hierarchical timm model, such as resnet50",
        ) from error
    return {"out_indices": tuple(reductions.index(s) for s in settings.strides), **any_size}


def _statistics(body: nn.Module, name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of RGB in 0..1 that the weights were trained with."""
    if name in PACKAGES:
        return (127 / 255,) * 3, (128 / 255,) * 3
    config = timm.get_pretrained_cfg(name)
    if config is None:
        return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return config.mean, config.std
