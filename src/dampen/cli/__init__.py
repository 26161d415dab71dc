"""The command line: parses, calls, prints."""

import contextlib
import sys
from typing import NoReturn

from dampen.cli import _startup

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line: exit code 0, 2 for bad input (one line on stderr), 130 when interrupted."""
    _startup.prepare()
    if sys.argv[1:] == ["--version"] and sys.stdout is not None:
        with contextlib.suppress(OSError):  # of which `run` makes a line
            _startup.print_version()
            sys.exit(0)
    with _startup.importing():
        from dampen.cli._main import run
    run()
