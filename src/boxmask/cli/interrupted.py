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
    process was told to end, any error is an interruption: its reader processes were told as well,
    by a terminal as by a cluster.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(hint()) from error
    except SystemExit as error:
        if Ending.signal or isinstance(error.__context__, KeyboardInterrupt):
            raise Interrupted(hint()) from error
        raise
    except Exception as error:
        if Ending.signal:
            raise Interrupted(hint()) from error
        raise


class Ending:
    """Which signal told this process to end; None while none has."""

    signal: int | None = None


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Within the block SIGTERM interrupts like Ctrl+C; `Ending.signal` tells them apart."""
    Ending.signal = None
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # What the shell lets a job in the background ignore stays so; None is a handler not of Python.
    before = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGTERM and Ending.signal == number:
        return  # once is enough: the way out must not be interrupted
    Ending.signal = Ending.signal or number
    if hasattr(signal, "SIGCHLD"):  # torch would raise wherever we are, for each reader that ends
        signal.signal(signal.SIGCHLD, _go_on)
    raise KeyboardInterrupt


def _go_on(number: int, frame: FrameType | None) -> None:
    """Hears a signal and does nothing."""
