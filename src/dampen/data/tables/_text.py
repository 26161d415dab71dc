"""Tables in text files: their separator, what stands above the column names, and text that only looks like numbers."""

import bz2
import csv
import gzip
import io
import lzma
import re
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from dampen.data.tables._frame import Frame
from dampen.data.tables._pandas_types import Series, Table
from dampen.data.tables._values import MISSING, are_codes, as_text, grouped, plain
from dampen.errors import InputError

_SAMPLE = 1 << 16  # bytes of a text file from which its separator is inferred
_NEARLY_ALL = 0.9  # share of a column's values that must be numbers with a decimal comma for it to hold such
_MOSTLY = 0.5  # share of the letters that must be usual Chinese ones: names have rare ones, too
_MOST_ABOVE = 50  # lines above the column names
_COMMENTS = ("#", "%", "//")
OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.GzipFile,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class _Layout:
    """How the file is written.

    Args:
        separator: of its fields; a blank stands for any number of them.
        above: lines above the column names.
        header: column names that stand in a comment, else None.
        notes: on that.
    """

    separator: str
    above: int = 0
    header: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def read_text(path: Path, separator: str | None, decimal_comma: bool = False) -> Frame:
    """Read a text file with a line of column names.

    Args:
        path: the file.
        separator: None finds it out.
        decimal_comma: whether earlier rows of its kind were written with decimal commas.

    Raises:
        InputError: it is damaged, ragged, empty, no text, or has no column names.
    """
    import pandas as pd

    opener = OPENERS.get(path.suffix.lower(), lambda path: path.open("rb"))
    try:
        with opener(path) as file:
            head = file.read(_SAMPLE)
    except _DAMAGED as e:
        raise InputError(f"{path} can't be unpacked ({e}); it is damaged or cut off") from None
    if b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path} holds zero bytes, it is not text; save the table as CSV or Parquet")
    notes = []
    encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    if encoding != "utf-16" and not _is_utf8(path, opener):
        fitting = (name for name in ("gb18030", "cp1252") if name != "gb18030" or _is_chinese(head))
        encoding = next((name for name in fitting if _decodes(path, opener, name)), "latin-1")
        notes.append(f"{path} is not UTF-8: read as {encoding}; save it as UTF-8 if letters look wrong")
    lines = head.decode(encoding, errors="replace").splitlines()
    if len(lines) > 1 and len(head) == _SAMPLE:
        lines.pop()  # it may be cut
    layout = _layout(lines, separator)
    notes += layout.notes

    def open_text() -> io.TextIOWrapper:
        text = io.TextIOWrapper(opener(path), encoding, newline="")
        for _ in range(layout.above):
            text.readline()
        return text

    separator = layout.separator
    source: Callable[[], Any] = open_text
    if separator == " ":
        source = _tabs_for_blanks(open_text, path)
        separator = "\t"
        lines = source().read(_SAMPLE).splitlines()
        layout = _Layout("\t", 0, layout.header)
    rows = csv.reader(lines[layout.above :], delimiter=separator, skipinitialspace=True)
    header = list(layout.header or next(filter(None, rows), []))
    _check_header(header, path, next((line.strip() for line in lines[: layout.above][::-1] if line.strip()), ""))

    def read(**options: Any) -> Table:
        names = {"names": list(layout.header), "header": None} if layout.header else {}
        with source() as text:
            return pd.read_csv(
                text, sep=separator, skipinitialspace=True, index_col=False, low_memory=False, **names, **options
            )

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = read()
            table, written = _as_written(table, read, source, separator, decimal_comma)
    except pd.errors.EmptyDataError:
        raise InputError(f"{path} is empty; give a file with a line of column names and rows") from None
    except pd.errors.ParserError as e:
        message = str(e).strip().splitlines()[0].removeprefix("Error tokenizing data. C error: ")
        message = re.sub(r"line (\d+)", lambda m: f"line {int(m[1]) + layout.above}", message)
        raise InputError(
            f"{path} is ragged or cut off: {message}; give every line as many fields as there are"
        ) from None
    except pd.errors.ParserWarning:
        raise InputError(
            f"{path} has lines with more fields than its first line has column names ({len(header)}); correct the file"
        ) from None
    _check_lengths(table, header, path, source, separator, layout)
    notes += [*written.notes, *nameless(header, table)]
    called = again(header, list(table.columns))
    return Frame(table, tuple(notes), written.decimal_comma, written.decimal_points, called)


