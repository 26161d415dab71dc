"""`dampen runs`: the studies that a folder keeps, listed, shown, put side by side and removed."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from dampen._io import RUNS
from dampen._language import part, shown
from dampen.cli import _options, _output, _startup
from dampen.cli._examples import epilog
from dampen.cli._output import printable
from dampen.errors import InputError

if TYPE_CHECKING:
    from dampen.study import Kept

_LONGEST = 60  # letters of a name in a table


_Studies = Annotated[
    list[str],
    typer.Argument(help="Folders of studies, or names in dampen-runs.", autocompletion=_options.studies),
]
_Folder = Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Folder of studies.", show_default=True)]


def list_studies(folder: _Folder = RUNS, json: _options.Json = False) -> None:
    """List the studies in a folder, the latest first: what each was made on, what it found, how long it took."""
    with _startup.importing():
        from dampen.study import kept

    found = kept(folder)
    if json:
        _output.print_json({"folder": str(folder), "studies": [study.summary() for study in found]})
        return
    if not found:
        _output.say(f"There is no study in {printable(folder)}: dampen tune makes one.")
        return
    names = _names([study.folder for study in found])
    rows = [[name, *_row(study)] for name, study in zip(names, found, strict=True)]
    head = ("study", "changed", "data", "found", "on evaluation rows", "recommended", "took")
    _output.print_table([shown(name) for name in head], rows)
    for study in found:
        if study.reason:
            print(f"dampen: {printable(shown(f'note: {study.reason}'))}", file=sys.stderr)


def show(
    study: _options.Study,
    importance: Annotated[
        bool,
        _options.flag(
            "--importance",
            "Show which knobs matter: what the search's best settings have in common.",
            panel=_options.OUTPUT,
        ),
    ] = False,
    json: _options.Json = False,
) -> None:
    """Print the verdict of a finished study again, with what the test rows add to it."""
    with _startup.importing():
        from dampen.study import load_study, study_folder

    found = load_study(study_folder(study))
    of_knobs = found.importance() if importance else None
    if json:
        _output.print_json(found.document() | ({} if of_knobs is None else {"importance": of_knobs.document()}))
        return
    from dampen.cli._tune import print_importance, print_study

    print_study(found)
    if of_knobs is not None:
        print_importance(of_knobs)
    if (page := (found.folder or Path()) / "report.html").is_file():
        print(printable(page))


def compare(studies: _Studies, json: _options.Json = False) -> None:
    """Put finished studies side by side: what each recommends and found, and in what their plans differ."""
    with _startup.importing():
        from dampen.study import side_by_side, study_folder

    found = side_by_side([study_folder(name) for name in studies])
    if json:
        _output.print_json(found)
        return
    each: list[dict[str, Any]] = found["studies"]
    lines = {
        "data": [printable(study["data"], _LONGEST) for study in each],
        "regularisation": [shown(study["outcome"]) for study in each],
        "recommended": [part(study["training"]).replace(", ", "\n").replace("，", "\n") for study in each],
        "on evaluation rows": [_value(study) for study in each],
        "gain": [_gain(study["gain"]) for study in each],
        "on test rows": [_figure(study["metric"], study["test"]) for study in each],
        "took": [_time(study["seconds"]) for study in each],
    }
    names = _names([Path(study["folder"]) for study in each])
    _output.print_table(["", *names], [[shown(name), *cells] for name, cells in lines.items()])
    for name, differences in zip(names[1:], found["differences"][1:], strict=True):
        each_shown = "; ".join(map(part, differences))  # one by one: joined they would be taken apart elsewhere
        _output.say(f"{names[0]} and {name} differ in: {each_shown or 'nothing that was asked for'}.")
    for note in found["notes"]:
        _output.say(f"Note: {note}.")


def remove(
    studies: _Studies,
    yes: Annotated[bool, _options.flag("--yes", "Remove without a question.", panel=_options.OUTPUT)] = False,
    json: _options.Json = False,
) -> None:
    """Remove studies; files of your own in their folders stay, and so do exports.

    Asks first, unless --yes is given. Nothing is removed where one of them is no study, or is being written to.
    """
    with _startup.importing():
        from dampen.study import check_removable_study, remove_study, study_folder

    folders = list({os.path.realpath(folder): folder for folder in map(study_folder, studies)}.values())
    for folder in folders:
        check_removable_study(folder)
    if not yes and not _agreed(folders):
        raise InputError("nothing was removed")
    stayed = {str(folder): [str(file) for file in remove_study(folder)] for folder in folders}
    if json:
        _output.print_json({"removed": list(stayed), "stayed": [file for files in stayed.values() for file in files]})
        return
    for name, files in stayed.items():
        if files:
            _output.say(f"removed {printable(name)}; {len(files)} of your own files stayed there")
        else:
            _output.say(f"removed {printable(name)}")


def application(
    group: type[TyperGroup], leaf: type[TyperCommand], paragraphs: Callable[[str | None], str]
) -> typer.Typer:
    """Return the command with its own commands; without one it lists."""
    app = typer.Typer(cls=group, rich_markup_mode="rich", add_completion=False)
    app.callback(invoke_without_command=True)(_root)
    for name, command in COMMANDS.items():
        app.command(name, cls=leaf, help=paragraphs(command.__doc__), epilog=epilog(f"runs {name}"))(
            _options.at_home(command)
        )
    return app


COMMANDS = {"list": list_studies, "show": show, "compare": compare, "remove": remove}
HELP = "List, show, compare and remove studies."


def _root(context: typer.Context, json: _options.Json = False) -> None:
    command = context.invoked_subcommand
    if command is None:
        list_studies(json=json)
    elif json:
        raise InputError(f"--json stands after the command: dampen runs {command} ... --json")


def _agreed(folders: list[Path]) -> bool:
    """Ask whether to remove; without a terminal nobody can answer."""
    if not sys.stdin or not sys.stdin.isatty():
        raise InputError("nobody can be asked here whether to remove: give --yes; nothing was removed")
    _output.say(f"Remove {', '.join(map(printable, folders))}? [y/N] ", end="", stream=sys.stderr)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _names(folders: Sequence[Path]) -> list[str]:
    """Return a name for each folder, its last part; with as many parts before it as tell it from the others."""
    parts = [Path(os.path.abspath(folder)).parts for folder in folders]
    ends = [next((n for n in range(1, len(own)) if _alone(own, n, parts)), len(own)) for own in parts]
    names = [str(Path(*own[-n:])) for own, n in zip(parts, ends, strict=True)]
    short = [printable(name, _LONGEST) for name in names]
    return short if len(set(short)) == len(set(names)) else [printable(name) for name in names]


def _alone(own: tuple[str, ...], n: int, all_parts: Sequence[tuple[str, ...]]) -> bool:
    """Return whether no other folder has the same last `n` parts."""
    return all(other == own or other[-n:] != own[-n:] for other in all_parts)


def _row(study: "Kept") -> list[str]:
    from dampen.study import in_words

    data = printable(study.data, _LONGEST)
    head = [study.changed.astimezone().strftime("%Y-%m-%d %H:%M"), data, shown(study.outcome)]
    if study.document is None:
        return [*head, "", "", ""]
    about = study.summary()
    return [*head, _value(about), part(in_words(study.document)), _time(about["seconds"])]


def _value(study: dict[str, Any]) -> str:
    return _figure(study["metric"], {"mean": study["value"], "interval": study["interval"]})


def _gain(gain: dict[str, Any] | None) -> str:
    return "" if gain is None else _figure("", {"mean": gain["estimate"], "interval": gain["interval"]}, "+")


def _figure(metric: str, value: dict[str, Any] | None, sign: str = "") -> str:
    if not value:
        return ""
    if value["mean"] is None:
        return f"{metric}: {shown('diverged')}"
    ends = [end for end in value["interval"] or () if end is not None]
    interval = f" ({part(' to '.join(f'{end:{sign}.4g}' for end in ends))})" if ends else ""
    return f"{shown(metric)} {value['mean']:{sign}.4g}{interval}".strip()


def _time(seconds: float) -> str:
    """Return a time as `42 s`, `5 min` or `1.5 h`."""
    if seconds < 120:
        return part(f"{seconds:.0f} s")
    return part(f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h")
