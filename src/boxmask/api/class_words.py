"""Lists of classes that fit into a line."""

from collections.abc import Sequence

SHOWN = 10


def first_names(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
