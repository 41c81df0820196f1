import errno

import pytest

from boxmask.data.output_files import write_whole
from boxmask.errors import UserError
from boxmask.whole_files import written_beside


def test_other_errors_are_not_explained(tmp_path):
    with pytest.raises(ZeroDivisionError), written_beside(tmp_path / "file"):
        raise ZeroDivisionError
    assert not any(tmp_path.iterdir())


def test_a_text_outlives_a_full_disk(tmp_path):
    def fill(stream):
        stream.write("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    file = tmp_path / "train.json"
    write_whole(file, lambda stream: stream.write("whole"))
    with pytest.raises(UserError, match=r"the disk is full: train\.json"):
        write_whole(file, fill)
    assert file.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [file]
