import pytest
import torch

from boxmask import ranks
from boxmask.box_supervision.objective import Fall, Objective, Term
from boxmask.box_supervision.pairwise_loss import PairwiseLossSettings
from boxmask.box_supervision.projection_loss import ProjectionLossSettings
from boxmask.box_supervision.weak_loss import WeakLoss, attached_zero
from boxmask.structures import LossSum, Targets


@pytest.mark.parametrize(
    ("term", "progress", "factor"),
    [
        (Term(), 0.0, 1.0),
        (Term(weight=2.5), 0.7, 2.5),
        (Term(ramp=0.25), 0.0, 0.0),
        (Term(ramp=0.25), 0.125, 0.5),
        (Term(ramp=0.25), 0.25, 1.0),
        (Term(ramp=0.25), 1.0, 1.0),
        (Term(start=0.5), 0.49, 0.0),
        (Term(start=0.5), 0.5, 1.0),
        (Term(weight=4.0, start=0.5, ramp=0.2), 0.55, 1.0),
        (Term(weight=4.0, start=0.5, ramp=0.2), 0.9, 4.0),
        (Term(weight=2.0, fall=Fall(end=0.5)), 0.0, 2.0),
        (Term(weight=2.0, fall=Fall(end=0.5)), 0.25, 1.0),
        (Term(weight=2.0, fall=Fall(end=0.5)), 0.5, 0.0),
        (Term(weight=2.0, fall=Fall(end=0.5)), 0.9, 0.0),
        (Term(start=0.2, fall=Fall(start=0.2, end=0.6)), 0.1, 0.0),
        (Term(start=0.2, fall=Fall(start=0.2, end=0.6)), 0.3, 0.75),
        (Term(weight=2.0, fall=Fall(start=0.25, end=0.5, rest=0.5)), 0.25, 2.0),
        (Term(weight=2.0, fall=Fall(start=0.25, end=0.5, rest=0.5)), 0.375, 1.5),
        (Term(weight=2.0, fall=Fall(start=0.25, end=0.5, rest=0.5)), 0.75, 1.0),
        (Term(fall=Fall(start=0.25, end=0.25)), 0.24, 1.0),
        (Term(fall=Fall(start=0.25, end=0.25)), 0.25, 0.0),
        (Term(ramp=0.5, fall=Fall(start=0.0, end=1.0)), 0.25, 0.375),
    ],
)
def test_factor(term, progress, factor):
    assert term.factor(progress) == pytest.approx(factor)


def test_a_fall_is_stretched_by_its_own_unit():
    fall = Fall(start=0.2, end=0.4, rest=0.1)
    term = Term(ramp=1.0, unit="warmup", fall=fall).stretched(0.25)
    assert term == Term(ramp=0.25, fall=fall)
    term = Term(ramp=0.5, fall=Fall(start=0.5, end=2.0, rest=0.1, unit="warmup")).stretched(0.25)
    assert term == Term(ramp=0.5, fall=Fall(start=0.125, end=0.5, rest=0.1))


@pytest.mark.parametrize("rest", [-0.1, 1.5])
def test_a_rest_beyond_the_whole_is_refused(rest):
    with pytest.raises(ValueError, match="rest: expected 0 to 1"):
        Fall(start=0.0, end=1.0, rest=rest)


class Fixed(WeakLoss):
    """Gives what it was made with, and counts its updates."""

    def __init__(self, total, count):
        super().__init__()
        self.value = LossSum(torch.tensor(total), torch.tensor(count))
        self.updates = 0

    def forward(self, context):
        return self.value

    def update(self, context):
        self.updates += 1


def test_losses_are_weighted_means(make_context):
    context = make_context(torch.zeros(1, 8, 8), [[0, 0, 8, 8]])
    objective = Objective(
        {"loss_a": Fixed(6.0, 4.0), "loss_b": Fixed(1.0, 2.0)},
        {"loss_a": Term(weight=2.0), "loss_b": Term(ramp=1.0)},
    )
    sums = objective(context) | {"loss_class": LossSum(torch.tensor(9.0), torch.tensor(3.0))}
    reduced = objective.reduce(sums, 0.5)
    assert {name: value.item() for name, value in reduced.items()} == {
        "loss_a": 3.0,
        "loss_b": 0.25,
        "loss_class": 3.0,  # losses without a term count once
    }


class Counting(Fixed):
    """Counts how often it is asked."""

    calls = 0

    def forward(self, context):
        self.calls += 1
        return super().forward(context)


