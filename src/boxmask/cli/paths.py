"""Wrong paths are told at once, before the libraries of the work itself are loaded."""

from pathlib import Path

from boxmask.errors import UserError


def require_run(run: Path) -> None:
    """Asks for a run folder or a weights file.

    Raises:
        UserError: If there is neither.
    """
    if not run.exists():
        raise UserError(
            "no such run or weights",
            where=str(run),
            fix="name a run folder or a .safetensors file",
        )


def require_data(data: Path) -> None:
    """Asks for a data set.

    Raises:
        UserError: If there is no file and no folder.
    """
    if not data.exists():
        raise UserError("no such folder or file", where=str(data))
