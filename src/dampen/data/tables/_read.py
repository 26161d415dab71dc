"""People's tables as pandas frames: text, Parquet, Feather, Excel; notes name what is odd about a file."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dampen._io import shortened
from dampen.data.tables._arrow import read_feather, read_parquet
from dampen.data.tables._excel import read_excel
from dampen.data.tables._frame import Frame, tidy
from dampen.data.tables._text import OPENERS, read_text
from dampen.errors import InputError

__all__ = ["READERS", "Frame", "column_names", "kind_of", "read_frame", "tidy"]


def kind_of(path: Path) -> str | None:
    """Return the suffix by which a file is known to hold a table, None when it isn't known."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in OPENERS:
        suffixes.pop()
        return suffixes[-1] if suffixes and suffixes[-1] in _TEXT else None
    return suffixes[-1] if suffixes and suffixes[-1] in READERS else None


def read_frame(path: Path, decimal_comma: bool = False) -> Frame:
    """Read a table from a file.

    Args:
        path: the file.
        decimal_comma: whether earlier rows of its kind were written with decimal commas.

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
        frame = read_text(path, _TEXT[kind], decimal_comma) if kind in _TEXT else _OTHERS[kind](path)
    except InputError:
        raise
    except ImportError:
        raise InputError(f"{path}: this kind needs another package, pip install 'dampen[excel]'") from None
    except MemoryError:
        raise InputError(f"{path} does not fit into memory; give a part of its rows or columns") from None
    except Exception as e:  # each reader's library has exceptions of its own for a damaged file
        message = (str(e).strip() or type(e).__name__).splitlines()[0]
        raise InputError(f"{path} can't be read as {kind[1:]}, damaged or cut off? ({shortened(message)})") from None
    if decimal_comma and kind not in _TEXT:
        frame = replace(frame if isinstance(frame, Frame) else Frame(frame), decimal_comma=True)
    return tidy(frame, str(path) + (frame.aside if isinstance(frame, Frame) else ""))


def column_names(path: Path) -> list[str]:
    """Return the names of a file's columns, for a target to be chosen from.

    Raises:
        InputError: as `read_frame`.
    """
    return [str(name) for name in read_frame(path).table.columns]


_TEXT = {".csv": None, ".tsv": "\t", ".tab": "\t", ".txt": None}  # what separates fields, None where it is found out
_OTHERS: dict[str, Callable[[Path], Any]] = {
    ".parquet": read_parquet,
    ".pq": read_parquet,
    ".feather": read_feather,
    ".arrow": read_feather,
    ".xlsx": read_excel,
    ".xls": read_excel,
}
READERS = (*_TEXT, *_OTHERS)
