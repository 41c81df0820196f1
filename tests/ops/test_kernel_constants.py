"""What a kernel is compiled for does not depend on the size of pictures: they have many sizes."""

import pytest
import torch

from boxmask.ops import certain_masks, guided_filter, ties

pytest.importorskip("triton")
from boxmask.ops import certain_masks_triton, guided_filter_triton, ties_triton


def work(size):
    """All kernels of these modules, on maps of a size."""
    lab, valid = torch.rand(2, 3, *size), torch.ones(2, *size, dtype=torch.bool)
    features, boxes = torch.rand(2, 5, *size), [torch.rand(2, 4), torch.rand(1, 4)]
    hidden = ties.hidden_cells(lab, valid, boxes, 4, 1.0)
    textures = ties.Textures(features=features, hidden=hidden, color_reach=9.0, feature_reach=2.5)
    ties.tied_neighbors(lab, valid, textures, dilation=2, least_similarity=0.3)
    guide = guided_filter.color_guide(lab, valid, radius=2, smoothness=1e-4)
    guided_filter.filter_by(torch.rand(3, *size), torch.tensor([0, 1, 1]), guide)
    logits = torch.rand(2, *size, requires_grad=True)
    masks = logits.detach() > 0.5
    certain_masks.certain_mask_distances(logits, masks, masks, torch.arange(2)).sum().backward()


def test_constants_are_the_same_for_all_sizes(monkeypatch):
    launched = []

    def launch(kernel, grid, *given, **sizes):
        launched.append((kernel, {k: v for k, v in sizes.items() if k not in kernel_sizes}))

    kernel_sizes = ("height", "width", "channels", "blocks")
    for module in (ties, guided_filter, certain_masks):
        monkeypatch.setattr(module, "fused_kernels_run", lambda kernels, device: True)
    for module in (ties_triton, guided_filter_triton, certain_masks_triton):
        monkeypatch.setattr(module, "launch", launch)
    work((9, 14))
    first = launched.copy()
    assert len({kernel for kernel, _ in first}) == 8
    launched.clear()
    work((40, 31))
    assert launched == first
