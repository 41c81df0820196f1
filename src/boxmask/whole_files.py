"""Large files are written beside their place: what was there stays until the new one is whole."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from boxmask.errors import UserError

LEAST_FREE = 2**16  # bytes; a disk with less is full


@contextmanager
def written_beside(file: Path) -> Iterator[Path]:
    """Gives a path to write to, which takes the place of `file` when the block ends well.

    Raises:
        UserError: If the disk is full.
    """
    partial = file.with_name(file.name + ".partial")
    try:
        yield partial
        partial.replace(file)
    except Exception as error:
        # Torch and safetensors have errors of their own, which do not always tell.
        full = "No space left on device" in str(error)
        if not full and shutil.disk_usage(file.parent).free > LEAST_FREE:
            raise
        raise UserError(
            f"the disk is full: {file.name} cannot be written",
            where=str(file),
            fix="free some space and go on with --resume, or name another --out",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
