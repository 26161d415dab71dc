"""Excel workbooks: the first sheet that is not empty, a note where there are more, and formulas without values."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from dampen.data.tables._frame import Frame
from dampen.data.tables._text import again, nameless

_FIRST_ROWS = 5  # of a sheet, by which it is empty or not
_MOST_NAMED = 5  # sheets in a message


def read_excel(path: Path) -> Frame:
    """Read a workbook's first sheet that is not empty.

    Raises:
        ImportError: the package for such files is not installed.
        Exception: pandas' or that package's, of a damaged file.
    """
    import pandas as pd

    with pd.ExcelFile(path) as book:
        names = [str(name) for name in book.sheet_names]
        filled = [name for name in names if len(names) == 1 or _holds_cells(book, name)] or names[:1]
        # cells as they are: pandas would take text such as 007 for 7, and None for a missing value
        table = pd.read_excel(book, sheet_name=filled[0], dtype=object, keep_default_na=False, na_values=[""])
        first = pd.read_excel(book, sheet_name=filled[0], header=None, nrows=1)
    header = ["" if pd.isna(cell) else str(cell) for cell in first.iloc[0]] if len(first) else []
    notes, aside = nameless(header, table), ""
    if len(filled) > 1:
        others = ", ".join(f"'{name[:30]}'" for name in filled[1 : 1 + _MOST_NAMED])
        others += f" and {len(filled) - 1 - _MOST_NAMED} more" * (len(filled) > 1 + _MOST_NAMED)
        notes.append(f"sheet '{filled[0][:30]}' is read, the first one; not read: {others}")
        aside = f" (sheet '{filled[0][:30]}', the first one; not read: {others})"
    uncomputed = _uncomputed(path, filled[0]) if table.isna().to_numpy().any() else {}
    called = {str(table.columns[j]): n for j, n in uncomputed.items() if j < table.shape[1]}
    notes += [
        f"column '{name}' holds {n} formula{'s' * (n > 1)} without a value, treated as missing: open and save the file "
        "in a spreadsheet, which computes them"
        for name, n in called.items()
    ]
    return Frame(table, tuple(notes), again=again(header, list(table.columns)), aside=aside, uncomputed=tuple(called))


def _holds_cells(book: Any, name: str) -> bool:
    import pandas as pd

    return bool(pd.read_excel(book, sheet_name=name, header=None, nrows=_FIRST_ROWS).notna().to_numpy().any())


def _uncomputed(path: Path, sheet: str) -> dict[int, int]:
    """Return the columns of a sheet in which no formula has a value, by their place, with the number of formulas.

    Programs that write workbooks leave values to the spreadsheet. One that computes writes a value for all formulas,
    but none for those that give an empty text.
    """
    if path.suffix.lower() != ".xlsx":
        return {}
    formulas: dict[int, int] = {}
    computed: set[int] = set()
    for as_written, values in zip(_rows(path, sheet, False), _rows(path, sheet, True), strict=False):
        for j, (cell, value) in enumerate(zip(as_written, values, strict=False)):
            if getattr(cell, "data_type", None) == "f":
                formulas[j] = formulas.get(j, 0) + 1
                if value.value is not None:
                    computed.add(j)
    return {j: n for j, n in formulas.items() if j not in computed}


def _rows(path: Path, sheet: str, data_only: bool) -> Iterator[tuple[Any, ...]]:
    from openpyxl import load_workbook

    with closing(load_workbook(path, read_only=True, data_only=data_only)) as book:
        yield from book[sheet].iter_rows()