def test_losses_that_count_nothing_are_not_asked_unless_they_prepare(make_context):
    logits = torch.zeros(1, 8, 8, requires_grad=True)
    over, preparing = Counting(6.0, 4.0), Counting(6.0, 4.0)
    preparing.prepares = True
    term = Term(fall=Fall(end=0.25))  # the context is at one half
    objective = Objective({"loss_a": over, "loss_b": preparing}, {"loss_a": term, "loss_b": term})
    reduced = objective.reduce(objective(make_context(logits, [[0, 0, 8, 8]])), 0.5)
    assert (over.calls, preparing.calls) == (0, 1)
    assert {name: value.item() for name, value in reduced.items()} == {"loss_a": 0, "loss_b": 0}
    reduced["loss_a"].backward()  # a graph, for every process
    assert logits.grad.count_nonzero() == 0


def test_small_counts_are_one():
    objective = Objective({}, {})
    reduced = objective.reduce({"loss_a": LossSum(torch.tensor(0.5), torch.tensor(0.0))}, 0.0)
    assert reduced["loss_a"].item() == 0.5


def test_updates_reach_every_loss(make_context):
    losses = {"loss_a": Fixed(1.0, 1.0), "loss_b": Fixed(1.0, 1.0)}
    objective = Objective(losses, {"loss_a": Term(), "loss_b": Term()})
    objective.update(make_context(torch.zeros(1, 8, 8), [[0, 0, 8, 8]]))
    assert [loss.updates for loss in losses.values()] == [1, 1]


@pytest.mark.parametrize("terms", [{}, {"loss_a": Term(), "loss_c": Term()}, {"loss_c": Term()}])
def test_losses_and_terms_must_agree(terms):
    with pytest.raises(ValueError, match=r"terms: expected one for each of \['loss_a'\]"):
        Objective({"loss_a": Fixed(1.0, 1.0)}, terms)


@pytest.mark.parametrize("counts", [(3.0, 5.0), (0.0, 4.0), (0.0, 0.0), (0.0, 1.0)])
def test_two_processes_give_the_mean_of_all(monkeypatch, counts):
    totals = tuple(count * 0.5 + (row + 1) * (count > 0) for row, count in enumerate(counts))
    mean = torch.tensor(sum(counts) / 2)
    monkeypatch.setattr(ranks, "num_ranks", lambda: 2)
    monkeypatch.setattr(ranks, "mean_over_ranks", lambda value: mean)
    objective = Objective({}, {})
    parts = [
        objective.reduce({"loss": LossSum(torch.tensor(total), torch.tensor(count))}, 0.0)["loss"]
        for total, count in zip(totals, counts, strict=True)
    ]
    averaged = sum(part.item() for part in parts) / 2  # what distributed training does
    assert averaged == pytest.approx(sum(totals) / max(sum(counts), 1.0))


def boxinst():
    return Objective(
        {
            "loss_projection": ProjectionLossSettings().build(),
            "loss_pairwise": PairwiseLossSettings().build(),
        },
        {"loss_projection": Term(), "loss_pairwise": Term(ramp=0.3)},
    )


def test_box_losses_never_look_at_masks(make_context):
    boxes = torch.tensor([[4.0, 4, 20, 20]])
    plain = Targets.from_boxes(boxes, torch.tensor([0]))
    masked = Targets(
        boxes=boxes,
        labels=plain.labels,
        tight=plain.tight,
        masks=torch.rand(1, 32, 32) < 0.5,
        trusted=torch.tensor([True]),
    )
    logits = torch.randn(1, 8, 8)
    first, second = (
        boxinst()(make_context(logits, boxes, targets=(targets,))) for targets in (plain, masked)
    )
    for name in first:
        assert torch.equal(first[name].total, second[name].total)


def test_an_empty_batch_trains_without_harm(make_context):
    logits = torch.zeros(0, 8, 8, requires_grad=True)
    objective = boxinst()
    reduced = objective.reduce(objective(make_context(logits, [])), 0.5)
    total = torch.stack(list(reduced.values())).sum()
    assert total.item() == 0
    total.backward()


def test_attached_zero_has_a_graph(make_context):
    logits = torch.randn(2, 4, 4, requires_grad=True)
    zero = attached_zero(make_context(logits, [[0, 0, 8, 8]] * 2))
    assert zero.item() == 0
    zero.backward()
    assert not logits.grad.any()
