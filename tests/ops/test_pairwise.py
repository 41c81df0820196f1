import math
from importlib.util import find_spec

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from boxmask.ops.pairwise import dense_sum, listed_sum, pairwise_sum
from references import neighbors as reference


def logit(score):
    return math.log(score / (1 - score))


def one_edge(a, b):
    """The loss of a single edge between two logits."""
    logits = torch.tensor([[[a, b]]], dtype=torch.float64, requires_grad=True)
    similar = torch.ones(1, 8, 1, 2, dtype=torch.bool)
    inside = torch.tensor([[[True, False]]])
    total, count = pairwise_sum(logits, similar, inside, torch.tensor([0]), dilation=1)
    assert count == 1
    return total, logits


@pytest.mark.parametrize(
    ("first", "second", "loss"),
    [
        (0.5, 0.5, 0.693147),
        (0.5, 0.123, 0.693147),
        (0.5, 0.999, 0.693147),
        (0.9, 0.9, 0.198451),
        (0.9, 0.1, 1.714798),
        (0.8, 0.6, 0.579818),
    ],
)
def test_single_edge(first, second, loss):
    assert one_edge(logit(first), logit(second))[0].item() == pytest.approx(loss, abs=1e-6)


@given(st.floats(-8, 8), st.floats(-8, 8))
def test_edge_is_symmetric_and_equals_the_direct_formula(a, b):
    p, q = 1 / (1 + math.exp(-a)), 1 / (1 + math.exp(-b))
    loss = one_edge(a, b)[0].item()
    assert loss == pytest.approx(-math.log(p * q + (1 - p) * (1 - q)), abs=1e-9)
    assert one_edge(b, a)[0].item() == pytest.approx(loss, abs=1e-12)
    assert one_edge(-a, -b)[0].item() == pytest.approx(loss, abs=1e-12)


def test_one_half_everywhere_is_a_stationary_point():
    total, logits = one_edge(0.0, 0.0)
    total.backward()
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("a", "b", "loss"), [(100, 100, 0), (-100, -100, 0), (100, -100, 100)])
def test_extreme_logits_stay_finite(a, b, loss, dtype):
    logits = torch.tensor([[[a, b]]], dtype=dtype, requires_grad=True)
    similar = torch.ones(1, 8, 1, 2, dtype=torch.bool)
    inside = torch.ones(1, 1, 2, dtype=torch.bool)
    total, count = pairwise_sum(logits, similar, inside, torch.tensor([0]), dilation=1)
    total.backward()
    assert total.item() / count.item() == pytest.approx(loss, abs=1e-5 + math.log(2) * (loss > 0))
    assert logits.grad.isfinite().all()


FORMS = [dense_sum, listed_sum]
if find_spec("triton") is not None:  # not on every platform
    from boxmask.ops.pairwise_triton import fused_sum

    DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

    def fused(*tensors, dilation):
        total, count = fused_sum(*(one.to(DEVICE) for one in tensors), dilation=dilation)
        return total.cpu(), count.cpu()

    FORMS.append(fused)


@pytest.mark.parametrize("sums", FORMS)
@pytest.mark.parametrize(("size", "dilation"), [((5, 7), 2), ((4, 3), 1), ((6, 5), 3)])
def test_equals_a_double_loop(sums, size, dilation):
    generator = torch.Generator().manual_seed(size[0])
    logits = torch.randn(3, *size, generator=generator, dtype=torch.float64) * 3
    similar = torch.rand(2, 8, *size, generator=generator) < 0.5  # not symmetric on purpose
    inside = torch.rand(3, *size, generator=generator) < 0.6
    image_index = torch.tensor([0, 1, 1])
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    total, count = sums(ours, similar, inside, image_index, dilation=dilation)
    expected, edges = reference.pairwise_sum(theirs, similar, inside, image_index, dilation)
    assert count == edges
    torch.testing.assert_close(total, expected, rtol=1e-10, atol=1e-10)
    total.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("sums", FORMS)
def test_gradcheck(sums):
    logits = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    similar = torch.rand(1, 8, 2, 3) < 0.7
    inside = torch.rand(2, 2, 3) < 0.7
    image_index = torch.tensor([0, 0])
    assert torch.autograd.gradcheck(
        lambda x: sums(x, similar, inside, image_index, dilation=1)[0], (logits,)
    )


