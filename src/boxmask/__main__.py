"""The command line: `boxmask`, or `python -m boxmask`."""

import sys


def main() -> None:
    """Runs the command and leaves with its exit code."""
    from boxmask.freed_memory import keep_freed_memory

    keep_freed_memory()
    from boxmask.cli.main import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
