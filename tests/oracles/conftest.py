"""Values of the published code, where the folder beside the repository has them."""

from pathlib import Path

import pytest

from boxmask.benchmark.reference_comparison import StoredValues

ORACLES = Path(__file__).resolve().parents[3] / "shared" / "oracles"


@pytest.fixture(scope="session")
def stored_file():
    """The file of a name; skips where it is absent."""

    def find(name):
        file = ORACLES / f"{name}.npz"
        if not file.is_file():
            pytest.skip(f"no reference values at {file}")
        return file

    return find


@pytest.fixture(scope="session")
def oracle(stored_file):
    """Reads one file by name as tensors; skips where it is absent."""
    return lambda name: StoredValues(stored_file(name))
