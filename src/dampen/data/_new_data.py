"""Rows that come after training, with or without their targets: of a table as its preprocessing reads them."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int, Shaped
from torch import Tensor

from dampen.data._normalisation import Normalisation
from dampen.data._target import known_classes, listed
from dampen.data.tables._columns import Columns
from dampen.data.tables._frame import Frame
from dampen.data.tables._out_of_range import beyond
from dampen.data.tables._pandas_types import Series, Table
from dampen.data.tables._values import as_text, plain
from dampen.data.tables._vectoriser import Vectoriser
from dampen.data.tables._written_numbers import Writing, may_be_thousands, read_numbers, writing

_LONGEST = 30  # letters of a value in a note
_MISSING = re.compile(r"\d+ missing")  # the note on a training column of categories that has such cells


@dataclass(frozen=True, eq=False, repr=False)
class Incoming:
    """Rows for a trained network.

    Args:
        name: of the file.
        normalisation: what makes inputs of them.
        task: `classification` or `regression`.
        classes: their names in the order of the network's outputs; None for regression.
        features: raw values, as `Data` holds them.
        targets: class numbers, -1 where a row has none that is known; or values, NaN where there is none; None where
            no row has one.
        notes: what was odd about the values, a sentence each.
        source: where they were read from.
        files: the file of each row, from the source on; none where rows are not files.
    """

    name: str
    normalisation: Vectoriser | Normalisation
    task: str
    classes: tuple[str, ...] | None
    features: Shaped[Tensor, "N ..."]
    targets: Shaped[Tensor, " N"] | None
    notes: tuple[str, ...] = ()
    source: str = "memory"
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.features)

    def inputs_of(self, rows: Int[Tensor, " n"]) -> Shaped[Tensor, "n ..."]:
        """Return the network's inputs for some rows."""
        return self.normalisation.apply(self.features[rows])

    def in_file(self, rows: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Return the numbers that rows have in their file, from 0: every one of the file is here."""
        return rows


def targets_of(
    frame: Frame, column: str, task: str, classes: tuple[str, ...] | None, written: Writing
) -> tuple[Shaped[Tensor, " N"] | None, list[str]]:
    """Return the targets of rows to come, as `Incoming` has them, and notes on them.

    A row whose target is missing or means nothing to the network is still a row to predict.

    Args:
        frame: the table.
        column: the target's.
        task: what is predicted.
        classes: that are known.
        written: how the table writes its numbers.
    """
    values = frame.table[column]
    text = as_text(values)
    if classes is not None:
        text = known_classes(text, classes)
        place = {label: i for i, label in enumerate(classes)}
        numbers = np.array([place.get(label, -1) for label in text], dtype=np.int64)
        known, what = numbers >= 0, "is a class that the training rows lack"
    else:
        numbers = written.numbers(values)
        numbers, text = np.where(np.isfinite(numbers), numbers, np.nan), plain(text)
        known = ~np.isnan(numbers)
        may_be = may_be_thousands(text) & ~known
        what = "may be thousands or a fraction" if may_be.any() else "is not a number"
    there = text.notna().to_numpy()
    notes = []
    if (there & ~known).any():
        notes.append(
            f"target '{column}' {what} in {_rows(there & ~known)} ({_some(text[there & ~known])}): not evaluated"
        )
    if not known.any():
        return None, notes
    if not there.all():
        notes.append(f"target '{column}' is missing in {_rows(~there)}: not evaluated")
    return torch.from_numpy(numbers), notes


def encode_new(
    columns: Columns, table: Table, source: str, decimal_comma: bool = False
) -> tuple[Float32[np.ndarray, "N columns"], Writing, list[str]]:
    """Return rows to come as `Columns.encode` does, how their numbers are written, and what is odd about them.

    Args:
        columns: what the training rows are.
        table: the rows.
        source: where they are from, for a message.
        decimal_comma: whether they were found to have decimal commas.

    Raises:
        InputError: a column is missing.
    """
    written = writing(columns, table, decimal_comma)
    numbers = read_numbers(columns, table, written)
    encoded = columns.encode(numbers, source)
    odd = _oddities(columns, table, encoded, written.decimal_comma)
    return encoded, written, [*odd, *beyond(columns, numbers, encoded)]


def _oddities(
    columns: Columns, table: Table, encoded: Float32[np.ndarray, "N columns"], decimal_comma: bool
) -> list[str]:
    """Return what was done to values of a kind that the training rows did not have, a sentence for each column."""
    notes, counts = [], columns.counts()
    for j, column in enumerate(columns.used):
        values = table[column.name]
        if column.kind in ("two", "category", "many", "code"):
            unknown = encoded[:, j] == -1
            if unknown.any():
                some = _some(as_text(values[unknown]))
                some += _but_for_case(as_text(values[unknown]), column.levels)
                notes.append(
                    f"column '{column.name}' has a value that the training rows lack in {_rows(unknown)} ({some}): "
                    + (
                        "its code is 0"
                        if column.kind == "code"
                        else "encoded as a rare one"
                        if column.has_other or column.kind == "many"
                        else "encoded as none of them"
                    )
                )
            missing = np.isnan(encoded[:, j])
            if missing.any() and not _MISSING.search(column.said):
                absent = _never_missing(column.name, missing)
                notes.append(
                    f"{absent}: its code is 0" if column.kind == "code" else f"{absent}: encoded as none of its values"
                )
            continue
        missing = np.isnan(encoded[:, j])
        if column.kind == "text":
            unknown = ~missing & ~encoded[:, counts[j]].any(1)
            if unknown.any():
                some = _some(as_text(values[unknown]))
                notes.append(f"column '{column.name}' has no word that is an input in {_rows(unknown)} ({some})")
            if missing.any() and not column.missing:
                notes.append(f"{_never_missing(column.name, missing)}: read as empty")
            continue
        if not missing.any():
            continue
        text = plain(as_text(values[missing]))
        unreadable = missing.copy()
        unreadable[missing] = text.notna().to_numpy()
        may_be = np.zeros_like(missing)
        may_be[missing] = may_be_thousands(text) if column.kind == "number" else False
        filled = "missing" if column.missing else "the median" if column.kind == "number" else "the middle"
        if may_be.any():
            example = str(text[may_be[missing]].iloc[0])
            fraction = f"{float(example):g}"
            if decimal_comma or column.decimal_comma:
                fraction = fraction.replace(".", ",")
            notes.append(
                f"column '{column.name}' may be thousands or a fraction in {_rows(may_be)} "
                f"({_some(text[may_be[missing]])}): replaced by {filled}; write {example.replace('.', '')} "
                f"or {fraction}"
            )
            unreadable &= ~may_be
            text = text[~may_be[missing]]
        if unreadable.any():
            what = "number" if column.kind == "number" else "date"
            notes.append(
                f"column '{column.name}' is not a {what} in {_rows(unreadable)} ({_some(text)}): replaced by {filled}"
            )
        absent = missing & ~unreadable & ~may_be
        if not column.missing and absent.any():
            notes.append(f"{_never_missing(column.name, absent)}: replaced by {filled}")
    return notes


def _never_missing(name: str, missing: np.ndarray) -> str:
    return f"column '{name}' is missing in {_rows(missing)}, in the training rows it never is"


def _some(values: Series) -> str:
    distinct: list[Any] = list(values.dropna().unique())
    return listed([str(value)[:_LONGEST] for value in distinct], most=3)


def _but_for_case(values: Series, levels: tuple[str, ...]) -> str:
    """Return the first known level that an unknown one equals but for its case, in words."""
    known = {level.casefold(): level for level in levels}
    alike = [known[text.casefold()] for text in map(str, values.unique()) if text.casefold() in known]
    return f"; '{alike[0][:_LONGEST]}' but for its case" if alike else ""


def _rows(mask: np.ndarray) -> str:
    n = int(mask.sum())
    return f"{n} row{'s' * (n != 1)}"
