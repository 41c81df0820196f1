"""Who owns a cell: by hand, and against a loop."""

import torch

from boxmask.ops.owners import claimed_by_others, highest_scores


def claims(scores, group):
    group = torch.as_tensor(group)
    return claimed_by_others(scores, highest_scores(scores, group, int(group.max()) + 1)[group])


def test_a_cell_belongs_to_the_surest_object_of_its_group():
    rows = [[0.9, 0.7, 0.6, 0.3, 0.9], [0.6, 0.8, 0.6, 0.4, 0], [1.0, 1.0, 1.0, 1.0, 1.0]]
    claimed = claims(torch.tensor(rows)[:, None], [0, 0, 1])
    # Equal claims stand side by side; below 0.5 nobody claims; other groups do not matter.
    assert claimed[:, 0].tolist() == [
        [False, True, False, False, False],
        [True, False, False, False, True],
        [False] * 5,
    ]


def test_unsure_objects_share_no_cell_either():
    scores = torch.tensor([[0.9, 0.3, 0.1, 0.0], [0.2, 0.4, 0.05, 0.8]])[:, None]
    group = torch.tensor([0, 0])
    best = highest_scores(scores, group, 1)[group]
    claimed = claimed_by_others(scores, best, least_claim=0.0)
    assert claimed[:, 0].tolist() == [[False, True, False, True], [True, False, True, False]]


def test_an_object_that_would_lose_half_keeps_all():
    rows = [[0.9, 0.9, 0.9, 0.9], [0.8, 0.8, 0.0, 0.0]]
    assert not claims(torch.tensor(rows)[:, None], [0, 0]).any()
    rows[1] = [0.8, 0.95, 0.95, 0.0]  # loses one of three; the first object loses two of four
    assert claims(torch.tensor(rows)[:, None], [0, 0])[:, 0].tolist() == [
        [False] * 4,
        [True, False, False, True],
    ]


def test_claims_equal_a_loop():
    scores, group = torch.rand(9, 5, 6), [0, 0, 0, 0, 2, 2, 2, 3, 3]
    claimed = claims(scores, group)
    some = 0
    for n in range(9):
        slow = torch.zeros(5, 6, dtype=torch.bool)
        for m in range(9):
            if m != n and group[m] == group[n]:
                slow |= (scores[m] > scores[n]) & (scores[m] > 0.5)
        own = scores[n] > 0.5
        kept = 2 * int((slow & own).sum()) < int(own.sum())
        some += kept
        assert torch.equal(claimed[n], slow & torch.tensor(kept))
    assert 0 < some < 9


def test_nobody():
    none = torch.zeros(0, dtype=torch.int64)
    scores = torch.rand(0, 4, 5)
    highest = highest_scores(scores, none, 2)
    assert not highest.any()
    assert claimed_by_others(scores, highest[none]).shape == (0, 4, 5)
