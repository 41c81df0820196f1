"""What the speed benchmark runs: each hot path, ours and the plain form, on the same numbers."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from boxmask.benchmark import plain_forms
from boxmask.ops.affinity import NEIGHBORS, color_similarity
from boxmask.ops.dynamic_mask import HIDDEN, dynamic_mask_logits, num_dynamic_parameters
from boxmask.ops.pairwise import pairwise_sum

DILATION = 2
CHANNELS = 16  # mask features
STRIDE = 8  # of the mask features of the published sizes
MASK_STRIDE = 4

Results = tuple[Tensor, ...]
Run = Callable[[], Results]


@dataclass(frozen=True, kw_only=True)
class HotPath:
    """One path at one size.

    Attributes:
        name: of the path.
        size: (height, width) of the picture in pixels.
        num_objects: masks of the picture.
        ours: does it, and gives values and gradients.
        plain: does the same in the usual way.
        least_bytes: that must be read and written, whatever the method.
        least_flops: floating-point operations of its products.
        once_a_picture: whether the number of objects changes nothing.
    """

    name: str
    size: tuple[int, int]
    num_objects: int
    ours: Run
    plain: Run
    least_bytes: float
    least_flops: float = 0.0
    once_a_picture: bool = False


def hot_paths(size: tuple[int, int], num_objects: int, device: torch.device) -> list[HotPath]:
    """All paths for one picture.

    Args:
        size: (height, width) in pixels, multiples of 8 are best.
        num_objects: masks.
        device: where they run.
    """
    return [
        pairwise_path(size, num_objects, device),
        dynamic_path(size, num_objects, device),
        color_path(size, num_objects, device),
    ]


def pairwise_path(size: tuple[int, int], num_objects: int, device: torch.device) -> HotPath:
    """The pairwise term with its gradient, boxes of a quarter of the picture's sides."""
    height, width = size[0] // MASK_STRIDE, size[1] // MASK_STRIDE
    random = torch.Generator().manual_seed(0)
    logits = (torch.randn(num_objects, height, width, generator=random) * 2).to(device)
    lab = torch.rand(1, 3, height, width, generator=random).to(device) * 6
    valid = torch.ones(1, height, width, dtype=torch.bool, device=device)
    similar = color_similarity(lab, valid, DILATION) >= 0.3
    inside = torch.zeros(num_objects, height, width, dtype=torch.bool, device=device)
    for row in range(num_objects):
        y, x = (
            int(torch.randint(side - side // 4, (), generator=random)) for side in (height, width)
        )
        inside[row, y : y + height // 4, x : x + width // 4] = True
    image_index = torch.zeros(num_objects, dtype=torch.int64, device=device)

    logits.requires_grad_()

    def run(function: Callable[..., tuple[Tensor, Tensor]]) -> Results:
        total, count = function(logits, similar, inside, image_index, dilation=DILATION)
        loss = total / count
        return loss.detach(), *torch.autograd.grad(loss, logits)

    edges = 1 / logits.element_size() * len(NEIGHBORS) / num_objects  # bools, once a picture
    return HotPath(
        name="pairwise term, forward and backward",
        size=size,
        num_objects=num_objects,
        ours=lambda: run(pairwise_sum),
        plain=lambda: run(plain_forms.pairwise_sum),
        least_bytes=logits.numel() * logits.element_size() * (2 + edges),
    )


def dynamic_path(size: tuple[int, int], num_objects: int, device: torch.device) -> HotPath:
    """The dynamic mask head with its gradients, mask features at stride 8."""
    height, width = size[0] // STRIDE, size[1] // STRIDE
    random = torch.Generator().manual_seed(0)
    features = torch.randn(1, CHANNELS, height, width, generator=random).to(device)
    count = num_dynamic_parameters(CHANNELS)
    parameters = (torch.randn(num_objects, count, generator=random) * 0.2).to(device)
    points = torch.rand(num_objects, 2, generator=random).to(device) * min(size)
    reach = torch.full((num_objects,), 64.0, device=device)
    image_index = torch.zeros(num_objects, dtype=torch.int64, device=device)

    down = torch.randn(num_objects, height, width, generator=random).to(device)
    leaves = [one.requires_grad_() for one in (features, parameters)]

    def run(function: Callable[..., Tensor]) -> Results:
        logits = function(*leaves, points, reach, image_index, stride=STRIDE)
        return logits.detach(), *torch.autograd.grad(logits, leaves, down)

    cells = num_objects * height * width
    products = (CHANNELS + 2) * HIDDEN + HIDDEN * HIDDEN + HIDDEN
    return HotPath(
        name="dynamic mask head, forward and backward",
        size=size,
        num_objects=num_objects,
        ours=lambda: run(dynamic_mask_logits),
        plain=lambda: run(plain_forms.dynamic_mask_logits),
        least_bytes=features.element_size() * (2 * cells + 2 * features.numel()),
        least_flops=3 * 2 * cells * products,  # the backward pass is two more products of each
    )


def color_path(size: tuple[int, int], num_objects: int, device: torch.device) -> HotPath:
    """Likeness of colours; once a picture, whatever the number of objects."""
    height, width = size[0] // MASK_STRIDE, size[1] // MASK_STRIDE
    lab = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)).to(device)
    lab = lab * 6
    valid = torch.ones(1, height, width, dtype=torch.bool, device=device)
    return HotPath(
        name="colour affinity",
        size=size,
        num_objects=num_objects,
        ours=lambda: (color_similarity(lab, valid, DILATION),),
        plain=lambda: (plain_forms.color_similarity(lab, valid, DILATION),),
        least_bytes=lab.element_size() * height * width * (3 + len(NEIGHBORS)),
        once_a_picture=True,
    )
