"""The command line: parses, calls, prints."""

from dampen.cli._main import main

__all__ = ["main"]
