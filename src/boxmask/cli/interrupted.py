"""Ctrl+C, and SIGTERM as a cluster sends it: what to type to go on."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


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

    Lightning turns an interruption into an exit of its own, which is caught here too. Once the
    process was told to end, any error is an interruption: its reader processes were told as well.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(hint()) from error
    except SystemExit as error:
        if Ending.told or isinstance(error.__context__, KeyboardInterrupt):
            raise Interrupted(hint()) from error
        raise
    except Exception as error:
        if Ending.told:
            raise Interrupted(hint()) from error
        raise


class Ending:
    """Whether this process was told to end, by SIGTERM."""

    told = False


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Within the block SIGTERM interrupts like Ctrl+C; `Ending.told` tells them apart."""
    Ending.told = False
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, frame: FrameType | None) -> None:
    if Ending.told:  # once is enough: the way out must not be interrupted
        return
    Ending.told = True
    if hasattr(signal, "SIGCHLD"):  # torch would raise wherever we are, for each reader that ends
        signal.signal(signal.SIGCHLD, _go_on)
    raise KeyboardInterrupt


def _go_on(number: int, frame: FrameType | None) -> None:
    """Hears a signal and does nothing."""
