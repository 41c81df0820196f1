import subprocess
import sys

import pytest

from boxmask.engine.run_lock import at_work, require_idle
from boxmask.errors import UserError

pytest.importorskip("fcntl")
HOLD = """
import sys
from pathlib import Path
from boxmask.engine.run_lock import at_work
with at_work(Path(sys.argv[1])):
    print("at work", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_one_process_s_until_it_ends(tmp_path):
    require_idle(tmp_path)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdout.readline() == "at work\n"
    with pytest.raises(UserError, match="a run is at work in this folder") as error:
        require_idle(tmp_path)
    assert error.value.where == str(tmp_path)
    with pytest.raises(UserError, match="a run is at work"), at_work(tmp_path):
        pass
    other.kill()
    other.communicate()
    require_idle(tmp_path)
    with at_work(tmp_path):
        pass
