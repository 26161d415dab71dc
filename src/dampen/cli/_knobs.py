"""`dampen knobs`: the table of regularisers; and how `--knob NAME=RANGE` becomes a dimension of a space."""

import math
from typing import Annotated, Any

from dampen._language import shown
from dampen.cli import _options, _output, _startup
from dampen.errors import InputError

_COLUMNS = ("knob", "enters", "what it does", "values", "source")
_ZERO = 0.1  # probability of exactly 0 beside a logarithmic range of a knob that 0 turns off


def command(
    json: _options.Json = False,
    markdown: Annotated[
        bool, _options.flag("--markdown", "Print the table as in docs/knobs.md.", panel=_options.OUTPUT)
    ] = False,
) -> None:
    """List every knob: where it enters a training step, what it does, what values it takes, where it comes from."""
    with _startup.importing():
        from dampen.engine.knobs import KNOBS, register_installed_knobs

    register_installed_knobs()
    if json:
        kept = ("name", "enters", "about", "values", "source", "neutral", "excludes")
        _output.print_json({"knobs": [{key: getattr(knob, key) for key in kept} for knob in KNOBS.values()]})
    elif markdown:
        print("\n".join(_markdown()))
    else:
        _print()


def ranges(words: list[str]) -> dict[str, Any]:
    """Read `l1=1e-6..1e-2`, `label_smoothing=0,0.1` or `decay_schedule=constant,cosine` as dimensions by knob.

    A range is logarithmic where that suits the knob; 0 is tried, too, if it turns the knob off.
    """
    dimensions: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not text:
            raise InputError(f"--knob takes NAME=RANGE, NAME=LIST or NAME=VALUE, such as l1=1e-6..1e-2; got {word!r}")
        if name in dimensions:
            raise InputError(f"--knob {name} is given twice: give one range or list")
        dimensions[name] = _dimension(name, text)
    return dimensions


def _dimension(name: str, text: str) -> Any:
    from dampen.engine.knobs import find_knob
    from dampen.search import Choice, LogUniform, Uniform

    try:
        knob = find_knob(name)
    except InputError as e:
        raise InputError(f"--knob: {e}") from None
    try:
        if ".." not in text:
            values = [_value(word) for word in text.split(",")]
            for value in values:
                knob.read(value)
            return Choice(values)
        low, high = (float(end) for end in text.split(".."))
        if knob.log and low <= 0:
            raise InputError(
                "its range is logarithmic and starts above 0"
                + (" (0 itself is tried, too)" if knob.neutral == 0 else "")
            )
        dimension = LogUniform(low, high, _ZERO if knob.neutral == 0 else 0.0) if knob.log else Uniform(low, high)
        for end in (low, high):
            knob.read(end)
        return dimension
    except InputError as e:
        raise InputError(f"--knob {name}: {e}") from None
    except ValueError:
        raise InputError(
            f"--knob {name} takes a range such as 0.01..1, a list such as 0,0.1 or a value; got {text!r}"
        ) from None


def _value(word: str) -> Any:
    """Read a number, or leave a word as it is."""
    try:
        number = float(word)
    except ValueError:
        return word.strip()
    return int(number) if math.isfinite(number) and number.is_integer() and "." not in word else number


def _rows() -> list[tuple[str, ...]]:
    from dampen.engine.knobs import KNOBS

    texts = ((knob.name, knob.enters, knob.about, knob.values, knob.source) for knob in KNOBS.values())
    return [(name, *map(shown, others)) for name, *others in texts]


def _markdown() -> list[str]:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cells) + " |"

    rows = [(f"`{name}`", *rest) for name, *rest in _rows()]
    return [line(tuple(map(shown, _COLUMNS))), line(("---",) * len(_COLUMNS)), *map(line, rows)]


def _print() -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in _COLUMNS:
        table.add_column(shown(column), no_wrap=column == "knob", min_width=6, overflow="fold")
    for row in _rows():
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 160  # a file or a pipe has no width
    console.print(table)