@settings(max_examples=15)
@given(
    st.integers(0, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(0, 99)
)
def test_all_forms_agree(count, height, width, dilation, seed):
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, height, width, generator=random) * 40
    similar = torch.rand(2, 8, height, width, generator=random) < 0.5
    inside = torch.rand(count, height, width, generator=random) < 0.5
    index = torch.randint(2, (count,), generator=random)
    found = []
    for sums in FORMS:
        leaf = logits.clone().requires_grad_()
        total, edges = sums(leaf, similar, inside, index, dilation=dilation)
        total.backward()
        found.append((total.detach(), edges, leaf.grad))
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("dilation", [2, pytest.param(11, marks=pytest.mark.slow)])
def test_small_boxes_on_a_large_map(dilation):
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 36, 150, generator=random, dtype=torch.float64) * 3
    similar = torch.rand(2, 8, 36, 150, generator=random) < 0.5
    inside = torch.zeros(6, 36, 150, dtype=torch.bool)
    for row, (y, x) in enumerate([(0, 0), (15, 63), (16, 64), (35, 149), (31, 128)]):  # and none
        inside[row, y : y + 3, x : x + 20] = True
    found = []
    for sums in FORMS:
        leaf = logits.clone().requires_grad_()
        total, count = sums(
            leaf, similar, inside, torch.tensor([0, 0, 0, 1, 1, 1]), dilation=dilation
        )
        found.append((total.detach(), count, *torch.autograd.grad(total, leaf)))
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, rtol=1e-10, atol=1e-10)


def number_of_edges(inside, dilation=2):
    inside = inside[None]
    similar = torch.ones(1, 8, *inside.shape[1:], dtype=torch.bool)
    logits = torch.zeros(inside.shape)
    return pairwise_sum(logits, similar, inside, torch.tensor([0]), dilation=dilation)[1].item()


@pytest.mark.parametrize(("cell", "count"), [((2, 2), 8), ((0, 0), 3), ((4, 4), 3), ((0, 2), 5)])
def test_neighbors_of_a_cell(cell, count):
    inside = torch.zeros(5, 5, dtype=torch.bool)
    inside[cell] = True
    assert number_of_edges(inside) == count


@pytest.mark.parametrize("size", [(5, 5), (4, 9), (37, 53)])
def test_all_edges_of_a_map(size):
    height, width = size
    across, down = 2 * height * (width - 2), 2 * (height - 2) * width
    slanted = 4 * (height - 2) * (width - 2)
    assert number_of_edges(torch.ones(size, dtype=torch.bool)) == across + down + slanted
    if size == (5, 5):
        assert across + down + slanted == 96


def test_maps_smaller_than_the_dilation_have_no_edges():
    assert number_of_edges(torch.ones(2, 2, dtype=torch.bool)) == 0
    assert number_of_edges(torch.ones(1, 1, dtype=torch.bool)) == 0


def test_a_copy_of_a_sample_changes_no_mean():
    logits = torch.randn(1, 6, 6, dtype=torch.float64)
    similar = torch.rand(1, 8, 6, 6) < 0.5
    inside = torch.rand(1, 6, 6) < 0.5
    once = pairwise_sum(logits, similar, inside, torch.tensor([0]), dilation=2)
    twice = pairwise_sum(
        logits.repeat(2, 1, 1),
        similar,
        inside.repeat(2, 1, 1),
        torch.tensor([0, 0]),
        dilation=2,
    )
    assert (twice[0] / twice[1]).item() == pytest.approx((once[0] / once[1]).item(), rel=1e-12)


@pytest.mark.parametrize("count", [0, 2])
def test_nothing_that_counts_gives_zero_with_a_graph(count):
    logits = torch.randn(count, 6, 6, requires_grad=True)
    similar = torch.zeros(1, 8, 6, 6, dtype=torch.bool)
    inside = torch.ones(count, 6, 6, dtype=torch.bool)
    index = torch.zeros(count, dtype=torch.int64)
    total, edges = pairwise_sum(logits, similar, inside, index, dilation=2)
    assert total.item() == 0
    assert edges.item() == 0
    total.backward()
    assert logits.grad.isfinite().all()
    assert not logits.grad.any()
