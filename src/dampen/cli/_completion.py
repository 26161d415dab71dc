"""`--install-completion` and `--show-completion`: what teaches a shell commands, options and names of studies."""

from collections.abc import Sequence

from dampen._io import shortened
from dampen.errors import InputError

_INSTALL, _SHOW = "--install-completion", "--show-completion"
_SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")
_NAME, _VARIABLE = "dampen", "_DAMPEN_COMPLETE"


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
        _, place = install(shell, _NAME, _VARIABLE)
    except UnicodeError:
        raise InputError(
            f"the start-up file of {shell} is not in the encoding of this terminal, and is left as it is: "
            f"{_NAME} {_SHOW} {shell} prints the completion, for a file that it can source"
        ) from None
    except (OSError, RuntimeError, subprocess.SubprocessError) as e:  # no home folder; a shell that does not run
        reason = f"{e.filename}: {e.strerror}" if isinstance(e, OSError) and e.filename else e
        raise InputError(f"the completion can't be installed: {shortened(reason)}; {_SHOW} {shell} prints it") from None
    print(f"The completion for {shell} is in {place}; a new terminal has it.")


def _running_shell() -> str | None:
    """Return the name of the shell that runs this command, None where there is none."""
    import shellingham

    try:
        return shellingham.detect_shell()[0]
    except (shellingham.ShellDetectionFailure, OSError):
        return None
