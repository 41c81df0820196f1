"""What our code warns of, in lines of its own; warnings of libraries go their way."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class Remark(UserWarning):
    """Something that a user should know about a result; no error."""


@contextmanager
def remarks() -> Iterator[list[str]]:
    """Collects the remarks of the block, each once; they are complete when it ends."""
    collected: list[str] = []
    with warnings.catch_warnings(record=True) as met:
        warnings.simplefilter("always", Remark)
        yield collected
    for one in met:
        if not issubclass(one.category, Remark):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
        elif str(one.message) not in collected:
            collected.append(str(one.message))
