"""Prototypes: unit length, exact moving average, order and process independence."""

import random

import pytest
import torch
import torch.nn.functional as F

from boxmask.prototypes.prototype_bank import (
    PrototypeBank,
    PrototypeSettings,
    class_pixels,
    content_hash,
)
from boxmask.prototypes.sinkhorn import sinkhorn
from references import sampled_assignment


def pixels(rows, labels, num_classes):
    """All in one picture of one row."""
    rows = F.normalize(torch.as_tensor(rows, dtype=torch.float32), dim=-1)
    maps = torch.as_tensor(labels) == torch.arange(num_classes)[:, None]
    cells = rows.T[None, :, None]  # (1, D, 1, P)
    return class_pixels(cells, cells, maps[None, :, None], range(num_classes), 1024)


def make(num_classes=3, channels=4, **settings):
    return PrototypeBank(num_classes, channels, PrototypeSettings(**{"per_class": 2, **settings}))


def test_seen_prototypes_are_unit_vectors_over_channels():
    bank = make(per_class=5, channels=7)
    for step in range(3):
        torch.manual_seed(step)
        bank.update(pixels(torch.randn(50, 7), torch.randint(0, 2, (50,)), 3))
    norms = bank.vectors[:2].norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones(2, 5))
    over_prototypes = F.normalize(torch.randn(2, 5, 7), dim=1).norm(dim=-1)
    assert not torch.allclose(over_prototypes, torch.ones(2, 5))  # the published axis


def test_moving_average_by_hand():
    bank = make(num_classes=1, channels=2, per_class=1)
    bank.vectors[0, 0] = torch.tensor([1.0, 0.0])
    bank.updates[0] = 1e6  # warm
    bank.update(pixels([[0.0, 1.0]], [0], 1))
    assert bank.vectors[0, 0].tolist() == pytest.approx([0.9999995, 0.0010010], abs=1e-6)


@pytest.mark.parametrize(
    ("updates", "images", "momentum"),
    [(1, 1, 2 / 11), (5, 1, 6 / 15), (5, 3, (6 / 15) ** 3), (1e6, 1, 0.9), (1e6, 2, 0.81)],
)
def test_momentum_warms_up_and_counts_pictures(updates, images, momentum):
    bank = make(num_classes=1, channels=2, per_class=1, momentum=0.9)
    bank.vectors[0, 0] = torch.tensor([1.0, 0.0])
    bank.updates[0] = updates
    cells = torch.tensor([0.0, 1.0])[:, None, None].expand(4, 2, 1, 3)
    maps = torch.zeros(4, 1, 1, 3, dtype=torch.bool)
    maps[:images] = True  # the other pictures do not have the class
    bank.update(class_pixels(cells, cells, maps, [0], 1024))
    expected = F.normalize(torch.tensor([momentum, 1 - momentum]), dim=0)
    torch.testing.assert_close(bank.vectors[0, 0], expected)
    assert bank.updates.tolist() == [updates + images]


def test_order_of_pictures_does_not_matter():
    """Pictures with one cell and with sixty of a class, of which forty are looked at."""
    by, averaged = (F.normalize(torch.randn(3, 2, 4, 6, 10), dim=2) for _ in range(2))
    maps = torch.zeros(3, 2, 2, 6, 10, dtype=torch.bool)
    maps[:, 0, 0, 2, 3] = maps[:, 1, 0] = maps[:, 0, 1, :2] = True
    first, second = make(num_classes=2), make(num_classes=2)
    for bank, order in ((first, [0, 1]), (second, [1, 0])):
        for step in range(3):
            parts = (by[step, order], averaged[step, order], maps[step, order])
            bank.update(class_pixels(*parts, [0, 1], 40))
    assert first.seen.all()
    torch.testing.assert_close(first.vectors, second.vectors, atol=1e-5, rtol=0)
    assert torch.equal(first.updates, second.updates)


def test_absent_classes_and_prototypes_without_pixels_do_not_move():
    bank = make()
    bank.update(pixels(torch.randn(20, 4), [0] * 10 + [1] * 10, 3))
    before = bank.vectors.clone()
    bank.update(pixels(torch.randn(10, 4), [0] * 10, 3))
    assert torch.equal(bank.vectors[1:], before[1:])
    assert bank.seen.tolist() == [True, True, False]
    one = bank.vectors[1].clone()
    bank.update(pixels(one[:1], [1], 3))  # a single pixel: the other prototype has none
    assert torch.equal(bank.vectors[1, 1], one[1]) or torch.equal(bank.vectors[1, 0], one[0])


def test_first_prototypes_are_looked_for_only_while_some_class_has_none(monkeypatch):
    looked, start = [], PrototypeBank._start
    monkeypatch.setattr(
        PrototypeBank, "_start", lambda bank, *args: (looked.append(1), start(bank, *args))
    )
    bank, empty = make(num_classes=2), make(num_classes=2)
    bank.update(pixels(torch.randn(10, 4), [0] * 10, 2))
    bank.update(pixels(torch.randn(10, 4), [0] * 5 + [1] * 5, 2))
    assert bank.seen.all()
    assert len(looked) == 2
    for _ in range(2):
        bank.update(pixels(torch.randn(10, 4), [0] * 5 + [1] * 5, 2))
    assert len(looked) == 2
    bank.load_state_dict(empty.state_dict())
    bank.update(pixels(torch.randn(10, 4), [0] * 5 + [1] * 5, 2))
    assert len(looked) == 3
    torch.testing.assert_close(bank.vectors.norm(dim=-1), torch.ones(2, 2))


