"""Pixel decoder and query decoder of Mask2Former, built from the parts in transformers."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoder,
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention,
    Mask2FormerTransformerModule,
)

from boxmask.detectors.query_masks import QueryOutputs, QuerySettings

NUM_LEVELS = 3


class QueryDecoder(nn.Module):
    """Everything of Mask2Former after the backbone.

    The loop over layers is ours: masks that guide attention are computed at the size that it
    needs, and the large ones at stride 4 only for those who ask.

    Args:
        settings: see `QuerySettings`.
        channels: of the backbone's maps at strides 4, 8, 16 and 32.
        num_classes: classes.
    """

    def __init__(self, settings: QuerySettings, channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.settings = settings
        width = settings.channels
        config = _config(settings)
        self.pixel_decoder = Mask2FormerPixelDecoder(config, feature_channels=list(channels))
        self.transformer = Mask2FormerTransformerModule(in_features=width, config=config)
        self.class_predictor = nn.Linear(width, num_classes + 1)
        _initialize(self)

    def forward(self, maps: Sequence[Tensor]) -> QueryOutputs:
        """Outputs from maps (B, C, h, w) at strides 4, 8, 16 and 32."""
        with torch.autocast(maps[0].device.type, enabled=False):  # sampling needs exact places
            decoded = self.pixel_decoder([found.float() for found in maps])
        pixels = decoded.mask_features
        states = self._states(decoded.multi_scale_features, pixels)
        hidden = self.transformer.decoder.layernorm(torch.stack(states))  # (L, Q, B, C)
        hidden = hidden.transpose(1, 2)
        return QueryOutputs(
            class_logits=self.class_predictor(hidden),
            embeddings=self._embed(hidden),
            pixels=pixels,
        )

    def _states(self, levels: Sequence[Tensor], pixels: Tensor) -> list[Tensor]:
        """Queries (Q, B, C) before and after each layer."""
        module = self.transformer
        values, places = zip(*(self._flat(i, level) for i, level in enumerate(levels)), strict=True)
        small = [  # masks at a level's size are products of embeddings at that size
            F.interpolate(pixels.detach(), level.shape[-2:], mode="bilinear", align_corners=False)
            for level in levels
        ]
        count = len(pixels)
        query_places = module.queries_embedder.weight[:, None].expand(-1, count, -1)
        states = [module.queries_features.weight[:, None].expand(-1, count, -1)]  # (Q, B, C)
        for index, layer in enumerate(module.decoder.layers):
            level = index % NUM_LEVELS
            closed = self._closed(states[-1], small[level])
            found = layer(
                states[-1], level, None, places, query_places, values, encoder_attention_mask=closed
            )
            states.append(found[0])
        return states

    def _flat(self, index: int, level: Tensor) -> tuple[Tensor, Tensor]:
        """Values and places of a level's cells: (h * w, B, C) each."""
        module = self.transformer
        values = module.input_projections[index](level) + module.level_embed.weight[index].view(
            1, -1, 1, 1
        )
        places = module.position_embedder(level.shape, level.device, torch.float32)
        return values.flatten(2).permute(2, 0, 1), places.flatten(2).permute(2, 0, 1)

    @torch.no_grad()
    def _closed(self, state: Tensor, pixels: Tensor) -> Tensor:
        """Cells (B * heads, Q, h * w) that queries may not look at: outside of their masks.

        A query with an empty mask looks everywhere.
        """
        hidden = self.transformer.decoder.layernorm(state).transpose(0, 1)
        logits = self._embed(hidden) @ pixels.flatten(2)  # (B, Q, h * w)
        closed = logits < 0
        closed &= ~closed.all(dim=-1, keepdim=True)
        return closed.repeat_interleave(self.settings.heads, dim=0)

    def _embed(self, hidden: Tensor) -> Tensor:
        return self.transformer.decoder.mask_predictor.mask_embedder(hidden)


def _config(settings: QuerySettings) -> Mask2FormerConfig:
    return Mask2FormerConfig(
        feature_size=settings.channels,
        mask_feature_size=settings.channels,
        hidden_dim=settings.channels,
        num_attention_heads=settings.heads,
        encoder_layers=settings.encoder_layers,
        encoder_feedforward_dim=settings.encoder_hidden,
        decoder_layers=settings.decoder_layers + 1,  # the library counts the first output
        dim_feedforward=settings.decoder_hidden,
        num_queries=settings.num_queries,
    )


def _initialize(decoder: QueryDecoder) -> None:
    """First weights as published; the library sets them only in its own complete models."""
    nn.init.normal_(decoder.pixel_decoder.level_embed)
    layers = [*decoder.pixel_decoder.encoder.layers, *decoder.transformer.decoder.layers]
    for layer in layers:
        for parameter in layer.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
    for module in decoder.modules():
        if isinstance(module, Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention):
            _initialize_sampling(module)


def _initialize_sampling(
    attention: Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention,
) -> None:
    """Each head looks along its own ray, 1, 2, ... cells far, at all points alike.

    Source: Deformable DETR (ICLR 2021), appendix on initialisation.
    """
    angles = torch.arange(attention.n_heads) * (2 * math.pi / attention.n_heads)
    rays = torch.stack([angles.cos(), angles.sin()], dim=-1)  # (heads, 2)
    rays = rays / rays.abs().amax(dim=-1, keepdim=True)
    steps = torch.arange(1, attention.n_points + 1)
    offsets = rays[:, None, None] * steps[:, None]  # (heads, 1, points, 2)
    offsets = offsets.expand(-1, attention.n_levels, -1, -1)
    with torch.no_grad():
        attention.sampling_offsets.bias.copy_(offsets.flatten())
    nn.init.zeros_(attention.sampling_offsets.weight)
    nn.init.zeros_(attention.attention_weights.weight)
    nn.init.zeros_(attention.attention_weights.bias)
    nn.init.zeros_(attention.value_proj.bias)
    nn.init.zeros_(attention.output_proj.bias)
