"""The `dampen` command: its subcommands, and how every failure that is the user's ends in one line."""

import contextlib
import io
import os
import re
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from dampen._io import shortened
from dampen._language import LANGUAGES, choose, language, shown
from dampen.cli import _completion, _options, _startup
from dampen.cli._examples import epilog
from dampen.cli._option_names import as_options
from dampen.cli._output import WARNED, printable
from dampen.errors import InputError, NoFont, NotFusedWarning, NotSampled, OutputsWarning

BAD_INPUT, INTERRUPTED = 2, 130  # exit codes
_LONGEST = 2000  # letters of a message: names may have thousands

# {panel: {command: (module, function)}}: a module is imported where its command is in question.
_PANELS = {
    "A study": {
        "tune": ("_tune", "tune"),
        "report": ("_tune", "report"),
        "predict": ("_predict", "predict"),
        "trust": ("_predict", "trust"),
        "export": ("_export", "command"),
        "runs": ("_runs", "application"),
    },
    "Your own training": {"doctor": ("_doctor", "command"), "knobs": ("_knobs", "command")},
    "Experiments": {
        "play": ("_play", "command"),
        "explore": ("_explore", "command"),
        "weight-decay": ("_weight_decay", "command"),
        "dropout": ("_dropout", "command"),
    },
}


class _WithPlainFlags:
    """Help that shows no type beside an option without a value, and typer's own words in the reader's language."""

    def get_params(self, ctx: Any) -> Any:
        params = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = param.metavar or ""
        return params

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)  # type: ignore[misc]
        option.help = shown(option.help)
        return option

    def get_usage(self, ctx: Any) -> str:
        words = "Usage: "
        return super().get_usage(ctx).replace(words, shown(words), 1)  # type: ignore[misc]


class _Command(_WithPlainFlags, TyperCommand):
    """A command."""


class _Commands(_WithPlainFlags, TyperGroup):
    """The commands; where none of them runs, nothing is imported that only they need."""

    def get_params(self, ctx: Any) -> Any:
        params = super().get_params(ctx)
        for param in params:
            if getattr(param, "is_flag", False):
                param.default = param.default or False  # without a value typer loads pydantic to find none
        return params


def _application(words: Sequence[str]) -> typer.Typer:
    """Return the command line with the command that is called, or with all of them where none is."""
    app = typer.Typer(
        name="dampen",
        cls=_Commands,
        help="How much weight decay and dropout a network needs, whether they help, and when to trust a prediction.",
        pretty_exceptions_enable=False,
        epilog=epilog(""),
        rich_markup_mode="rich",  # --help in panels
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    app.callback(invoke_without_command=True)(_root)
    names = {name for commands in _PANELS.values() for name in commands}
    called = names.intersection(words[:1]) or names
    for panel, commands in _PANELS.items():
        for name in (name for name in commands if name in called):
            module, function = commands[name]
            room = import_module(f"dampen.cli.{module}")
            command = getattr(room, function)
            if name == "runs":  # has commands of its own
                group = command(_Commands, _Command, _paragraphs)
                app.add_typer(group, name=name, help=room.HELP, epilog=epilog(name), rich_help_panel=panel)
            else:
                text = _paragraphs(command.__doc__)
                app.command(name, cls=_Command, help=text, epilog=epilog(name), rich_help_panel=panel)(
                    _options.at_home(command)
                )
    return app


def _paragraphs(docstring: str | None) -> str:
    """Return a docstring with each paragraph in one line, to be wrapped anew."""
    return "\n\n".join(" ".join(part.split()) for part in (docstring or "").split("\n\n"))


def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and stop.", metavar=""),
    lang: bool = typer.Option(  # for help: its word is taken off the line before that is parsed
        False,
        "--lang",
        metavar="LANG",
        help="Language of what is printed and of reports, en or zh; JSON stays English.",
        show_default="DAMPEN_LANG, then the locale's",
    ),
) -> None:
    if version:
        _startup.print_version()
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help(), end="")  # rich prints it itself


