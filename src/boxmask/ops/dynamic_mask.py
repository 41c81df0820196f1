"""The dynamic mask head: three 1x1 convolutions whose weights each object brings along.

The first layer is one matrix product a picture: relative coordinates are affine in x and y, so
they fold into three more rows of the features (x, y, 1), and no feature is copied per object.
"""

import torch
from torch import Tensor

HIDDEN = 8  # channels between the layers, as published


def num_dynamic_parameters(channels: int) -> int:
    """Numbers an object brings along for `channels` mask features: 169 for 8, 233 for 16."""
    return (channels + 2) * HIDDEN + HIDDEN + HIDDEN * HIDDEN + HIDDEN + HIDDEN + 1


def split_parameters(parameters: Tensor, channels: int) -> tuple[Tensor, ...]:
    """Cuts (K, num_dynamic_parameters) into w1, w2, w3, b1, b2, b3, in this order.

    Returns:
        w1 (K, 8, channels + 2) with the x and y columns first, w2 (K, 8, 8), w3 (K, 1, 8),
        b1 (K, 8), b2 (K, 8), b3 (K, 1).

    Source: published CondInst code.
    """
    sizes = [(channels + 2) * HIDDEN, HIDDEN * HIDDEN, HIDDEN, HIDDEN, HIDDEN, 1]
    w1, w2, w3, b1, b2, b3 = parameters.split(sizes, dim=-1)
    count = len(parameters)
    return (
        w1.reshape(count, HIDDEN, channels + 2),
        w2.reshape(count, HIDDEN, HIDDEN),
        w3.reshape(count, 1, HIDDEN),
        b1,
        b2,
        b3,
    )


def dynamic_mask_logits(
    features: Tensor,
    parameters: Tensor,
    points: Tensor,
    reach: Tensor,
    image_index: Tensor,
    *,
    stride: int,
) -> Tensor:
    """Mask logits of K objects on the grid of the mask features.

    Args:
        features: (B, D, h, w) mask features.
        parameters: (K, num_dynamic_parameters(D)) weights and biases of each object.
        points: (K, 2) x, y in input pixels that coordinates are relative to.
        reach: (K,) input pixels that count as one unit of relative coordinates.
        image_index: (K,) int64 image of each object, not decreasing.
        stride: input pixels of a cell of `features`.

    Returns:
        (K, h, w) logits.

    Source: CondInst (ECCV 2020), section 3.2.
    """
    batch, channels, height, width = features.shape
    w1, w2, w3, b1, b2, b3 = split_parameters(parameters, channels)
    x = (torch.arange(width, device=features.device) + 0.5) * stride
    y = (torch.arange(height, device=features.device) + 0.5) * stride
    coordinates = torch.stack(
        [
            x.expand(height, width),
            y[:, None].expand(height, width),
            torch.ones_like(x).expand(height, width),
        ]
    ).to(features.dtype)  # (3, h, w)
    rows = torch.cat([features, coordinates.expand(batch, -1, -1, -1)], dim=1).flatten(
        2
    )  # (B, D + 3, h * w)
    w_x, w_y, w_features = w1[..., 0], w1[..., 1], w1[..., 2:]
    per_unit = reach[:, None]
    constant = (w_x * points[:, :1] + w_y * points[:, 1:]) / per_unit + b1  # (K, 8)
    first = torch.cat(
        [
            w_features,
            -(w_x / per_unit)[..., None],
            -(w_y / per_unit)[..., None],
            constant[..., None],
        ],
        dim=-1,
    )  # (K, 8, D + 3)
    counts = torch.bincount(image_index, minlength=batch).tolist()
    hidden = torch.cat(
        [
            (weights.flatten(0, 1) @ rows[image]).unflatten(0, (-1, HIDDEN))
            for image, weights in enumerate(first.split(counts))
        ]
    )  # (K, 8, h * w)
    hidden = torch.baddbmm(b2[..., None], w2, hidden.relu()).relu()
    logits = torch.baddbmm(b3[..., None], w3, hidden)  # (K, 1, h * w)
    return logits.reshape(-1, height, width)
