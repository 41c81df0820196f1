"""Values of the published code, where the folder beside the repository has them."""

from pathlib import Path

import numpy as np
import pytest
import torch

ORACLES = Path(__file__).resolve().parents[3] / "shared" / "oracles"
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="session")
def oracle():
    """Reads one file by name as tensors; skips where the files are absent."""

    def read(name):
        file = ORACLES / f"{name}.npz"
        if not file.is_file():
            pytest.skip(f"no reference values at {file}")
        with np.load(file) as values:
            return {
                key: torch.from_numpy(np.asarray(values[key]))
                for key in values
                if values[key].dtype.kind in "fiub"
            }

    return read


@pytest.fixture(scope="session")
def close():
    """Asserts that two tensors agree as the reference values promise."""

    def check(ours, expected):
        torch.testing.assert_close(ours.detach(), expected, check_dtype=False, **CLOSE)

    return check


@pytest.fixture(scope="session")
def close_for_sums():
    """As `close`, for sums of large numbers: one value of a thousand may be off by rounding.

    Mask logits of the stored heads reach 309 and cancel to nearly 0. Computed in float64 they
    differ from the stored float32 ones in more values, and by more, than ours do.
    """

    def check(ours, expected, largest_error):
        ours = ours.detach()
        near = torch.isclose(ours, expected, **CLOSE)
        assert near.float().mean() > 0.999
        torch.testing.assert_close(ours, expected, rtol=CLOSE["rtol"], atol=largest_error)

    return check
