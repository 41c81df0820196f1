"""Prototypes: unit length, exact moving average, order and process independence."""

import pytest
import torch
import torch.nn.functional as F

from boxmask.prototypes.prototype_bank import (
    PrototypeBank,
    PrototypeSettings,
    class_pixels,
    content_hash,
)


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


def test_no_pixels_change_nothing():
    bank = make()
    bank.update(pixels(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 3))
    assert bank.vectors.abs().sum() == 0
    assert not bank.seen.any()
