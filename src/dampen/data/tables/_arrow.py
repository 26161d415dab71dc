"""Arrow, Feather and Parquet files from strangers: sizes first, and every buffer checked before it is used.

pyarrow trusts the offsets, lengths and indices in a file's buffers: converted as they are, one changed byte can end the
process. So a table is validated in full first.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dampen.data import _memory
from dampen.errors import InputError

_ENDS = b"ARROW1"
_ENDS_OF_VERSION_1 = b"FEA1"
_LEAST_OF_VALUE = 8  # bytes that a value of a table takes in pandas, about
_ROWS = 1 << 16  # of a Parquet file that are read at a time


def read_feather(path: Path) -> Any:
    """Return the frame in a Feather or Arrow file.

    Raises:
        InputError: it does not fit into memory, or is of Feather's first version.
        Exception: pyarrow's, of a damaged file.
    """
    import pyarrow as pa

    with path.open("rb") as file:
        start = file.read(6)
        file.seek(-min(6, path.stat().st_size), os.SEEK_END)
        end = file.read(6)
    if (start[:4], end[-4:]) == (_ENDS_OF_VERSION_1, _ENDS_OF_VERSION_1):
        # pyarrow reads its metadata unchecked: a changed byte can end the process before there is anything to validate
        raise InputError(
            f"{path} is of Feather's first version, which can't be read safely: write it anew, "
            "pandas.read_feather(old).to_feather(new)"
        )
    # pyarrow's threads can end the whole process over a file without its end, without an exception here
    if (start, end) != (_ENDS, _ENDS):
        raise ValueError("a Feather file starts and ends with ARROW1")
    with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as reader:
        if hasattr(reader, "count_rows"):  # not in every version: pyarrow 26 has it
            _memory.check(reader.count_rows() * len(reader.schema) * _LEAST_OF_VALUE, str(path))
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        return _frame(_gathered(batches, reader.schema, path))


def read_parquet(path: Path) -> Any:
    """Return the frame in a Parquet file; raises as `read_feather`."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        about = file.metadata
        groups = [about.row_group(i) for i in range(about.num_row_groups)]
        announced = sum(max(0, group.total_byte_size) for group in groups)
        _memory.check(max(announced, about.num_rows * about.num_columns * _LEAST_OF_VALUE), str(path))
        return _frame(_gathered(file.iter_batches(batch_size=_ROWS), file.schema_arrow, path))


def _gathered(batches: Iterable[Any], schema: Any, path: Path) -> Any:
    """Return batches as one table, as long as they fit into memory."""
    import pyarrow as pa

    chunks, size = [], 0
    for batch in batches:
        batch.validate(full=True)  # before its size, which follows offsets
        size += batch.nbytes
        _memory.check(size, str(path))
        chunks.append(batch)
    return pa.Table.from_batches(chunks, schema=schema)


def _frame(table: Any) -> Any:
    table.validate(full=True)
    import pandas.core.arrays.arrow.extension_types  # noqa: F401  # periods and intervals, as pandas' own reader has them

    return table.to_pandas()
