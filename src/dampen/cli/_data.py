"""The options by which every command reads data, and the lines on what was done to it."""

import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from dampen._language import part, shown
from dampen.cli import _options, _output
from dampen.cli._option_names import as_options

if TYPE_CHECKING:
    from dampen.data import Data

Source = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A table (.csv, .tsv, .parquet, .feather, .xlsx), a .npz file, a folder of images by class or of IDX "
        "files; or digits, fashion-mnist, mnist, iris, wine, breast-cancer, diabetes.",
    ),
]


def _data_options(
    target: Annotated[str | None, _options.in_data("Column to predict.", "target, label, class, y")] = None,
    task: Annotated[
        Literal["classification", "regression"] | None,
        _options.in_data("What the target is: classification or regression.", "from the target", metavar="TASK"),
    ] = None,
    drop: Annotated[str | None, _options.in_data("Columns to leave out, separated by commas.")] = None,
    category: Annotated[
        str | None, _options.in_data("Columns of codes, read as categories, separated by commas.")
    ] = None,
    text: Annotated[
        list[str] | None,
        _options.in_data("Column of free text, read as words; repeat it for more.", metavar="COLUMN"),
    ] = None,
    codes: Annotated[
        list[str] | None,
        _options.in_data(
            "Column of categories that become codes, for your own network with nn.Embedding; repeat it for more.",
            metavar="COLUMN",
        ),
    ] = None,
    group: Annotated[
        str | None, _options.in_data("Column of groups: rows of one group stay together in every split.")
    ] = None,
    weight: Annotated[str | None, _options.in_data("Column of row weights.")] = None,
    test: Annotated[Path | None, _options.in_data("File with the test rows.", "a quarter, drawn")] = None,
    time_order: Annotated[
        str | None, _options.in_data("Column of dates or numbers: the latest rows are for validation and test.")
    ] = None,
    image_size: Annotated[int | None, _options.in_data("Side, in pixels, to which images are resized.", min=1)] = None,
    image_max: Annotated[float | None, _options.in_data("Value of white in images of more than 8 bits.")] = None,
    data_dir: _options.DataDir = None,
) -> None:
    """Carry the options; never called."""


def takes_data(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which gets their values as the mapping `reading`, for `read`."""
    own, added = inspect.signature(command), inspect.signature(_data_options)
    hints, more = get_type_hints(command, include_extras=True), get_type_hints(_data_options, include_extras=True)

    def with_options(**given: Any) -> None:
        command(reading={name: given.pop(name) for name in added.parameters}, **given)

    kept = [p.replace(annotation=hints[name]) for name, p in own.parameters.items() if name != "reading"]
    extra = [p.replace(annotation=more[name]) for name, p in added.parameters.items()]
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*extra, *kept)]  # as --help shows them
    with_options.__name__, with_options.__doc__ = command.__name__, command.__doc__
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {p.name: p.annotation for p in parameters}
    return with_options


def read(source: str, reading: dict[str, Any]) -> "Data":
    """Read what a user named.

    Raises:
        InputError: as `load`.
    """
    from dampen.data import load

    return load(source, **_arguments(reading), progress=sys.stderr.isatty())


def read_head(source: str, reading: dict[str, Any]) -> "tuple[Data, float] | None":
    """Read the first rows of a large text file, as `dampen.data.read_head`."""
    from dampen.data import read_head as run

    return run(Path(source), **_arguments(reading))


def _arguments(reading: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given as `load` takes them."""
    reading = dict(reading)
    for option in ("drop", "category"):
        if reading[option] is not None:
            reading[option] = [name.strip() for name in reading[option].split(",") if name.strip()]
    return {name: value for name, value in reading.items() if value not in (None, [])}


def given(reading: dict[str, Any]) -> list[str]:
    """Return the names of the options that say how data is read; where the built-in sets lie is none."""
    return [name for name in _arguments(reading) if name != "data_dir"]


def data_printer(data: "Data", json: bool, more: Sequence[str] = ()) -> Callable[[], None]:
    """Return what prints, when first called, what was done to the data, and `more`: on stdout, with `json` on stderr.

    It is called when training begins: a mistake that is found before that stays one line.
    """
    printed: list[bool] = []

    def report() -> None:
        if not printed:
            printed.append(True)
            stream = sys.stderr if json else sys.stdout
            _print_columns_and_notes(data, stream)
            for line in more:
                _output.say(line, stream=stream)

    return report


def _print_columns_and_notes(data: "Data", stream: Any) -> None:
    if data.columns is not None:
        rows = [
            [name, shown(read_as), part(becomes), shown(note)]
            for name, read_as, becomes, note in data.columns.summary(data.outputs)
        ]
        head = [shown("column"), shown("read as"), shown("becomes"), ""]
        _output.print_table(head, rows, stream=stream, left=True)
    for note in data.notes:
        _output.say(f"Note: {as_options(note)}.", stream=stream)
    if data.columns is not None:
        print(f"{_output.printable(shown(str(data)))}\n", file=stream)
