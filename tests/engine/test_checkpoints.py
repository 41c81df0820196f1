import errno

import pytest
import torch

from boxmask.engine.checkpoints import WholeCheckpoints
from boxmask.errors import UserError


class FullError:
    """Fills the disk when it is saved."""

    def __reduce__(self):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_the_last_checkpoint_outlives_a_full_disk(tmp_path):
    file = tmp_path / "weights" / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"epoch": 1}, file)
    with pytest.raises(UserError, match=r"the disk is full: last\.ckpt") as error:
        WholeCheckpoints().save_checkpoint({"epoch": FullError()}, file)
    assert "--resume" in error.value.fix
    assert torch.load(file) == {"epoch": 1}
    assert [one.name for one in file.parent.iterdir()] == ["last.ckpt"]