def again(header: list[str], called: list[Any]) -> tuple[tuple[str, str], ...]:
    """Return names that an earlier column has, with what pandas made of them."""
    pairs = enumerate(zip(header, map(str, called), strict=False))
    return tuple((name, new) for i, (name, new) in pairs if name != new and name in header[:i] and name.strip())


def _layout(lines: list[str], separator: str | None) -> _Layout:
    """Return how a file is written by its first lines."""
    notes, above = [], 0
    named = re.fullmatch(r"\"?sep=(.)\"?[,;\t|]*\s*", lines[0], re.IGNORECASE) if lines else None
    if named is not None:
        separator, above = named[1], 1
    comments: list[str] = []
    while above < min(len(lines), _MOST_ABOVE) and (
        lines[above].startswith(_COMMENTS) or (comments and not lines[above].strip())
    ):
        if lines[above].strip():
            comments.append(lines[above].lstrip("#%/ \t"))
        above += 1
    rest = lines[above:]
    separator = separator or _separator(rest)
    if comments:
        names = _fields(comments[-1], separator)
        first = next((line for line in rest if line.strip()), "")
        below = _fields(first, separator)
        if len(names) == len(below) > 1 and not _all_numbers(names) and any(map(_is_number, below)):
            line = 1 + max(i for i in range(above) if lines[i].lstrip("#%/ \t") == comments[-1])
            notes.append(f"the column names are read from the comment in line {line}")
            return _Layout(separator, above, tuple(names), tuple(notes))
        n = len(comments)
        notes.append(f"{n} comment line{'s' * (n > 1)} above the column names ignored ('{comments[0][:30]}')")
    titles = _titles(rest, separator)
    if titles:
        title = rest[next(i for i in range(titles) if rest[i].strip())].strip().strip(separator)[:30]
        n = sum(bool(line.strip()) for line in rest[:titles])
        notes.append(f"{n} line{'s' * (n > 1)} above the column names ignored ('{title}')")
        above += titles
    if separator == " ":
        notes.append("columns are separated by spaces")
    return _Layout(separator, above, None, tuple(notes))


def _titles(lines: list[str], separator: str) -> int:
    """Return how many lines above the column names have a single field where nearly all others have more."""
    widths = [sum(bool(field.strip()) for field in _fields(line, separator)) for line in lines[:200]]
    filled = [width for width in widths if width]
    if len(filled) < 4:
        return 0
    usual = max(set(filled), key=filled.count)
    if usual < 2 or filled.count(usual) < 0.8 * (len(filled) - 3):
        return 0
    n = next((i for i, width in enumerate(widths) if width >= 2), 0)
    if n and _names_one_column(_fields(lines[n - 1], separator), _fields(lines[n], separator)):
        n -= 1
        return n if any(widths[:n]) else 0
    return n if n and n <= 10 and any(widths[:n]) and widths[n] == usual else 0


def _names_one_column(line: list[str], below: list[str]) -> bool:
    """Return whether a line with a single field holds column names, the others empty: a title stands first."""
    return len(line) == len(below) and not line[0] and any(line) and any(map(_is_number, below))


def _fields(line: str, separator: str) -> list[str]:
    try:
        row = next(csv.reader([line.strip() if separator == " " else line], delimiter=separator, skipinitialspace=True))
    except (csv.Error, StopIteration):
        return []
    return [field.strip() for field in row]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _all_numbers(cells: list[str]) -> bool:
    return bool(cells) and all(_is_number(cell) for cell in cells if cell) and any(cells)


