"""Help in the reader's language: the texts of a command, its options and its panels."""

import re
from typing import Any

from dampen._language import shown

_BREAK = re.compile(r"([，。；：、])(?=\w)")  # where lines break: rich cuts what has no space


def translate(command: Any) -> None:
    """Put the twins of a command's texts in their place, and those of its own commands.

    Args:
        command: click's, as typer makes it.
    """
    from typer import rich_utils

    for panel in ("OPTIONS", "ARGUMENTS", "COMMANDS"):
        name = f"{panel}_PANEL_TITLE"
        setattr(rich_utils, name, shown(getattr(rich_utils, name)))
    rich_utils.DEFAULT_STRING = shown(rich_utils.DEFAULT_STRING)
    _translate(command)


def _translate(command: Any) -> None:
    command.help = _paragraphs(command.help)
    command.short_help = _paragraphs(command.short_help)
    command.epilog = _paragraphs(command.epilog)
    command.rich_help_panel = _text(getattr(command, "rich_help_panel", None))
    for parameter in command.params:
        parameter.help = _BREAK.sub(r"\1 ", _text(getattr(parameter, "help", None)) or "") or None
        parameter.show_default = _text(getattr(parameter, "show_default", None))
        parameter.rich_help_panel = _text(getattr(parameter, "rich_help_panel", None))
    for below in getattr(command, "commands", {}).values():
        _translate(below)


def _paragraphs(text: str | None) -> str | None:
    return text if text is None else "\n\n".join(shown(part) for part in re.split("\n\n", text))


def _text(value: Any) -> Any:
    return shown(value) if isinstance(value, str) else value