def test_order_of_pixels_does_not_matter():
    rows, labels = torch.randn(60, 4), torch.randint(0, 3, (60,))
    order = torch.randperm(60)
    first, second = make(), make()
    for _ in range(3):
        first.update(pixels(rows, labels, 3))
        second.update(pixels(rows[order], labels[order], 3))
    torch.testing.assert_close(first.vectors, second.vectors, atol=1e-5, rtol=0)


def test_thinning_out_is_even_and_decided_by_values():
    rows = F.normalize(torch.randn(20_000, 16), dim=-1)
    keys = content_hash(rows)
    histogram = torch.histc(keys, bins=10, min=0, max=1)
    assert histogram.min() > 1700
    assert torch.equal(content_hash(rows[:50]), keys[:50])
    bank = make(num_classes=1, channels=16, max_pixels=100)
    cells = rows.T[None, :, None]
    kept = class_pixels(cells, cells, torch.ones(1, 1, 1, 20_000) > 0, [0], 100)
    assert torch.equal(kept.assigned_by[0], rows[keys.argsort()[:100]])
    bank.update(kept)
    assert bank.seen.all()


def test_similarity_is_the_nearest_prototype_whatever_the_length_of_features():
    bank = make(num_classes=2, channels=3)
    bank.vectors[1] = torch.eye(3)[:2]
    bank.updates[1] = 1
    features = torch.zeros(1, 3, 1, 2)
    features[0, :, 0, 0] = torch.tensor([0.0, 5.0, 0.0])
    features[0, :, 0, 1] = torch.tensor([1.0, 0.0, 1.0])
    found = bank.similarity(features, torch.tensor([0, 0]), torch.tensor([1, 0]))
    torch.testing.assert_close(found[0, 0], torch.tensor([1.0, 0.5**0.5]))
    assert found[1].abs().max() == 0  # unseen class
    again = bank.similarity(features * 7, torch.tensor([0, 0]), torch.tensor([1, 0]))
    torch.testing.assert_close(found, again)


def test_different_modes_get_their_own_prototypes():
    """The published Gumbel sampling drives all prototypes to the class mean; ours finds modes."""
    torch.manual_seed(0)
    modes = F.normalize(torch.randn(3, 16), dim=-1)
    bank = make(num_classes=1, channels=16, per_class=3, momentum=0.9)
    for _ in range(30):
        which = torch.randint(0, 3, (300,))
        bank.update(pixels(modes[which] + 0.05 * torch.randn(300, 16), [0] * 300, 1))
    best = (modes @ bank.vectors[0].T).max(dim=1).values
    assert best.min() > 0.98


def test_another_prototype_can_only_raise_similarity():
    vectors = F.normalize(torch.randn(2, 5, 4), dim=-1)
    features = torch.randn(2, 4, 7, 9)
    image_index, labels = torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1])
    found = []
    for count in (4, 5):
        bank = make(num_classes=2, per_class=count)
        bank.vectors.copy_(vectors[:, :count])
        found.append(bank.similarity(features, image_index, labels))
    assert (found[1] >= found[0]).all()
    assert (found[1] > found[0]).any()


@pytest.mark.parametrize(("count", "rate"), [(5, 0.404610), (10, 0.231969), (50, 0.052559)])
def test_every_pixel_gets_the_prototype_of_its_share(count, rate):
    """The published code draws from the softmax of the shares and mostly misses."""
    rows = torch.eye(count).repeat(1000 // count, 1)
    shares = sinkhorn(rows[None], epsilon=0.01)[0]
    torch.testing.assert_close(shares, rows)  # all of a pixel's share is one prototype's
    noise, hits = random.Random(0), 0
    for row, logits in enumerate(shares.tolist()):
        right = row % count
        assert sampled_assignment.probabilities(logits)[right] == pytest.approx(rate, abs=1e-6)
        hits += sampled_assignment.largest_with_noise(logits, noise) == right
    spread = (rate * (1 - rate) / len(rows)) ** 0.5
    assert hits / len(rows) == pytest.approx(rate, abs=4 * spread)
    logarithms = (shares[0].double() + 1e-300).log().tolist()
    assert sampled_assignment.probabilities(logarithms)[0] == pytest.approx(1.0)
    bank = make(num_classes=1, channels=count, per_class=count, epsilon=0.01)
    bank.vectors[0] = torch.eye(count)
    found = bank._assign(torch.tensor([0]), pixels(rows, [0] * len(rows), 1))
    assert torch.equal(found[0].bincount(), torch.full((count,), 1000 // count))
    by = pixels(rows, [0] * len(rows), 1).assigned_by[0]
    assert torch.equal(found[0], by.argmax(dim=-1))


def test_no_pixels_change_nothing():
    bank = make()
    bank.update(pixels(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 3))
    assert bank.vectors.abs().sum() == 0
    assert not bank.seen.any()