@dataclass(frozen=True)
class _Written:
    """How a file writes its numbers.

    Args:
        decimal_comma: whether with decimal commas.
        decimal_points: names of columns that have decimal points all the same.
        notes: on that.
    """

    decimal_comma: bool
    decimal_points: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def _as_written(
    table: Table, read: Callable[..., Table], source: Callable[[], Any], separator: str, expected: bool
) -> tuple[Table, _Written]:
    """Return the table with the text of those columns whose values pandas has changed: codes, words, `1.299`.

    pandas takes `007` for 7 and `None` for a missing value. Only columns where that is possible are read again. Numbers
    with a decimal comma become numbers; it is also returned whether there are any. They are looked for where semicolons
    separate, and wherever they are expected.
    """
    import pandas as pd

    texts, whole, fractions = [], [], []
    for j in range(table.shape[1]):
        values = table.iloc[:, j]
        if pd.api.types.is_bool_dtype(values.dtype):
            continue
        if not pd.api.types.is_numeric_dtype(values.dtype):
            texts.append(j)
        else:
            if _is_whole(values):
                whole.append(j)
            if pd.api.types.is_float_dtype(values.dtype):
                fractions.append(j)  # 1.000 too, which may be a thousand
    again = [j for j in texts if table.iloc[:, j].isna().any()]
    if whole and _has_leading_zero(source, separator):
        again += whole
    sought = separator == ";" or expected
    # a comma that separates is no decimal one: in such a file points are decimal but for numbers in quotes
    commas = (expected and separator != ",") or (
        sought and any(_share_of_commas(table.iloc[:, j]) >= _NEARLY_ALL for j in texts)
    )
    if sought:
        again += fractions
    again = sorted(set(again))
    if not again:
        raw = {}
    else:
        column_texts = read(usecols=again, dtype=str, keep_default_na=False, na_values=list(MISSING))
        raw = {j: column_texts.iloc[:, at] for at, j in enumerate(again)}
    columns, notes, points = [], [], []
    for j in range(table.shape[1]):
        values, text = table.iloc[:, j], raw.get(j)
        if text is not None and (j in texts or (j in whole and are_codes(as_text(text)))):
            values = text
        elif text is not None and j in fractions:
            known, name = as_text(text), str(table.columns[j])
            if separator == "," and not commas:
                notes += _decimal_after_all(known, name)
            elif _may_be_grouped(known, commas):
                values, commas = text, True
            elif known.str.contains(".", regex=False).fillna(False).any():
                points.append(name)
        columns.append(values)
    written = _Written(commas, tuple(points) if commas else (), tuple(notes))
    if commas:
        columns = [_without_commas(values) for values in columns]
    if all(a is table.iloc[:, j] for j, a in enumerate(columns)):
        return table, written
    names = table.columns
    return pd.concat(columns, axis=1).set_axis(names, axis=1), written


def _decimal_after_all(text: Series, name: str) -> list[str]:
    """Return notes on `2.500` in a file separated by commas where decimal commas were expected."""
    example = grouped(text)
    if example is None:
        return []
    return [
        f"column '{name}' holds '{example}', read as {float(example):g}: the training rows have decimal commas, but "
        "here commas separate the columns"
    ]


def _is_whole(values: Series) -> bool:
    numbers = values.to_numpy()
    if numbers.dtype.kind in "iu":
        return True
    known = numbers[np.isfinite(numbers)]
    return bool(len(known)) and bool(
        (known[:1000] == np.floor(known[:1000])).all() and (known == np.floor(known)).all()
    )


def _has_leading_zero(source: Callable[[], Any], separator: str) -> bool:
    """Return whether any field starts with a zero and another digit."""
    pattern = re.compile(rf"(?:^|[{re.escape(separator)}\"\r\n ])0\d")
    with source() as text:
        before = ""
        while part := text.read(1 << 22):
            if pattern.search(before + part):
                return True
            before = part[-2:]
    return False


_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?$")


def _share_of_commas(values: Series) -> float:
    """Return the share of numbers with a decimal comma and whole ones; 0 where no value has a comma."""
    texts = [str(text) for text in plain(as_text(values)).dropna()]
    n_commas = sum(_COMMA.match(text) is not None for text in texts)
    n_whole = sum(re.fullmatch(r"[+-]?\d+", text) is not None for text in texts)
    return (n_commas + n_whole) / len(texts) if n_commas else 0.0


def _may_be_grouped(text: Series, commas: bool) -> bool:
    """Return whether `1.299` may be a thousand: no value in the column has a point that is surely decimal.

    Beside decimal commas that is enough; without any, whole numbers below a thousand must stand beside such values.
    """
    known = plain(text).dropna()
    return grouped(known) is not None and (commas or bool(known.str.fullmatch(r"[+-]?\d{1,3}").any()))


def _without_commas(values: Series) -> Series:
    """Return a column with points for its decimal commas, where nothing else is in it that could be misread."""
    import pandas as pd

    if _share_of_commas(values) < _NEARLY_ALL:
        return values
    text = as_text(values)
    known = text.dropna()
    if known.str.contains(".", regex=False).any():
        return values
    with_comma = text.str.match(_COMMA).fillna(False).astype(bool)
    points = text.where(~with_comma, text.str.replace(",", "."))
    if grouped(points) is None:
        return points
    # 2,500 is sure, the text 2.500 would not be
    numbers = cast(Series, pd.to_numeric(points, errors="coerce"))
    return numbers if len(numbers.dropna()) == len(known) else values


