import pytest
import torch
import torch.nn.functional as F

from boxmask.necks.bifpn import BiFPN


@pytest.fixture(scope="module")
def neck():
    torch.manual_seed(0)
    return BiFPN((24, 40, 112), 32, repeats=2)


@pytest.fixture(scope="module")
def maps():
    sizes = ((24, 12, 20), (40, 6, 10), (112, 3, 5))
    return [torch.randn(2, *size) for size in sizes]


def test_sizes(neck, maps):
    assert [tuple(level.shape) for level in neck(maps)] == [
        (2, 32, 12, 20), (2, 32, 6, 10), (2, 32, 3, 5), (2, 32, 2, 3), (2, 32, 1, 2),
    ]  # fmt: skip


def test_published_size():
    neck = BiFPN((512, 1024, 2048), 160)
    one_fusion = 160 * 160 * 9 + 2 * 160
    weights = 6 * (4 * 2 + 3 * 3 + 2)
    lateral = 160 * (512 + 1024 + 2048 + 2048) + 4 * 2 * 160
    assert sum(p.numel() for p in neck.parameters()) == 6 * 8 * one_fusion + weights + lateral


def test_one_round_written_out(maps):
    """Against the paper's formulas for one level in the middle and for both ends."""
    neck = BiFPN((24, 40, 112), 32, repeats=1)
    (one,) = neck.rounds
    for fusion in [*one.down, *one.up]:
        torch.nn.init.uniform_(fusion.weights, -0.5, 2.0)
    p3, p4, p5 = (lateral(m) for lateral, m in zip(neck.lateral, maps, strict=False))

    def halved(level):
        return F.max_pool2d(level, 3, 2, 1)

    def up(level, like):
        return F.interpolate(level, size=like.shape[-2:], mode="nearest")

    def fused(fusion, *inputs):
        w = fusion.weights.clamp(min=0)
        mixed = sum(wi * x for wi, x in zip(w, inputs, strict=True)) / (w.sum() + 1e-4)
        return fusion.convolution(mixed * mixed.sigmoid())

    p6 = halved(neck.lateral[3](maps[2]))
    p7 = halved(p6)
    d6 = fused(one.down[3], p6, up(p7, p6))
    d5 = fused(one.down[2], p5, up(d6, p5))
    d4 = fused(one.down[1], p4, up(d5, p4))
    o3 = fused(one.down[0], p3, up(d4, p3))
    o4 = fused(one.up[0], p4, d4, halved(o3))
    o5 = fused(one.up[1], p5, d5, halved(o4))
    o6 = fused(one.up[2], p6, d6, halved(o5))
    o7 = fused(one.up[3], p7, halved(o6))
    for found, expected in zip(neck(maps), (o3, o4, o5, o6, o7), strict=True):
        torch.testing.assert_close(found, expected)


def test_every_weight_learns(neck, maps):
    sum(level.square().sum() for level in neck(maps)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in neck.parameters())
