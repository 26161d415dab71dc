"""`--install-completion` and `--show-completion`: what teaches a shell commands, options and names of studies."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dampen._io import shortened
from dampen.cli import _output
from dampen.errors import InputError

_INSTALL, _SHOW = "--install-completion", "--show-completion"
_SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")
_NAME, _VARIABLE = "dampen", "_DAMPEN_COMPLETE"
_START_UP = (".bashrc", ".zshrc")  # files of the user's own that typer writes anew, a line longer


def asked_for(words: Sequence[str]) -> bool:
    """Return whether a command line is one of these."""
    return bool(words) and words[0].partition("=")[0] in (_INSTALL, _SHOW)


def run(words: Sequence[str]) -> None:
    """Install or print the completion for the shell that is named, by default the one that runs the command.

    Typer has both as options without a value, which ignore what follows them.

    Raises:
        InputError: no such shell, no shell at all, or files that can't be changed.
    """
    import subprocess

    from typer.completion import get_completion_script, install  # type: ignore[attr-defined]

    option, _, value = words[0].partition("=")
    shells = [*([value] if "=" in words[0] else []), *words[1:]]
    if len(shells) > 1:
        raise InputError(f"{option} takes one shell at most, got {shortened(' '.join(shells))}")
    shell = shells[0] if shells else _running_shell()
    if shell not in _SHELLS:
        given = f"got {shortened(shell)}" if shell else "and none was found around this command: name yours"
        raise InputError(f"{option} takes one of {', '.join(_SHELLS)}; {given}")
    if option == _SHOW:
        print(get_completion_script(prog_name=_NAME, complete_var=_VARIABLE, shell=shell))
        return
    try:
        with _as_they_were(*(Path.home() / name for name in _START_UP)):
            _, place = install(shell, _NAME, _VARIABLE)
    except UnicodeError:
        raise InputError(
            f"the start-up file of {shell} is not in the encoding of this terminal, and is left as it is: "
            f"{_NAME} {_SHOW} {shell} prints the completion, for a file that it can source"
        ) from None
    except (OSError, RuntimeError, subprocess.SubprocessError) as e:  # no home folder; a shell that does not run
        reason = f"{e.filename}: {e.strerror}" if isinstance(e, OSError) and e.filename else e
        raise InputError(f"the completion can't be installed: {shortened(reason)}; {_SHOW} {shell} prints it") from None
    _output.say(f"The completion for {shell} is in {place}; a new terminal has it.")


@contextmanager
def _as_they_were(*files: Path) -> Iterator[None]:
    """Put back what files held where something goes wrong: typer empties a start-up file before it writes it."""
    held = {file: file.read_bytes() for file in files if file.is_file()}
    try:
        yield
    except BaseException:
        for file, content in held.items():
            if file.read_bytes() != content:
                file.write_bytes(content)
        raise


def _running_shell() -> str | None:
    """Return the name of the shell that runs this command, None where there is none."""
    import shellingham

    try:
        return shellingham.detect_shell()[0]
    except (shellingham.ShellDetectionFailure, OSError):
        return None