def _tabs_for_blanks(open_text: Callable[[], io.TextIOWrapper], path: Path) -> Callable[[], io.StringIO]:
    """Return what opens the file with one tab for any number of blanks."""
    written = io.StringIO()
    writer = csv.writer(written, delimiter="\t", lineterminator="\n")
    width = 0
    with open_text() as text:
        lines: Iterator[str] = (line.strip() for line in text)
        for n, row in enumerate(csv.reader(lines, delimiter=" ", skipinitialspace=True), 1):
            if not row:
                continue
            width = width or len(row)
            if len(row) != width:
                raise InputError(
                    f"{path} is ragged or cut off: line {n} has {len(row)} fields between blanks, its first line has "
                    f"{width} column names; part the columns by commas"
                )
            writer.writerow(row)
    content = written.getvalue()
    return lambda: io.StringIO(content)


def _check_lengths(
    table: Table, header: list[str], path: Path, open_text: Callable[[], Any], separator: str, layout: "_Layout"
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
            if layout.header is None:
                next(filled, None)
            for line, misses in zip(filled, missing, strict=False):
                if len(line) < width and misses:
                    fields = f"{len(line)} field{'s' * (len(line) > 1)}"
                    raise InputError(
                        f"{path} is ragged or cut off: line {lines.line_num + layout.above} has {fields}, "
                        f"its first line has {width} column names; give every line as many fields as there are"
                    )
        except csv.Error:  # a field longer than the csv module takes: pandas has read it
            return


def nameless(header: list[str], table: Table) -> list[str]:
    """Return notes on columns without a name: not of the first alone, a saved index, nor of empty ones."""
    places = [j for j in range(min(len(header), table.shape[1])) if not header[j].strip()]
    places = [j for j in places if table.iloc[:, j].notna().any()]
    if places in ([], [0]):
        return []
    called = ", ".join(f"'{table.columns[j]}'" for j in places[:3]) + ", ..." * (len(places) > 3)
    plural = len(places) > 1
    return [
        f"{len(places)} column{'s have' if plural else ' has'} no name: called {called} here, "
        f"name {'them' if plural else 'it'} in the file"
    ]


def _check_header(header: list[str], path: Path, above: str) -> None:
    counted = [str(i) for i in range(len(header))]  # what pandas calls the columns of an array
    filled = [cell for cell in header if cell.strip()]
    if filled and all(map(_is_number, filled)) and header not in (counted, ["", *counted[:-1]]):
        after = f" after '{above[:30]}', read as a title," if above else ""
        raise InputError(
            f"{path} has no column names: its first line{after} is {', '.join(header[:3])} ...; add a line of names"
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
        usual = max(set(widths), key=widths.count, default=1)
        if widths and usual > 1:
            same = sum(w == usual for w in widths) / len(widths)
            best = max(best, ((widths[0] > 1) * same, usual, separator), (same / 2, usual, separator))
    if best[1] > 1:
        return best[2]
    widths = [len(_fields(line, " ")) for line in lines]
    if len(lines) > 1 and widths[0] > 1 and sum(w == widths[0] for w in widths) >= _NEARLY_ALL * len(widths):
        return " "
    return ","


def _is_utf8(path: Path, opener: Callable[[Path], Any]) -> bool:
    return _decodes(path, opener, "utf-8")


def _is_chinese(head: bytes) -> bool:
    """Return whether bytes read as GB 18030 (GBK, GB 2312) give Chinese as it is written.

    Nearly any bytes can be read so: `Köln` in Windows-1252 would be 'K鰈n'. Of real text, most letters are among the
    3,755 usual ones that GB 2312 has in its rows 16 to 55, or are its punctuation and wide letters, rows 1 and 3.
    """
    letters = "".join(letter for letter in head.decode("gb18030", "ignore") if not letter.isascii())
    rows = [lead - 0xA0 for lead in letters.encode("gb2312", "ignore")[::2]]
    return sum(row in (1, 3) or 16 <= row <= 55 for row in rows) >= _MOSTLY * len(letters) > 0


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
