"""How a raw table becomes a network's inputs, as plain data: kept with a study, used again on rows to come."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float
from msgspec import Meta, Struct
from torch import Tensor

from dampen import _schema
from dampen._checks import as_path
from dampen._io import shortened
from dampen.data._dataset import Data
from dampen.data._in_memory import as_table
from dampen.data._new_data import Incoming, encode_new, targets_of
from dampen.data._npz import rows_of
from dampen.data.tables._columns import Columns
from dampen.data.tables._frame import Frame
from dampen.data.tables._pandas_types import Table
from dampen.data.tables._read import read_frame, tidy
from dampen.data.tables._totals import total_row
from dampen.data.tables._vectoriser import Vectoriser
from dampen.errors import InputError

_VERSION = 1


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """From a table as it lies in a file to the inputs of a trained network.

    Args:
        vectoriser: what its columns become.
        task: `classification` or `regression`.
        classes: their names in the order of the network's outputs; None for regression.
        target: the name of the target's column.

    Example:
        >>> import dampen, pandas as pd
        >>> rows = pd.DataFrame({"size": [40, 90, 60] * 20, "garden": ["no", "yes"] * 30, "price": range(60, 120)})
        >>> data = dampen.load(rows, target="price")
        >>> kept = Preprocessing.of(data).document()  # plain: JSON can hold it
        >>> Preprocessing.from_document(kept).inputs(rows.drop(columns="price")).shape
        torch.Size([60, 2])
    """

    vectoriser: Vectoriser
    task: str
    classes: tuple[str, ...] | None
    target: str | None

    @classmethod
    def of(cls, data: Data) -> "Preprocessing | None":
        """Return the preprocessing fitted to a table's training rows; None where the data is no table."""
        if data.columns is None:
            return None
        assert isinstance(data.normalisation, Vectoriser)
        return cls(data.normalisation, data.task, data.classes, data.target_name)

    def inputs(self, table: str | Path | Table) -> Float[Tensor, "N D"]:
        """Return the network's inputs for rows of a file or a frame; columns beside those that it needs are ignored.

        A level that the training rows did not have counts as a rare one, of a column of codes as 0, a missing number as
        the median.

        Raises:
            InputError: the file can't be read, or lacks a column.
        """
        return self.vectoriser.apply(self.read(table).features)

    def read(self, table: str | Path | Table) -> Incoming:
        """Return rows of a file or a frame, with their targets where they have any and with what is odd about them.

        Raises:
            InputError: the file can't be read, or lacks a column.
        """
        import torch

        columns = self.vectoriser.columns
        if isinstance(table, str | Path):
            file = as_path("table", table)
            frame = read_frame(file, columns.decimal_comma)
            source, name = str(file), file.name.split(".")[0]
        else:
            table = table.to_pandas() if hasattr(table, "to_pandas") else table
            frame = tidy(Frame(table, decimal_comma=columns.decimal_comma), "the table")
            source, name = "the table", "table"
        encoded, written, odd = encode_new(columns, frame.table, source + frame.aside, frame.decimal_comma)
        notes = [*frame.notes, *filter(None, [total_row(frame.table)]), *odd]
        targets = None
        if self.target is not None and self.target in frame.table.columns:
            targets, target_notes = targets_of(frame, self.target, self.task, self.classes, written)
            notes += target_notes
        features = torch.from_numpy(encoded)
        return Incoming(name, self.vectoriser, self.task, self.classes, features, targets, tuple(notes), source)

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "version": _VERSION,
            "task": self.task,
            "classes": None if self.classes is None else list(self.classes),
            "target": self.target,
            **self.vectoriser.document(),
        }

    @classmethod
    def read_document(cls, file: str | Path) -> "Preprocessing | None":
        """Return the preprocessing of a file with such a document; None where there is no such file.

        Raises:
            InputError: it is of another version, or damaged.
        """
        file = as_path("file", file)
        text = _schema.read_bytes(file)
        return None if text is None else cls._decoded(text, file)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Preprocessing":
        """Return the inverse of `document`.

        Raises:
            InputError: it is of another version, or not whole.
        """
        with _schema.damaged("the preprocessing"):
            text = json.dumps(document)
        return cls._decoded(text, "the preprocessing")

    @classmethod
    def _decoded(cls, text: str | bytes, what: object) -> "Preprocessing":
        version = _schema.decode(text, _Version, what).version
        if version != _VERSION:
            raise InputError(f"{what} is of version {shortened(version)}, {_VERSION} is known")
        document = _schema.decode(text, _Document, what)
        return cls(document.vectoriser(), document.task, document.classes, document.target)


