"""Ctrl+C: what to type to go on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Interrupted(KeyboardInterrupt):
    """The user stopped a command that can go on.

    Args:
        hint: the command that goes on; may be empty.
    """

    def __init__(self, hint: str) -> None:
        self.hint = hint
        super().__init__(hint)


@contextmanager
def resumable(hint: Callable[[], str]) -> Iterator[None]:
    """Adds `hint()` to an interruption of the block.

    Lightning turns an interruption into an exit of its own, which is caught here too.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(hint()) from error
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise Interrupted(hint()) from error
        raise
