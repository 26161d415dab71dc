"""The column to predict: which it is, what it asks for, and its values."""

from dataclasses import dataclass

import numpy as np

from dampen._io import counted
from dampen.data import _dressed
from dampen.data._frames import Series
from dampen.data._values import as_numbers, as_text
from dampen.errors import InputError

NAMES = ("target", "label", "class", "y", "outcome", "response", "labels", "targets")
LEAST_OF_CLASS = 8  # rows of a class, so that test rows, and each of five folds of the others, have one
_FEW = 20  # distinct whole numbers up to which a target may be class numbers
_LARGEST = 1e18  # of a value
_LEAST_EACH = 5  # rows for each of them then


@dataclass(frozen=True, eq=False)
class Target:
    """What is to be predicted.

    Args:
        task: `classification` or `regression`.
        numbers: class numbers (int64) or values (float32) of the rows that are kept.
        classes: names in the order of their numbers; None for regression.
        kept: which of the table's rows have a target that can be used.
        notes: what was done, a sentence each.
    """

    task: str
    numbers: np.ndarray
    classes: tuple[str, ...] | None
    kept: np.ndarray
    notes: tuple[str, ...]


def find(columns: list[str], wanted: str | None, what: str) -> str:
    """Return the name of the target's column: the one asked for, else the only one with a target's usual name.

    Raises:
        InputError: there is no such column, or none or several are obvious.
    """
    if wanted is not None:
        return existing(columns, wanted, "target", what)
    for name in NAMES:  # by rank: a column called target wins over one called class
        alike = [column for column in columns if column.strip().lower() == name]
        if len(alike) == 1:
            return alike[0]
    raise InputError(f"which column of {what} is to be predicted? name it as target; there are {listed(columns)}")


def existing(columns: list[str], wanted: str, role: str, what: str) -> str:
    """Return a column's name, forgiving about case and blanks where that is unambiguous.

    Raises:
        InputError: there is no such column.
    """
    if wanted in columns:
        return wanted
    alike = [column for column in columns if column.strip().lower() == str(wanted).strip().lower()]
    if len(alike) == 1:
        return alike[0]
    raise InputError(f"{what} has no column '{wanted}' ({role}); there are {listed(columns)}")


def read(values: Series, task: str | None, name: str, decimal_comma: bool = False) -> Target:
    """Read a target; rows without one, and classes of too few rows, are left out, and that is told.

    Args:
        values: the column.
        task: None guesses: text, booleans and few distinct whole numbers are classes.
        name: of the column.
        decimal_comma: whether text such as `3,14` is a number.

    Raises:
        InputError: nothing is left, or values that are no numbers in a regression.
    """
    if task not in (None, "classification", "regression"):
        raise InputError(f"task must be classification or regression, got {task!r}")
    import pandas as pd

    text = as_text(values)
    numeric = pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype)
    numbers = as_numbers(values if numeric else text, decimal_comma)
    kept = text.notna().to_numpy() & ~np.isinf(numbers)
    if not kept.any():
        raise InputError(f"target '{name}' is missing in every row; name another column")
    notes = [f"{_rows(~kept)} without a target '{name}' left out"] if not kept.all() else []
    all_numbers = not np.isnan(numbers[kept]).any()
    guessed = task is None
    if not all_numbers and task != "classification":
        counts = text[kept].value_counts()
        example = _dressed.dressed(counts, decimal_comma) if task == "regression" or len(counts) > _FEW else None
        if example is not None:
            raise InputError(f"target '{name}' {_dressed.said(example)}")
    if guessed:
        task = "classification" if not all_numbers or _few_whole(numbers[kept]) else "regression"
    if task == "regression":
        if not all_numbers:
            bad = str(text[kept][np.isnan(numbers[kept])].iloc[0])[:30]
            raise InputError(f"target '{name}' holds '{bad}', a regression needs numbers; use task classification")
        if np.abs(numbers[kept]).max() > _LARGEST:
            raise InputError(
                f"target '{name}' holds numbers beyond {_LARGEST:g}, whose squares float32 can't hold: divide"
            )
        found = np.where(kept, numbers, 0.0).astype(np.float32)
        if found[kept].min() == found[kept].max():
            raise InputError(f"target '{name}' is {found[kept][0]:g} in every row: there is nothing to learn")
        return Target(task, found[kept], None, kept, tuple(notes))
    if guessed and all_numbers:
        notes.append(
            f"target '{name}' has {len(np.unique(numbers[kept]))} distinct whole numbers: taken as classes (task "
            "regression takes them as values)"
        )
    return _classes(text, numbers, all_numbers, kept, name, notes)


def numbers_of(
    values: Series, task: str, classes: tuple[str, ...] | None, name: str, where: str, decimal_comma: bool
) -> Target:
    """Read a test file's target, whose task and classes are known.

    Raises:
        InputError: a class that the training rows lack, or no number in a regression.
    """
    if task == "regression":
        return read(values, task, name, decimal_comma)
    text = as_text(values)
    kept = text.notna().to_numpy()
    assert classes is not None
    unknown = sorted(set(text.dropna()) - set(classes))
    if unknown:
        raise InputError(f"{where}: target '{name}' has the class '{unknown[0]}', which the training rows lack")
    notes = [f"{_rows(~kept)} of {where} without a target left out"] if not kept.all() else []
    if not kept.any():
        raise InputError(f"{where}: target '{name}' is missing in every row")
    place = {label: i for i, label in enumerate(classes)}
    return Target(task, text[kept].map(place).to_numpy(np.int64), classes, kept, tuple(notes))


def _few_whole(numbers: np.ndarray) -> bool:
    if (numbers != np.floor(numbers)).any():
        return False
    distinct = len(np.unique(numbers))
    return distinct <= min(_FEW, max(2, len(numbers) // _LEAST_EACH))


def _classes(
    text: Series, numbers: np.ndarray, all_numbers: bool, kept: np.ndarray, name: str, notes: list[str]
) -> Target:
    counts = text[kept].value_counts()
    enough = counts[counts >= LEAST_OF_CLASS]
    rare = counts[counts < LEAST_OF_CLASS]
    if len(enough) < 2:
        if len(counts) == 1:
            raise InputError(
                f"target '{name}' is '{str(counts.index[0])[:30]}' in every row: there is nothing to learn"
            )
        raise InputError(
            f"target '{name}' has {len(counts)} classes in {int(counts.sum())} rows, {len(enough) or 'none'} of them "
            f"with {LEAST_OF_CLASS} rows or more; two such classes are needed"
            + (", or the task regression" if all_numbers else "")
        )
    if len(rare):
        kept = kept & text.isin(enough.index).to_numpy()
        listed_rare = listed([str(label)[:30] for label in rare.index], most=3)
        notes.append(
            f"{counted(int(rare.sum()), 'row')} left out: their classes ({listed_rare}) have fewer than "
            f"{LEAST_OF_CLASS} rows each"
        )
    labels = list(enough.index)
    labels.sort(key=float if all_numbers else str)
    place = {label: i for i, label in enumerate(labels)}
    found = text[kept].map(place).to_numpy(np.int64)
    return Target("classification", found, tuple(map(str, labels)), kept, tuple(notes))


def listed(names: list[str], most: int = 30) -> str:
    """Return names for a message."""
    return ", ".join(f"'{name}'" for name in names[:most]) + (f" and {len(names) - most} more" * (len(names) > most))


def _rows(mask: np.ndarray) -> str:
    n = int(mask.sum())
    return f"{n} row{'s' * (n != 1)}"