def read_rows(path: Path, kept: Preprocessing) -> Incoming | None:
    """Read rows of a `.npz` file for a network of such rows, `x` with `y` or without; None where it has a test part.

    Raises:
        InputError: the file is damaged, or its rows are of another width.
    """
    rows = rows_of(path)
    if rows is None:
        return None
    inputs, targets, notes = rows
    read = rows_of_array(inputs, targets, kept, str(path))
    return replace(read, name=path.stem, source=str(path), notes=(*notes, *read.notes))


def rows_of_array(inputs: np.ndarray, targets: np.ndarray | None, kept: Preprocessing, what: str) -> Incoming:
    """Return rows of an array whose columns are those of the study's table, in that order.

    Args:
        inputs: `[N, columns]`.
        targets: of them, if there are any.
        kept: of the network's table.
        what: holds them, for messages.

    Raises:
        InputError: other columns, or no numbers.
    """
    columns = kept.vectoriser.columns.used
    if inputs.ndim != 2 or inputs.shape[1] != len(columns) or inputs.dtype.kind not in "biuf":
        raise InputError(
            f"{what} holds inputs of shape {list(inputs.shape)}; the study's rows are [N, {len(columns)}] numbers"
        )
    table = as_table(inputs).set_axis([column.name for column in columns], axis=1)
    if targets is not None and kept.target is not None:
        table[kept.target] = targets
    return kept.read(table)


class _Version(Struct, frozen=True):
    version: int | str | None = None


_Numbers = list[Annotated[float, Meta(ge=-3.5e38, le=3.5e38)]]  # float32's
_Place = Annotated[str, Meta(pattern=r"\A[0-9]{1,9}\Z")]  # of a column


class _Document(Struct, frozen=True, kw_only=True):
    """What `Preprocessing.document` writes; sizes agree with each other, and none is larger than its lists."""

    task: Literal["classification", "regression"]
    classes: Annotated[tuple[str, ...], Meta(min_length=2)] | None
    target: str | None
    columns: Columns
    outputs: _schema.Size
    centre: _Numbers
    scale: _Numbers
    seen: dict[_Place, list[bool]]
    means: dict[_Place, list[_Numbers]]
    counts: dict[_Place, _Numbers]
    factors: dict[_Place, _Numbers] = {}  # studies that were made before text was read have none

    def __post_init__(self) -> None:
        used, outputs = self.columns.used, 1 if self.classes is None else len(self.classes)
        if (self.classes is None) != (self.task == "regression") or self.outputs != outputs:
            raise ValueError("outputs: there is one for each class, or one for numbers")
        if not used or not len(used) == len(self.centre) == len(self.scale):
            raise ValueError("columns, centre and scale have different lengths, or there are none")
        means = 1 if outputs <= 2 else outputs
        for j, column in enumerate(used):
            n, place = len(column.levels), str(j)
            if column.kind in ("category", "code") and len(self.seen.get(place, ())) != n:
                raise ValueError(f"seen: column {j} has {n} levels")
            if column.kind == "text" and len(self.factors.get(place, ())) != n:
                raise ValueError(f"factors: column {j} has {n} terms")
            if column.kind == "many":
                rows = self.means.get(place, ())
                if len(rows) != n + 2 or len(self.counts.get(place, ())) != n + 2 or {len(r) for r in rows} != {means}:
                    raise ValueError(f"means, counts: column {j} has {n} levels, and {means} means of each")

    def vectoriser(self) -> Vectoriser:
        """Return how a table's values become inputs."""

        def by_column(values: Mapping[str, Any], dtype: Any) -> dict[int, np.ndarray]:
            return {int(j): np.array(of, dtype=dtype) for j, of in values.items() if int(j) < len(self.columns.used)}

        centre, scale = (np.array(values, dtype=np.float32) for values in (self.centre, self.scale))
        seen, means = by_column(self.seen, bool), by_column(self.means, np.float32)
        counts, factors = by_column(self.counts, np.float32), by_column(self.factors, np.float32)
        return Vectoriser(self.columns, self.outputs, centre, scale, seen, means, counts, factors)
