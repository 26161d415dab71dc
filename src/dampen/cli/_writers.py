"""Lines of predictions, written while they are found: to CSV, to Parquet, to stdout or into one JSON document."""

import re
import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from dampen._io import exists, refuse_foreign
from dampen.cli import _output
from dampen.errors import InputError

if TYPE_CHECKING:
    import numpy as np

_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r]")  # the last four: as wide letters
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")

Parts = Iterable[dict[str, "np.ndarray"]]
"""The columns of predictions, some rows at a time."""

# Columns of predictions: a file with others is somebody's own.
_ALWAYS = {"row", "prediction", "abstain"}
_SOMETIMES = {"file", "target", "probability", "entropy", "mutual_information", "set_size"} | {
    *("standard_deviation", "epistemic", "low", "high")
}


def check_file(out: Path | None) -> None:
    """Make sure, before anything is predicted, that lines can be written to a file.

    Raises:
        InputError: another ending than .csv and .parquet, no such folder, or a file of that name that holds no
            predictions.
    """
    if out is None:
        return
    if out.suffix.lower() not in (".csv", ".parquet"):
        raise InputError(f"--out takes a file that ends in .csv or .parquet, got {out}")
    if out.is_dir():
        raise InputError(f"{out} is a folder: name a file for the predictions")
    if not exists(out) and not out.parent.is_dir():
        raise InputError(f"there is no folder {out.parent} to write into: make it, or choose another")
    refuse_foreign(out, _csv_is_ours if out.suffix.lower() == ".csv" else lambda _: _parquet_is_ours(out), "no table")


def _are_ours(columns: Collection[str]) -> bool:
    return _ALWAYS <= set(columns) <= _ALWAYS | _SOMETIMES


def _csv_is_ours(head: bytes) -> bool:
    return _are_ours(head.splitlines()[0].decode(errors="replace").split(","))


def _parquet_is_ours(file: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return _are_ours(pq.read_schema(file).names)
    except (OSError, pa.ArrowException):
        return False


def write(out: Path, parts: Parts) -> None:
    """Write rows to a file, some at a time; the file is whole or not there."""
    from dampen._io import write_whole

    write_whole(out, lambda file: (_csv_file if out.suffix.lower() == ".csv" else _parquet_file)(file, parts))


def harmless(columns: dict[str, Any]) -> dict[str, Any]:
    """Return columns in which no text is a spreadsheet's formula: one that begins like it gets an apostrophe in front.

    Names of classes come from the data, and a spreadsheet that opens the file would run `=cmd|...`. Numbers stay what
    they are. See OWASP, "CSV injection".
    """

    def text(value: Any) -> Any:
        return (
            f"'{value}" if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value) else value
        )

    def each(values: Any) -> Any:
        if values.dtype != object:
            return values
        texts = values.copy()
        texts[:] = [text(value) for value in values]
        return texts

    return {name: each(values) for name, values in columns.items()}


def _csv_file(file: Path, parts: Parts) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        _write_csv(stream, parts)


def _write_csv(stream: TextIO, parts: Parts) -> None:
    import pandas as pd

    for i, columns in enumerate(parts):
        pd.DataFrame(harmless(columns)).to_csv(stream, index=False, header=i == 0)


def _parquet_file(file: Path, parts: Parts) -> None:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    try:
        for columns in parts:
            # a first part without a single known target would make that column one of nulls
            words = [name for name, values in columns.items() if values.dtype == object]
            frame = pd.DataFrame(columns).astype(dict.fromkeys(words, "string"))
            table = pa.Table.from_pandas(frame, preserve_index=False)
            if writer is None:
                writer = pq.ParquetWriter(file, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def stream_csv(parts: Parts) -> None:
    """Print rows as CSV while they are found."""
    _write_csv(sys.stdout, parts)


def stream_json(head: dict[str, Any], parts: Parts, tail: Callable[[], dict[str, Any]]) -> None:
    """Print one JSON document row by row; `tail` is called after the last row."""

    def inner(document: dict[str, Any]) -> str:
        return _output.as_json(document)[1:-1]

    sys.stdout.write("{" + inner(head) + ', "predictions": [')
    comma = ""
    for columns in parts:
        lists = {name: values.tolist() for name, values in columns.items()}
        for values in zip(*lists.values(), strict=True):
            sys.stdout.write(comma + "{" + inner(dict(zip(lists, values, strict=True))) + "}")
            comma = ","
    sys.stdout.write("], " + inner(tail()) + "}\n")
