"""Arrays that a user hands over: two-dimensional ones as the table that the same numbers are, others as they are."""

from typing import Any

import numpy as np

from dampen.data import _arrays
from dampen.data._dataset import Data
from dampen.data.tables import _from_frame
from dampen.data.tables._frame import Frame, tidy
from dampen.data.tables._join import as_series, join
from dampen.data.tables._pandas_types import Table
from dampen.errors import InputError

_EXACT = 2**20  # up to which a table holds whole numbers as they are


def read_arrays(
    inputs: Any,
    target: Any,
    *,
    test: tuple[Any, Any] | None,
    task: str | None,
    seed: int,
    test_fraction: float,
    normalise: bool = True,
    group: Any = None,
    weight: Any = None,
    time_order: Any = None,
    name: str = "arrays",
    source: str = "memory",
) -> Data:
    """Return data of arrays, tensors or lists.

    Args:
        inputs: `[N, D]`, every column an input; or `[N, ...]`.
        target: one for each row.
        test: inputs and targets of the test rows, None to draw them.
        task: None guesses.
        seed: of the draw of test rows.
        test_fraction: how many are drawn.
        normalise: whether inputs are scaled; else whole numbers stay whole.
        group: rows with equal entries stay together.
        weight: how much a row counts.
        time_order: rows are split by it.
        name: of the data.
        source: where it was read from.

    Raises:
        InputError: shapes that do not fit, no numbers, or as for a table.
    """
    raw = _arrays.array_of(inputs, "inputs", objects=True)
    whole = not normalise and raw.ndim == 2 and raw.dtype.kind in "iu"
    if raw.ndim != 2 or not (normalise or (whole and np.abs(raw).max(initial=0) < _EXACT)):
        weights, groups = (
            None if value is None else as_series(value, role)[0].to_numpy()
            for role, value in (("weight", weight), ("group", group))
        )
        if time_order is not None:
            raise InputError("time_order is for tables: inputs of shape [rows, columns] that are scaled")
        return _arrays.from_arrays(
            raw,
            target,
            test=test,
            task=task,
            seed=seed,
            test_fraction=test_fraction,
            scaling="guess" if normalise else None,
            keep_whole=not normalise,
            name=name,
            source=source,
            weights=weights,
            groups=groups,
        )
    numeric = raw.dtype.kind in "biuf"
    frame, names = _joined(raw, {"target": target, "group": group, "weight": weight, "time_order": time_order})
    test_frame = None
    if test is not None:
        test_raw = _arrays.array_of(test[0], "test inputs", objects=True)
        if test_raw.ndim != 2 or test_raw.shape[1] != raw.shape[1]:
            raise InputError(
                f"training and test features differ: {list(raw.shape)} and {list(test_raw.shape)}; give them the same "
                "columns"
            )
        test_frame, _ = _joined(test_raw, {"target": test[1]})
    data = _from_frame.from_frame(
        frame,
        _from_frame.roles(task=task, **names),
        test=test_frame,
        seed=seed,
        test_fraction=test_fraction,
        name=name,
        source=source,
        every_column=numeric,
    )
    return (data.whole() or data) if whole else data


def as_table(raw: np.ndarray) -> Table:
    """Return an array `[N, D]` as a table with the columns `x0`, `x1`, ..."""
    import pandas as pd

    return pd.DataFrame(raw, columns=[f"x{j}" for j in range(raw.shape[1])])


def _joined(raw: np.ndarray, given: dict[str, Any]) -> tuple[Frame, dict[str, str]]:
    table, names, notes = as_table(raw), {}, []
    for role, values in given.items():
        if values is not None:
            series, notes_of_role = as_series(values, role)
            table, names[role], _ = join(table, series.reset_index(drop=True).rename(role), role, own=False)
            notes += notes_of_role
    return tidy(Frame(table, tuple(notes)), "the array"), names
