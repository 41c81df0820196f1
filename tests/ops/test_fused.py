from typing import get_args

import pytest
import torch

from boxmask.ops import fused

pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def _tried_anew(monkeypatch):
    """As on a GPU that is new enough."""
    fused._tried.cache_clear()
    monkeypatch.setattr(torch.version, "cuda", None)
    yield
    fused._tried.cache_clear()


@pytest.mark.parametrize("kernels", get_args(fused.Kernels))
def test_kernels_that_agree_are_used(kernels, recwarn):
    assert fused._tried(kernels, DEVICE)
    assert not [one for one in recwarn if "without fused" in str(one.message)]


def test_a_wrong_kernel_is_not_used(monkeypatch):
    import boxmask.ops.pairwise_triton as kernels

    right = kernels.fused_sum
    monkeypatch.setattr(
        kernels, "fused_sum", lambda logits, *rest, **more: right(logits * 1.1, *rest, **more)
    )
    with pytest.warns(UserWarning, match="kernels of pairs on .*: results differ by"):
        assert not fused._tried("pairs", DEVICE)


def test_ties_of_other_neighbours_are_not_used(monkeypatch):
    """As many as there should be, elsewhere."""
    from boxmask.ops import ties_triton

    right = ties_triton.tied_neighbors
    monkeypatch.setattr(
        ties_triton, "tied_neighbors", lambda *given, **more: right(*given, **more).flip(1)
    )
    with pytest.warns(UserWarning, match="kernels of ties on .*: results differ by"):
        assert not fused._tried("ties", DEVICE)


@pytest.mark.parametrize("which", ["loss", "gradient"])
def test_a_nan_is_no_agreement(monkeypatch, which):
    import boxmask.ops.pairwise_triton as kernels

    right = kernels.fused_sum

    def wrong(logits, *rest, **more):
        total, count = right(logits, *rest, **more)
        zero = logits.sum() * 0
        return total + (torch.nan if which == "loss" else zero.sqrt() * 0), count

    monkeypatch.setattr(kernels, "fused_sum", wrong)
    with pytest.warns(UserWarning, match="results differ by inf"):
        assert not fused._tried("pairs", DEVICE)


@pytest.mark.parametrize(
    "surroundings",
    [torch.no_grad, torch.inference_mode, lambda: torch.autocast(DEVICE.type, torch.bfloat16)],
)
def test_where_the_first_call_comes_from_does_not_matter(surroundings):
    """Else a program that labels first, or trains in bf16, would never use the kernels."""
    with surroundings():
        assert fused._tried("pairs", DEVICE)


def test_a_machine_that_cannot_compile_trains_without(monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("Failed to find C compiler.\nMore words.")

    monkeypatch.setattr("boxmask.ops.pairwise_triton.fused_sum", fails)
    with pytest.warns(UserWarning, match=r"RuntimeError: Failed to find C compiler\.$"):
        assert not fused._tried("pairs", DEVICE)


def test_never_on_a_cpu():
    assert not fused.fused_kernels_run("pairs", torch.device("cpu"))
