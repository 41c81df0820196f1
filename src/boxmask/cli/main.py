"""All commands, and how their errors look."""

from __future__ import annotations

import errno
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

from cyclopts import App, CycloptsError, Parameter

from boxmask.cli.benchmark import build_benchmark
from boxmask.cli.check import check
from boxmask.cli.explain import explain
from boxmask.cli.interrupted import Ending, Interrupted, ended_by_signals
from boxmask.cli.label import label
from boxmask.cli.models import models
from boxmask.cli.predict import predict
from boxmask.cli.reproduce import reproduce
from boxmask.cli.train import resume_sugar, train
from boxmask.cli.val import val
from boxmask.cli.words import check_words
from boxmask.errors import UserError
from boxmask.remarks import Remark

USER_ERROR = 2
INTERRUPTED = 130
ENDED = 143
BROKEN = 1
DEBUG = "--debug"
# Errors of the disk that a user can mend, and how.
PLACES = {
    errno.ENOSPC: "free some space, or name another place with --out",
    errno.EDQUOT: "free some space, or name another place with --out",
    errno.EACCES: "name a place that you may read and write",
    errno.EPERM: "name a place that you may read and write",
    errno.EROFS: "name a place that you may write",
    errno.EISDIR: "name another file",
}
COMMANDS = {
    "check": check,
    "train": train,
    "val": val,
    "predict": predict,
    "label": label,
    "explain": explain,
    "models": models,
    "reproduce": reproduce,
}
GROUPS = {"benchmark": build_benchmark}  # each has commands of its own


def build_app() -> App:
    """The parser of all commands."""
    app = App(
        name="boxmask",
        help="Instance masks from box annotations: train, score, predict, label, explain.",
        help_epilogue="boxmask COMMAND --help says more. "
        "--debug, anywhere, shows where an error comes from.",
        version=_version,
        help_format="plaintext",
        result_action="return_value",
        suppress_keyboard_interrupt=False,  # ours says how to go on
        default_parameter=Parameter(negative_iterable=()),
    )
    for name, command in COMMANDS.items():
        app.command(command, name=name)
    for build in GROUPS.values():
        app.command(build())
    return app


def run(tokens: Sequence[str]) -> int:
    """Runs one command.

    Args:
        tokens: the words after `boxmask`.

    Returns:
        0 when all is well; 2 for a mistake of the user, 130 when interrupted, 143 when told to end
        by SIGTERM, 1 for one of ours.
    """
    with ended_by_signals(), warnings.catch_warnings():
        warnings.showwarning = _remark
        return _run([word for word in tokens if word != DEBUG], debug=DEBUG in tokens)


def _run(words: list[str], *, debug: bool) -> int:
    try:
        check_words(words)
        code = build_app()(resume_sugar(words), exit_on_error=False, print_error=False)
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt as error:
        return _stopped(error.hint if isinstance(error, Interrupted) else "")
    except BrokenPipeError:
        sys.stderr.close()  # whoever read us has left: no use in complaining
        return BROKEN
    except Exception as error:
        if Ending.signal:
            return _stopped("")
        if debug:
            raise
        return _explain(error, words)


def _stopped(hint: str) -> int:
    """Says how to go on; the exit code."""
    print(f"\nstopped{'; go on with: ' + hint if hint else ''}", file=sys.stderr)
    return ENDED if Ending.signal == signal.SIGTERM else INTERRUPTED


def _explain(error: Exception, words: Sequence[str]) -> int:
    """Says what is wrong; the exit code."""
    if isinstance(error, UserError):
        _complain(error.what, error.where, error.fix)
    elif isinstance(error, CycloptsError):
        _complain(str(error), "", _help_hint(words))
    elif isinstance(error, OSError) and error.errno in PLACES:
        _complain(str(error.strerror), str(error.filename or ""), PLACES[error.errno])
    else:
        _complain(f"{type(error).__name__}: {error}", "", f"this is a bug; see more with {DEBUG}")
        return BROKEN
    return USER_ERROR


def _remark(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Shows what our code warns of as a line, and warnings of libraries as Python does."""
    if issubclass(category, Remark):
        print(f"! {message}", file=sys.stderr)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


def _complain(what: str, where: str, fix: str) -> None:
    """What, where and what to do, a line each."""
    print(f"error: {what}", file=sys.stderr)
    for line in where.splitlines():
        print(f"  {line}", file=sys.stderr)
    if fix:
        print(f"  -> {fix}", file=sys.stderr)


def _help_hint(words: Sequence[str]) -> str:
    group = [word for word in words[:1] if word in GROUPS]
    command = [word for word in words if word in COMMANDS][:1]
    return " ".join(["see boxmask", *(group or command), "--help"])


def _version() -> str:
    from importlib.metadata import version

    return f"boxmask {version('boxmask')}"
