"""How the commands print: tables and sentences on stdout, progress on stderr, or one JSON document."""

import contextlib
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from dampen import _language
from dampen._io import shortened

if TYPE_CHECKING:
    import numpy as np


_WIDEST = 10_000  # letters of a table's line
WARNED: list[str] = []
"""The messages of warnings since the command began."""


# What moves the cursor, colours or turns round a terminal's text, or is no letter: a byte of a name that is not UTF-8.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object, most: int | None = None) -> str:
    r"""Return a text in one line that any terminal shows as it is, its middle left out where it has more letters.

    >>> printable("a\x1b[31mb\n", 20)
    'a\\x1b[31mb\\x0a'
    """
    line = _CONTROL.sub(_escaped, str(text))
    return line if most is None else shortened(line, most)


def _escaped(letter: re.Match[str]) -> str:
    code = ord(letter[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON document, see `as_json`."""
    print(as_json(document))


def as_json(document: dict[str, Any]) -> str:
    """Return one JSON document to print; what is not a finite number becomes null.

    Letters that the output's encoding lacks are escaped: a file's name may have bytes that are no text in any.
    """
    text = json.dumps(document := plain(document), ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(document, allow_nan=False)
    return text


def say(line: str, *, stream: TextIO | None = None, end: str = "\n") -> None:
    """Print a line, or several, in the language that is shown."""
    lines = [printable(_language.shown(part)) for part in line.split("\n")]
    print("\n".join(lines), file=stream, end=end, flush=True)


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, stream: TextIO | None = None, left: bool = False
) -> None:
    """Print a table, its columns right-aligned for figures or left-aligned for words."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(Text(printable(column)), justify="left" if left else "right", no_wrap=not left)
    for row in rows:
        cells = ("\n".join(map(printable, cell.split("\n"))) for cell in row)
        table.add_row(*map(Text, cells))  # names in brackets are no markup
    console = Console(highlight=False, file=stream)
    whole = console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum
    if not console.is_terminal:  # a file or a pipe has no width: cut nothing
        console.width = max(200, whole) if not left else 200
    elif not left:
        console.width = max(console.width, whole)  # figures go over the edge of a narrow window, none is cut
    console.print(table)


@contextlib.contextmanager
def progress(what: str, *, shown: bool = True) -> Iterator[Callable[..., None]]:
    """Show a bar on stderr if that is a terminal; yields `advance(done, total, what)`, the last if it has changed."""
    if not (shown and sys.stderr.isatty()):
        yield lambda done, total, now=what: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(_language.shown(what), total=None)
        yield lambda done, total, now=what: bar.update(
            task, completed=done, total=total, description=_language.shown(now)
        )


def spread(values: "np.ndarray") -> float:
    """Return the standard deviation over seeds (S - 1 in the denominator); NaN for a single seed."""
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def with_spread(values: "np.ndarray", digits: int = 4) -> str:
    """Write the mean over seeds, and the standard deviation where there are several."""
    mean = f"{values.mean():.{digits}g}"
    return f"{mean} ± {spread(values):.2g}" if len(values) > 1 else mean


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: what is not a finite number becomes None."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
