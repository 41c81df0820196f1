"""All commands, and how their errors look."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter

from boxmask.cli.benchmark import build_benchmark
from boxmask.cli.check import check
from boxmask.cli.explain import explain
from boxmask.cli.interrupted import Interrupted
from boxmask.cli.label import label
from boxmask.cli.models import models
from boxmask.cli.predict import predict
from boxmask.cli.reproduce import reproduce
from boxmask.cli.train import resume_sugar, train
from boxmask.cli.val import val
from boxmask.cli.words import check_words
from boxmask.errors import UserError

USER_ERROR = 2
INTERRUPTED = 130
BROKEN = 1
DEBUG = "--debug"
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
        0 when all is well; 2 for a mistake of the user, 130 when interrupted, 1 for one of ours.
    """
    debug = DEBUG in tokens
    words = [word for word in tokens if word != DEBUG]
    try:
        check_words(words)
        code = build_app()(resume_sugar(words), exit_on_error=False, print_error=False)
        return code if isinstance(code, int) else 0
    except UserError as error:
        if debug:
            raise
        _complain(error.what, error.where, error.fix)
        return USER_ERROR
    except CycloptsError as error:
        if debug:
            raise
        _complain(str(error), "", _help_hint(words))
        return USER_ERROR
    except KeyboardInterrupt as error:
        hint = error.hint if isinstance(error, Interrupted) else ""
        print(f"\nstopped{'; go on with: ' + hint if hint else ''}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # whoever read us has left: no use in complaining
        return BROKEN
    except Exception as error:
        if debug:
            raise
        _complain(f"{type(error).__name__}: {error}", "", f"this is a bug; see more with {DEBUG}")
        return BROKEN


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
