"""Masks of queries: each is a product of what a query and what every cell embeds."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class QuerySettings:
    """Sizes of the pixel decoder and of the query decoder.

    Attributes:
        num_queries: queries Q, the most objects of an image. Published: 100.
        channels: of queries and maps, a multiple of 32. Published: 256.
        heads: of every attention. Published: 8.
        encoder_layers: of the pixel decoder. Published: 6.
        encoder_hidden: channels inside their feed-forward parts. Published: 1024.
        decoder_layers: of the query decoder. Published: 9.
        decoder_hidden: channels inside their feed-forward parts. Published: 2048.
    """

    num_queries: int = 100
    channels: int = 256
    heads: int = 8
    encoder_layers: int = 6
    encoder_hidden: int = 1024
    decoder_layers: int = 9
    decoder_hidden: int = 2048

    def __post_init__(self) -> None:
        if self.channels % 32 or self.channels % self.heads:
            raise ValueError(
                "channels: expected a multiple of 32 and of heads, "
                f"got {self.channels} with {self.heads} heads"
            )


@dataclass(frozen=True, kw_only=True)
class QueryOutputs:
    """What Q queries of B images say in each of L outputs: before and after each decoder layer.

    Masks are kept as factors: few of the L * Q masks of an image are ever looked at.

    Attributes:
        class_logits: (L, B, Q, C + 1), the last one for no object.
        embeddings: (L, B, Q, D) of the queries.
        pixels: (B, D, h, w) embedding of each cell at stride 4.
    """

    class_logits: Tensor
    embeddings: Tensor
    pixels: Tensor


def image_mask_logits(outputs: QueryOutputs, image: int, output: Tensor, query: Tensor) -> Tensor:
    """Masks of some queries of one image.

    Args:
        outputs: of all images.
        image: which image.
        output: (K,) which of the L outputs.
        query: (K,) which query.

    Returns:
        (K, h, w) logits in float32.
    """
    pixels = outputs.pixels[image]  # (D, h, w)
    with torch.autocast(pixels.device.type, enabled=False):
        embeddings = outputs.embeddings[output, image, query].float()  # (K, D)
        logits = embeddings @ pixels.float().flatten(1)  # (K, h * w)
    return logits.unflatten(1, pixels.shape[1:])
