"""The dynamic mask head: three 1x1 convolutions whose weights each object brings along.

The first layer is one matrix product a picture: relative coordinates are affine in x and y, so
they fold into three more rows of the features (x, y, 1), and no feature is copied per object. On a
CPU all three layers are one compiled pass, see `dynamic_mask_cpu.py`, and on a GPU one kernel where
Triton runs, see `dynamic_mask_triton.py`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from boxmask.ops.fused import fused_kernels_run

HIDDEN = 8  # channels between the layers, as published
MOST_FEATURES = 16  # that the compiled forms can take
# Of a hidden layer of the objects that are looked at together: on other devices, and on a CPU.
BYTES_TOGETHER = (2**28, 2**20)


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
    logits = three_layers(rows, (first, w2, w3, b2, b3), image_index)
    return logits.unflatten(-1, (height, width))


def three_layers(rows: Tensor, layers: Sequence[Tensor], image_index: Tensor) -> Tensor:
    """Logits (K, P) of objects sorted by image, from rows (B, D + 3, P)."""
    batch, num_rows, _ = rows.shape
    compiled = rows.dtype == torch.float32 and num_rows <= MOST_FEATURES + 3
    if compiled and fused_kernels_run("masks", rows.device):
        from boxmask.ops import dynamic_mask_triton  # Triton is not everywhere

        images = torch.arange(batch + 1, device=rows.device)
        starts = torch.searchsorted(image_index, images)
        return cast(Tensor, dynamic_mask_triton.FusedThreeLayers.apply(rows, *layers, starts))
    counts = torch.bincount(image_index, minlength=batch).tolist()
    if compiled and rows.device.type == "cpu":
        from boxmask.ops import dynamic_mask_cpu  # numba is slow to import

        return cast(Tensor, dynamic_mask_cpu.FusedThreeLayers.apply(rows, *layers, tuple(counts)))
    parts = zip(*(one.split(list(counts)) for one in layers), strict=True)
    logits = [ThreeLayers.apply(rows[image], *part) for image, part in enumerate(parts)]
    return torch.cat(cast(list[Tensor], logits))


class ThreeLayers(torch.autograd.Function):
    """The head of n objects of one picture in matrix products, a few objects at a time.

    What lies between the layers fits into a processor's cache and is never kept: the backward
    pass finds it anew, which is cheaper than writing it to memory and reading it back, and memory
    does not grow with objects times channels.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, w1: Tensor, w2: Tensor, w3: Tensor, b2: Tensor, b3: Tensor
    ) -> Tensor:
        """Logits (n, P) of rows (D + 3, P), w1 (n, 8, D + 3) and the other layers' numbers."""
        ctx.save_for_backward(rows, w1, w2, w3, b2, b3)
        logits = rows.new_empty(len(w1), rows.shape[1])
        for part in _parts(rows, len(w1)):
            _, second = _hidden(rows, w1[part], w2[part], b2[part])
            torch.baddbmm(b3[part, :, None], w3[part], second, out=logits[part, None])
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyrefly: ignore
        """Gradients of all six inputs."""
        rows, w1, w2, w3, b2, b3 = ctx.saved_tensors
        gradients = tuple(torch.zeros_like(one) for one in (rows, w1, w2, w3, b2, b3))
        of_rows, of_w1, of_w2, of_w3, of_b2, of_b3 = gradients
        for part in _parts(rows, len(w1)):
            first, second = _hidden(rows, w1[part], w2[part], b2[part])  # (k, 8, P)
            down = grad_outputs[0][part, None]  # (k, 1, P)
            of_b3[part] = down.sum(dim=2)
            of_w3[part] = down @ second.transpose(1, 2)
            down = _through_relu(w3[part].transpose(1, 2) * down, second)  # (k, 8, P)
            of_b2[part] = down.sum(dim=2)
            of_w2[part] = down @ first.transpose(1, 2)
            down = _through_relu(w2[part].transpose(1, 2) @ down, first).flatten(0, 1)
            of_w1[part] = (down @ rows.T).unflatten(0, (-1, HIDDEN))
            of_rows.addmm_(w1[part].flatten(0, 1).T, down)
        return gradients


def _hidden(rows: Tensor, w1: Tensor, w2: Tensor, b2: Tensor) -> tuple[Tensor, Tensor]:
    """Both hidden layers of k objects, each (k, 8, P)."""
    first = (w1.flatten(0, 1) @ rows).relu_().unflatten(0, (-1, HIDDEN))
    return first, torch.baddbmm(b2[..., None], w2, first).relu_()


def _through_relu(gradient: Tensor, output: Tensor) -> Tensor:
    """The gradient before a ReLU, whose output is known."""
    return torch.ops.aten.threshold_backward(gradient, output, 0)


def _parts(rows: Tensor, count: int) -> Iterator[slice]:
    """Which objects are looked at together."""
    bytes_of_one = max(HIDDEN * rows.shape[1] * rows.element_size(), 1)
    together = max(BYTES_TOGETHER[rows.device.type == "cpu"] // bytes_of_one, 1)
    for start in range(0, count, together):
        yield slice(start, start + together)
