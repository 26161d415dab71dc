"""Rows in memory that come after training: a frame, an array, a tensor or lists."""

from typing import Any

from dampen._io import shortened
from dampen.data._arrays import array_of
from dampen.data._new_data import Incoming
from dampen.data._normalisation import Normalisation
from dampen.data._npz import new_features
from dampen.data.tables._preprocessing import Preprocessing, rows_of_array
from dampen.data.tables._vectoriser import Vectoriser
from dampen.errors import InputError

_WHAT = "the rows to predict"


def new_rows(
    rows: Any, normalisation: Normalisation | Vectoriser, task: str, classes: tuple[str, ...] | None, target: str | None
) -> Incoming:
    """Return raw rows for a trained network.

    Args:
        rows: a frame with the columns of the training table, with or without the target's; or an array, a tensor or
            lists: of a network of a table its columns in their order, otherwise `[N, ...]` as it was trained on.
        normalisation: what makes inputs of them.
        task: what the network predicts.
        classes: their names, or None.
        target: the name of the target's column, if there is one.

    Raises:
        InputError: rows that are no numbers, or lack columns.
    """
    frame = hasattr(rows, "to_pandas") or hasattr(rows, "iloc")
    if isinstance(normalisation, Vectoriser):
        kept = Preprocessing(normalisation, task, classes, target)
        if frame and getattr(rows, "ndim", 2) == 2:
            return kept.read(rows)
        array = array_of(rows, _WHAT, objects=True)
        if array.dtype.kind not in "biuf":
            columns = ", ".join(f"'{column.name}'" for column in normalisation.columns.used)
            raise InputError(f"{_WHAT} are an array with text: give a frame with the columns {shortened(columns)}")
        return rows_of_array(array, None, kept, _WHAT)
    if frame:
        rows = rows.to_numpy()
    features = new_features(array_of(rows, _WHAT), _WHAT, normalisation)
    return Incoming("the rows", normalisation, task, classes, features, None)
