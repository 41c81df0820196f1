"""Balanced assignment: hand-computed values, invariants, a linear-domain reference, and POT."""

import math

import ot
import pytest
import torch

from boxmask.prototypes.sinkhorn import sinkhorn


def solve(similarity, epsilon, marginals=None, iterations=2000):
    similarity = torch.as_tensor(similarity, dtype=torch.float64)
    if marginals is not None:
        marginals = torch.tensor(marginals, dtype=torch.float64)
    return sinkhorn(
        similarity[None], epsilon=epsilon, marginals=marginals,
        tolerance=0.0, max_iterations=iterations,
    )[0]  # fmt: skip


def linear_reference(similarity, epsilon, marginals, iterations):
    """Sinkhorn-Knopp as in the papers, on plain numbers."""
    plan = torch.exp(similarity / epsilon)
    for _ in range(iterations):
        plan = plan / plan.sum(dim=0) * marginals * len(plan)
        plan = plan / plan.sum(dim=1, keepdim=True)
    return plan


def test_identity_is_a_softmax_after_one_iteration_and_for_ever():
    expected = torch.tensor([[0.731059, 0.268941], [0.268941, 0.731059]], dtype=torch.float64)
    for iterations in (1, 50):
        found = solve(torch.eye(2), 1.0, iterations=iterations)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_equal_pixels_share_out_evenly():
    found = solve([[0.9, 0.1, -0.5]] * 6, 0.05)
    torch.testing.assert_close(found, torch.full((6, 3), 1 / 3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("iterations", "first", "last", "mass"),
    [(1, 0.768172, 0.057217, 2.361733), (3, 0.668449, 0.035612, 2.040958),
     (500, 0.655444, 0.033668, 2.0)],
)  # fmt: skip
def test_hand_computed_columns(iterations, first, last, mass):
    found = solve([[1, 0], [1, 0], [1, 0], [0, 1]], 0.5, iterations=iterations)[:, 0]
    assert found[0].item() == pytest.approx(first, abs=1e-6)
    assert found[3].item() == pytest.approx(last, abs=1e-6)
    assert found.sum().item() == pytest.approx(mass, abs=2e-6)


@pytest.mark.parametrize(
    ("iterations", "first", "last", "mass"),
    [(3, 0.926433, 0.187422, 2.966722), (500, 0.932602, 0.202194, 3.0)],
)
def test_marginals_are_kept(iterations, first, last, mass):
    rows = [[1, 0], [1, 0], [1, 0], [0, 1]]
    found = solve(rows, 0.5, marginals=[0.75, 0.25], iterations=iterations)[:, 0]
    assert found[0].item() == pytest.approx(first, abs=1e-6)
    assert found[3].item() == pytest.approx(last, abs=1e-6)
    assert found.sum().item() == pytest.approx(mass, abs=2e-6)


def test_three_iterations_are_not_enough_where_similarities_are_spread():
    """The published code stops after three: its third pixel goes to the wrong prototype."""
    rows = [[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.1, 0.9]]
    early = solve(rows, 0.05, iterations=3)
    assert early.sum(dim=0).tolist() == pytest.approx([2.855127, 1.144873], abs=1e-5)
    done = solve(rows, 0.05, iterations=5000)
    assert done[:, 0].tolist() == pytest.approx([0.999668, 0.982179, 0.018153, 0.0], abs=1e-4)
    assert early[2].argmax() != done[2].argmax()


def test_equals_the_linear_domain():
    similarity = torch.randn(40, 7, dtype=torch.float64)
    marginals = torch.softmax(torch.randn(7, dtype=torch.float64), 0)
    expected = linear_reference(similarity, 0.3, marginals, 5)
    found = solve(similarity, 0.3, marginals.tolist(), iterations=5)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("masses", [None, [0.4, 0.3, 0.15, 0.1, 0.05]])
@pytest.mark.parametrize("epsilon", [0.3, 0.1])
def test_equals_pot(masses, epsilon):
    """POT minimises a cost, over plans whose sum is 1."""
    similarity = torch.randn(30, 5, dtype=torch.float64).clamp(-1, 1)
    expected = ot.sinkhorn(
        torch.full((30,), 1 / 30, dtype=torch.float64),
        torch.tensor(masses or [0.2] * 5, dtype=torch.float64),
        -similarity, epsilon, method="sinkhorn_log", stopThr=1e-12, numItermax=5000,
    )  # fmt: skip
    found = solve(similarity, epsilon, masses, iterations=5000)
    torch.testing.assert_close(found / 30, expected, atol=1e-6 / 30, rtol=0)


def test_constants_of_rows_and_columns_change_nothing():
    similarity = torch.randn(12, 4, dtype=torch.float64)
    moved = similarity + torch.randn(12, 1) * 3 + torch.randn(1, 4) * 3
    torch.testing.assert_close(solve(similarity, 0.2), solve(moved, 0.2), atol=1e-8, rtol=0)


def test_permutations_permute():
    similarity = torch.randn(9, 3, dtype=torch.float64)
    rows, columns = torch.randperm(9), torch.randperm(3)
    found = solve(similarity, 0.1)[rows][:, columns]
    torch.testing.assert_close(solve(similarity[rows][:, columns], 0.1), found)


def test_large_entropy_gives_the_marginals():
    found = solve(torch.randn(5, 2), 1e6, marginals=[0.75, 0.25])
    torch.testing.assert_close(
        found, torch.tensor([[0.75, 0.25]], dtype=torch.float64).expand(5, 2), atol=1e-5, rtol=0
    )


def test_solution_is_the_best_feasible_plan():
    torch.manual_seed(3)
    similarity, epsilon = torch.randn(8, 3, dtype=torch.float64), 0.4

    def value(plan):
        return (plan * similarity).sum() - epsilon * (plan * plan.clamp(min=1e-300).log()).sum()

    best = value(solve(similarity, epsilon))
    for _ in range(100):
        other = solve(torch.randn(8, 3), 0.5, iterations=60)
        assert value(other) <= best + 1e-9


def test_problems_of_different_size_are_solved_as_if_alone():
    first, second = torch.randn(6, 3), torch.randn(4, 3)
    both = torch.zeros(2, 6, 3)
    both[0], both[1, :4] = first, second
    valid = torch.ones(2, 6, dtype=torch.bool)
    valid[1, 4:] = False
    options = {"epsilon": 0.1, "tolerance": 0.0, "max_iterations": 50}
    found = sinkhorn(both, valid=valid, **options)
    torch.testing.assert_close(found[0], sinkhorn(first[None], **options)[0])
    torch.testing.assert_close(found[1, :4], sinkhorn(second[None], **options)[0])
    assert found[1, 4:].sum() == 0


def test_stops_when_the_masses_are_met():
    similarity = torch.rand(1, 500, 10)
    found = sinkhorn(similarity, epsilon=0.05, tolerance=1e-3, max_iterations=1000)
    mass = found.sum(dim=1) / 500
    assert (mass * 10 - 1).abs().max() < 2e-3


def test_no_similarity_overflows():
    found = sinkhorn(torch.tensor([[[900.0, -900.0], [-900.0, 900.0]]]), epsilon=0.05)
    torch.testing.assert_close(found[0], torch.eye(2))


@pytest.mark.parametrize("iterations", [2, 10, 11, 37])
def test_factors_and_logarithms_are_one(iterations):
    """A range of e^2000, where nothing but logarithms fits: each step written out in them."""
    generator = torch.Generator().manual_seed(2)
    kernel = torch.rand(30, 4, generator=generator, dtype=torch.float64) * 2000
    pixels, prototypes = torch.zeros(30).double(), torch.zeros(4).double()
    for _ in range(iterations):
        prototypes = math.log(30 / 4) - (kernel + pixels[:, None]).logsumexp(dim=0)
        pixels = -(kernel + prototypes).logsumexp(dim=1)
    expected = (kernel + prototypes + pixels[:, None]).exp()
    torch.testing.assert_close(solve(kernel, 1.0, iterations=iterations), expected)


def test_a_prototype_of_no_mass_gets_no_pixel():
    similarity = torch.rand(2, 8, 3)
    valid = torch.tensor([[True] * 8, [False] * 8])  # the second problem has no pixel at all
    marginals = torch.tensor([0.25, 0.0, 0.75])
    found = sinkhorn(similarity, epsilon=0.1, marginals=marginals, valid=valid, tolerance=1e-6)
    assert found[0].sum(dim=0).tolist() == pytest.approx([2, 0, 6], abs=1e-4)
    assert found[1].eq(0).all()


def test_no_pixels_give_no_rows():
    assert sinkhorn(torch.zeros(2, 0, 3), epsilon=0.1).shape == (2, 0, 3)
    assert sinkhorn(torch.zeros(0, 4, 3), epsilon=0.1).shape == (0, 4, 3)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="epsilon"):
        sinkhorn(torch.zeros(1, 2, 2), epsilon=0.0)
    with pytest.raises(ValueError, match=r"\(G, N, L\)"):
        sinkhorn(torch.zeros(2, 2), epsilon=0.1)