def run() -> NoReturn:
    """Run the command line: exit code 0, 2 for bad input (one line on stderr), 130 when interrupted."""
    if sys.stderr is None:  # closed: its lines must not go to stdout
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:
        sys.exit(_fail("standard output is closed, and results go there: send it to a file or to /dev/null"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a letter that the terminal lacks must not end a command
    with warnings.catch_warnings():
        for category in (NoFont, NotFusedWarning, NotSampled, OutputsWarning):
            warnings.simplefilter("always", category)
        warnings.showwarning = _show
        WARNED.clear()
        code = _in_language(sys.argv[1:])
    sys.exit(code)


def _in_language(words: Sequence[str]) -> int:
    """Run the command line in the language of its `--lang`, which may stand anywhere."""
    try:
        words, name = language_of(words)
    except InputError as error:
        return _fail(str(error))
    if name is not None:
        choose(name)
    return _run(words)


def language_of(words: Sequence[str]) -> tuple[list[str], str | None]:
    """Return a command line without its `--lang`, and the language that it names.

    Raises:
        InputError: there is no such language.

    Example:
        >>> language_of(["tune", "digits", "--lang", "zh"])
        (['tune', 'digits'], 'zh')
    """
    left, name = [], None
    upcoming = iter(words)
    for word in upcoming:
        if word == "--":
            return [*left, word, *upcoming], name
        option, equals, value = word.partition("=")
        if option != "--lang":
            left.append(word)
            continue
        name = value if equals else next(upcoming, "")
        if name not in LANGUAGES:
            raise InputError(f"--lang must be one of {', '.join(LANGUAGES)}; got {name or 'nothing'}")
    return left, name


def _run(words: Sequence[str]) -> int:
    try:
        if _completion.asked_for(words):
            _completion.run(words)
            sys.stdout.flush()
            return 0
        with _startup.importing():
            command = typer.main.get_command(_application(words))
        helps = not words or not {"-h", "--help"}.isdisjoint(words)
        if helps and language() != "en":
            from dampen.cli import _help

            _help.translate(command)
        with _startup.importing() if helps else contextlib.nullcontext():  # help imports what draws its panels
            code = command.main(list(words), prog_name="dampen", standalone_mode=False)
        sys.stdout.flush()
    except InputError as error:
        code = _fail(_OUT_OF_MEMORY if lacks_memory(error) else as_options(str(error)))
    except BrokenPipeError:  # the reader of our output has gone, `dampen ... | head` for one
        _close_stdout()
        code = 1
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:
        if lacks_memory(error):
            sys.exit(_fail(_OUT_OF_MEMORY))
        if isinstance(error, OSError):
            code = _fail(_os_error_line(error))
            _close_stdout()
            sys.exit(code)
        if type(error).__name__ == "Abort":  # what click makes of Ctrl-C
            code = INTERRUPTED
        elif isinstance(message := getattr(error, "message", None), str):  # click's: an unknown option, and so on
            code = _fail(_usage(getattr(error, "format_message", lambda: message)()))
        else:
            raise
    return code


def _usage(message: str) -> str:
    """Return typer's words for an option's wrong choice in ours; other messages as they are."""
    match = _NO_CHOICE.fullmatch(message)
    if match is None:
        return message
    option, given, choices = match.groups()
    return f"{option} must be one of {choices.replace(chr(39), '')}; got {given}"


_NO_CHOICE = re.compile(r"Invalid value for '(--[\w-]+)': (?:Value error, )?(.*) is not one of (.*?)\.?", re.DOTALL)


def _show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Print a warning of ours as one line; another one as Python does."""
    line = " ".join(str(message).split())
    if category.__module__.partition(".")[0] != "dampen":
        _python_shows(message, category, *where, **more)
    elif line not in WARNED:
        WARNED.append(line)
        print(f"dampen: {printable(shown(f'note: {line}'))}", file=sys.stderr)


_python_shows = warnings.showwarning


def lacks_memory(error: BaseException | None) -> bool:
    """Return whether the want of memory is behind an error: libraries report it in many ways, some in a chain."""
    while error is not None:
        if isinstance(error, MemoryError) or _MEMORY.search(_without_names(error)):
            return True
        error = error.__cause__ if error.__suppress_context__ else error.__context__
    return False


def _without_names(error: BaseException) -> str:
    """Return an error's words without a user's: files and columns may be called `out of memory`."""
    if isinstance(error, InputError):
        return ""
    return error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__} {error}"


_OUT_OF_MEMORY = (
    "there is not enough memory for this: use a machine with more, fewer rows or a smaller network, or raise the limit "
    "(ulimit -v)"
)
_MEMORY = re.compile(
    r"[Cc]an(no|')t allocate|failed to map segment|bad_alloc|OutOfMemory|out of memory|[Mm]alloc of size|"
    r"Unable to allocate|can't start new thread|not enough memory"
)


def _os_error_line(error: OSError) -> str:
    """Return the system's error in a line."""
    if error.filename is None:
        return f"the results can't be written: {error.strerror or error}"
    return f"{shortened(error.filename)}: {error.strerror or error}"


def _close_stdout() -> None:
    """Let what could not be printed go nowhere, so that Python does not try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str) -> int:
    line = shown(" ".join(message.split()))
    print(f"dampen: {printable(shortened(line, _LONGEST))}", file=sys.stderr)
    return BAD_INPUT
