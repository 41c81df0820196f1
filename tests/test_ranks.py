import torch

from boxmask import ranks
from boxmask.errors import UserError


def test_alone_everything_is_itself():
    value = torch.tensor([1.0, 2.0], requires_grad=True)
    assert ranks.num_ranks() == 1
    assert ranks.rank() == 0
    assert ranks.is_first()
    total = ranks.sum_over_ranks(value)
    assert total.tolist() == [1, 2]
    assert not total.requires_grad
    total += 1
    assert value.tolist() == [1, 2]
    assert ranks.mean_over_ranks(value).tolist() == [1, 2]
    assert ranks.gather_objects([1, "a"]) == [1, "a"]


def test_user_errors_say_what_where_and_how_to_mend():
    error = UserError("bad box", where="a.json: 3", fix="mend it")
    assert str(error) == "bad box\na.json: 3\nmend it"
    assert str(UserError("bad box")) == "bad box"
