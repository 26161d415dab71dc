"""People's tables as pandas frames: text, Parquet, Feather, Excel; what is odd about a file is told, not hidden."""

import bz2
import csv
import gzip
import io
import lzma
import os
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dampen._io import shortened
from dampen.errors import InputError

Table = Any
"""A `pandas.DataFrame`, whose own annotations a type checker can't follow."""
Series = Any
"""A `pandas.Series`, likewise."""

_SAMPLE = 1 << 16  # bytes of a text file from which its separator is told
_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.GzipFile,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True, eq=False)
class Frame:
    """A table as it was read.

    Args:
        table: its rows, columns called by distinct strings.
        notes: what was odd about it and what was done, a sentence each.
        decimal_comma: whether text such as `3,14` is a number.
        again: of each column whose name an earlier one has: that name, and what it is called here.
    """

    table: Table
    notes: tuple[str, ...] = ()
    decimal_comma: bool = False
    again: tuple[tuple[str, str], ...] = ()


def kind_of(path: Path) -> str | None:
    """Return the suffix by which a file is known to hold a table, None when it isn't known."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _OPENERS:
        suffixes.pop()
        return suffixes[-1] if suffixes and suffixes[-1] in _TEXT else None
    return suffixes[-1] if suffixes and suffixes[-1] in READERS else None


def read_frame(path: Path) -> Frame:
    """Read a table from a file.

    Raises:
        InputError: the file is missing, empty, damaged, of an unknown kind, or needs a package that is not installed.
    """
    kind = kind_of(path)
    if kind is None:
        raise InputError(f"{path} is no table that is known; the endings are {', '.join(READERS)} (text also .gz)")
    if not os.path.isfile(path):
        raise InputError(f"there is no file {path}; correct the name")
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty; give a file with a line of column names and rows")
        found = READERS[kind](path)
    except InputError:
        raise
    except ImportError:
        raise InputError(f"{path}: this kind needs another package, pip install 'dampen[excel]'") from None
    except MemoryError:
        raise InputError(f"{path} does not fit into memory; give a part of its rows or columns") from None
    except Exception as e:  # each reader's library has exceptions of its own for a damaged file
        said = (str(e).strip() or type(e).__name__).splitlines()[0]
        raise InputError(f"{path} can't be read as {kind[1:]}, damaged or cut off? ({shortened(said)})") from None
    return tidy(found, str(path))


def tidy(found: "Frame | Table", name: str) -> Frame:
    """Return a frame with a plain index, at least one row and one column, and distinct strings as column names.

    Raises:
        InputError: there are no rows or no columns.
    """
    import pandas as pd

    frame = found if isinstance(found, Frame) else Frame(found)
    table, notes = frame.table, list(frame.notes)
    if any(level is not None for level in table.index.names):
        table = table.reset_index(allow_duplicates=True)
    if isinstance(table.columns, pd.MultiIndex):
        table = table.set_axis(["_".join(map(str, column)) for column in table.columns], axis=1)
    names, used, twice = [], set(), list(frame.again)
    for column in map(str, table.columns):
        again, n = column, 1
        while again in used:
            again, n = f"{column}.{n}", n + 1
        if again != column:
            twice.append((column, again))
        used.add(again)
        names.append(again)
    if not names or not len(table):
        what = "columns" if not names else "rows"
        raise InputError(f"{name} has no {what}; give a table with column names, an input, a target, and rows")
    table = table.set_axis(names, axis=1).set_axis(pd.RangeIndex(len(table)), axis=0)
    notes += [f"two columns are called '{name}': the later one is '{called}' here" for name, called in twice]
    return Frame(table, tuple(notes), frame.decimal_comma, tuple(twice))


def _text(path: Path, separator: str | None) -> Frame:
    import pandas as pd

    opener = _OPENERS.get(path.suffix.lower(), lambda path: path.open("rb"))
    try:
        with opener(path) as file:
            head = file.read(_SAMPLE)
    except _DAMAGED as e:
        raise InputError(f"{path} can't be unpacked ({e}); it is damaged or cut off") from None
    if b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path} holds zero bytes, it is no text; save the table as CSV or Parquet")
    notes = []
    encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    if encoding != "utf-16" and not _is_utf8(path, opener):
        encoding = "cp1252" if _decodes(path, opener, "cp1252") else "latin-1"
        notes.append(f"{path} is not UTF-8: read as {encoding}; save it as UTF-8 if letters look wrong")
    sample = head.decode(encoding, errors="replace")
    lines = sample.splitlines()
    if len(lines) > 1 and len(head) == _SAMPLE:
        lines.pop()  # it may be cut
    separator = separator or _separator(lines)
    header = next(filter(None, csv.reader(lines, delimiter=separator, skipinitialspace=True)), [])
    _check_header(header, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                path, sep=separator, encoding=encoding, skipinitialspace=True, index_col=False, low_memory=False
            )
    except pd.errors.EmptyDataError:
        raise InputError(f"{path} is empty; give a file with a line of column names and rows") from None
    except pd.errors.ParserError as e:
        said = str(e).strip().splitlines()[0].removeprefix("Error tokenizing data. C error: ")
        raise InputError(f"{path} is ragged or cut off: {said}; give every line as many fields as there are") from None
    except pd.errors.ParserWarning:
        raise InputError(
            f"{path} has lines with more fields than its first line has column names ({len(header)}); correct the file"
        ) from None
    _check_lengths(table, header, path, lambda: io.TextIOWrapper(opener(path), encoding, newline=""), separator)
    return Frame(table, tuple(notes), separator == ";", _again(header, list(table.columns)))


def _again(header: list[str], called: list[Any]) -> tuple[tuple[str, str], ...]:
    """Return names that an earlier column has, with what pandas made of them."""
    pairs = enumerate(zip(header, map(str, called), strict=False))
    return tuple((name, new) for i, (name, new) in pairs if name != new and name in header[:i] and name.strip())


def _check_lengths(
    table: Table, header: list[str], path: Path, open_text: Callable[[], io.TextIOWrapper], separator: str
) -> None:
    """Refuse lines with fewer fields than column names, which pandas fills up with missing values.

    The file is read again only where a short line is possible: where the last column with a name misses values.
    """
    width = max((i + 1 for i, name in enumerate(header) if name.strip()), default=0)
    if not 1 < width <= table.shape[1]:
        return
    missing = table.iloc[:, width - 1].isna().to_numpy()
    if not missing.any():
        return
    with open_text() as text:
        lines = csv.reader(text, delimiter=separator, skipinitialspace=True)
        filled = (line for line in lines if len(line) > 1 or (line and line[0].strip()))
        try:
            next(filled, None)
            for line, misses in zip(filled, missing, strict=False):
                if len(line) < width and misses:
                    fields = f"{len(line)} field{'s' * (len(line) > 1)}"
                    raise InputError(
                        f"{path} is ragged or cut off: line {lines.line_num} has {fields}, "
                        f"its first line has {width} column names; give every line as many fields as there are"
                    )
        except csv.Error:  # a field longer than the csv module takes: pandas has read it
            return


def _check_header(header: list[str], path: Path) -> None:
    def number(cell: str) -> bool:
        try:
            float(cell)
        except ValueError:
            return False
        return True

    counted = [str(i) for i in range(len(header))]  # what pandas calls the columns of an array
    filled = [cell for cell in header if cell.strip()]
    if filled and all(map(number, filled)) and header not in (counted, ["", *counted[:-1]]):
        raise InputError(
            f"{path} has no column names: its first line is {', '.join(header[:3])} ...; add a line of names"
        )


def _separator(lines: list[str]) -> str:
    """Return the separator that splits most of the lines into as many fields as the first, more than one."""
    best = (0.0, 1, ",")
    lines = [line for line in lines[:200] if line.strip()]
    for separator in (",", ";", "\t", "|"):
        try:
            widths = [len(row) for row in csv.reader(lines, delimiter=separator)]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            best = max(best, (sum(w == widths[0] for w in widths) / len(widths), widths[0], separator))
    return best[2]


def _is_utf8(path: Path, opener: Callable[[Path], Any]) -> bool:
    return _decodes(path, opener, "utf-8")


def _decodes(path: Path, opener: Callable[[Path], Any], encoding: str) -> bool:
    with opener(path) as file, io.TextIOWrapper(file, encoding) as text:
        try:
            while text.read(1 << 24):
                pass
        except UnicodeDecodeError:
            return False
        except _DAMAGED as e:
            raise InputError(f"{path} can't be unpacked ({e}); it is damaged or cut off") from None
    return True


def _parquet(path: Path) -> Table:
    import pandas as pd

    return pd.read_parquet(path, engine="pyarrow")


def _feather(path: Path) -> Table:
    import pandas as pd

    with path.open("rb") as file:
        start = file.read(6)
        file.seek(-min(6, path.stat().st_size), os.SEEK_END)
        end = file.read(6)
    # pyarrow's threads can end the whole process over a file without its end, and say nothing of it here
    if (start, end) != (b"ARROW1", b"ARROW1") and (start[:4], end[-4:]) != (b"FEA1", b"FEA1"):
        raise ValueError("a Feather file starts and ends with ARROW1")
    return pd.read_feather(path)


def _excel(path: Path) -> Frame:
    import pandas as pd

    table = pd.read_excel(path)
    first = pd.read_excel(path, header=None, nrows=1)
    header = ["" if pd.isna(cell) else str(cell) for cell in first.iloc[0]] if len(first) else []
    return Frame(table, again=_again(header, list(table.columns)))


_TEXT: dict[str, Callable[[Path], Any]] = {
    ".csv": lambda path: _text(path, None),
    ".tsv": lambda path: _text(path, "\t"),
    ".tab": lambda path: _text(path, "\t"),
    ".txt": lambda path: _text(path, None),
}
READERS: dict[str, Callable[[Path], Any]] = {
    **_TEXT,
    ".parquet": _parquet,
    ".pq": _parquet,
    ".feather": _feather,
    ".arrow": _feather,
    ".xlsx": _excel,
    ".xls": _excel,
}
