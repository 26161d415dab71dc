"""The column to predict: which it is, its task, and its values."""

from dataclasses import dataclass

import numpy as np

from dampen._io import counted
from dampen.data.tables import _formatted_numbers, _spelling
from dampen.data.tables._pandas_types import Series
from dampen.data.tables._values import (
    SYMBOLS,
    WORDS,
    are_codes,
    as_known,
    as_levels,
    as_numbers,
    as_text,
    as_whole,
    grouped,
    plain,
    settled,
)
from dampen.errors import InputError

NAMES = ("target", "label", "class", "y", "outcome", "response", "labels", "targets")
LEAST_OF_CLASS = 8  # rows of a class, so that test rows, and each of five folds of the others, have one
_FEW = 20  # distinct whole numbers up to which a target may be class numbers
_NEARLY_ALL = 0.9  # share of a target's values that must be numbers for the others to be left out, as in an input
_LARGEST, _SMALLEST = 1e18, 1e-18  # of all values the largest
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
    """Return the name of the target's column: the given one, else the only one with a target's usual name.

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


def read(
    values: Series,
    task: str | None,
    name: str,
    decimal_comma: bool = False,
    where: str = "",
    least: int = LEAST_OF_CLASS,
) -> Target:
    """Read a target; rows without one, and classes of too few rows, are left out, with a note.

    Where nine tenths of the values are numbers, too many to be classes, rows with anything else are left out.

    Args:
        values: the column.
        task: None guesses: text, booleans and few distinct whole numbers are classes.
        name: of the column.
        decimal_comma: whether text such as `3,14` is a number.
        where: the rows are, if not in the table itself.
        least: rows of a class that is kept.

    Raises:
        InputError: nothing is left, or values that are no numbers in a regression.
    """
    if task not in (None, "classification", "regression"):
        raise InputError(f"task must be classification or regression, got {task!r}")
    import pandas as pd

    text = as_text(values)
    numeric = pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype)
    numbers = as_numbers(values if numeric else text, decimal_comma)
    whole = as_whole(values)
    exact = numbers if whole is None else whole  # 2**60 and 2**60 + 1 are one number in float64
    codes = not numeric and are_codes(text)
    thousand = grouped(text) if decimal_comma and not numeric and task != "classification" else None
    if thousand is not None:
        raise InputError(f"target '{name}' {_formatted_numbers.advice_on_target(thousand)}")
    is_value = plain(text).notna().to_numpy()
    bad = is_value & np.isnan(numbers)
    left_out: list[str] = []
    if bad.any() and task != "classification":
        _refuse_dressed(text[is_value].value_counts(), task, name, decimal_comma)
        if _are_values(numbers[is_value & ~bad], int(is_value.sum()), task, _quoted(text[bad]), name):
            left_out = [f"{_rows(bad)}{_of(where)} left out: target '{name}' holds {_quoted(text[bad])}, no number"]
            task, is_value = "regression", is_value & ~bad
    all_numbers = bool(is_value.any()) and not bool(np.isnan(numbers[is_value]).any())
    finite = is_value & ~np.isinf(numbers)
    if task == "regression" or (task is None and all_numbers and not codes and not _few_whole(exact[finite])):
        notes = _missing(text, finite | (bad if left_out else False), name, where)
        return _values(text, numbers, finite, name, where, [*notes, *left_out], least)
    guessed = task is None
    text = as_levels(settled(text, LEAST_OF_CLASS)).mask(np.isinf(numbers), None)
    kept = text.notna().to_numpy()
    notes = [*_missing(as_text(values), kept, name, where), *_words(text, name)]
    if guessed and all_numbers:
        distinct = len(np.unique(exact[kept]))
        notes.append(
            f"target '{name}' holds digits with a leading zero: treated as classes (task regression for values)"
            if codes
            else f"target '{name}' has {distinct} distinct whole numbers: treated as classes (task "
            "regression for values)"
        )
    return _classes(text, numbers, all_numbers, kept, name, notes, least)


def _refuse_dressed(counts: Series, task: str | None, name: str, decimal_comma: bool) -> None:
    example = _formatted_numbers.dressed(counts, decimal_comma) if task == "regression" or len(counts) > _FEW else None
    if example is not None:
        raise InputError(f"target '{name}' {_formatted_numbers.advice_on_target(example)}")


def _are_values(numbers: np.ndarray, n: int, task: str | None, quoted: str, name: str) -> bool:
    """Return whether numbers among n cells, of which some hold none, are values of a regression but for these.

    Raises:
        InputError: they are most, but not nearly all.
    """
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers) or (task is None and _few_whole(numbers)):
        return False
    if len(numbers) >= _NEARLY_ALL * n:
        return True
    if task is None and 2 * len(numbers) > n:
        raise InputError(
            f"target '{name}' holds numbers, but in {n - len(numbers)} of {n} rows {quoted}: leave these cells empty, "
            "or use task classification"
        )
    return False


def _values(
    text: Series, numbers: np.ndarray, kept: np.ndarray, name: str, where: str, notes: list[str], least: int
) -> Target:
    _refuse_none(kept, name, where)
    if np.isnan(numbers[kept]).any():
        bad = kept & np.isnan(numbers)
        raise InputError(
            f"target '{name}' holds '{str(text[bad].iloc[0])[:30]}', a regression needs numbers; use task "
            f"classification, or correct {_rows(bad)} of {len(kept)}"
        )
    if np.abs(numbers[kept]).max() > _LARGEST:
        raise InputError(f"target '{name}' holds numbers beyond {_LARGEST:g}, whose squares float32 can't hold: divide")
    if not where and 0 < np.abs(numbers[kept]).max() < _SMALLEST:
        raise InputError(
            f"target '{name}' holds only numbers below {_SMALLEST:g}, whose squares float32 can't hold: multiply"
        )
    targets = np.where(kept, numbers, 0.0).astype(np.float32)[kept]
    if not where and least > 1 and targets.min() == targets.max():
        if numbers[kept].min() < numbers[kept].max():
            raise InputError(
                f"target '{name}' differs by less than float32 can hold, all rows are near {targets[0]:g}: "
                "subtract that"
            )
        raise InputError(f"target '{name}' is {targets[0]:g} in every row: there is nothing to learn")
    return Target("regression", targets, None, kept, tuple(notes))


def _refuse_none(kept: np.ndarray, name: str, where: str) -> None:
    if not kept.any():
        raise InputError(f"{where}{': ' * bool(where)}target '{name}' is missing in every row; name another column")


def _missing(text: Series, kept: np.ndarray, name: str, where: str) -> list[str]:
    """Return notes on rows without a target, with the words that were read as missing."""
    if kept.all():
        return []
    words = text[~kept]
    words = words[words.isin((*WORDS, *SYMBOLS))]
    quoted = f" ({_quoted(words)})" if len(words) else ""
    return [f"{_rows(~kept)}{_of(where)} without a target '{name}'{quoted} left out"]


def _of(where: str) -> str:
    return f" of {where}" if where else ""


def numbers_of(
    values: Series, task: str, classes: tuple[str, ...] | None, name: str, where: str, decimal_comma: bool
) -> Target:
    """Read a test file's target, whose task and classes are known.

    Raises:
        InputError: a class that the training rows lack, or no number in a regression.
    """
    if task == "regression":
        return read(values, task, name, decimal_comma, where)
    assert classes is not None
    text = known_classes(as_text(values), classes)
    kept = text.notna().to_numpy()
    unknown = sorted(set(text.dropna()) - set(classes))
    if unknown:
        raise InputError(f"{where}: target '{name}' has the class '{unknown[0]}', which the training rows lack")
    notes = [f"{_rows(~kept)} of {where} without a target left out"] if not kept.all() else []
    if not kept.any():
        raise InputError(f"{where}: target '{name}' is missing in every row")
    place = {label: i for i, label in enumerate(classes)}
    return Target(task, text[kept].map(place).to_numpy(np.int64, copy=True), classes, kept, tuple(notes))


def known_classes(text: Series, classes: tuple[str, ...]) -> Series:
    """Return texts, missing where a word may mean so and is no class; `TRUE` is `True` and `1.0` is `1` where it is."""
    text = text.mask(text.isin({*WORDS, *SYMBOLS}.difference(classes)), None)
    return as_levels(text) if set(classes) == {"False", "True"} else as_known(text, classes)


def _words(text: Series, name: str) -> list[str]:
    """Return notes on classes whose names may mean that a value is missing."""
    counts = text[text.isin((*WORDS, *SYMBOLS))].value_counts()
    return [
        f"target '{name}': '{word}' in {_count(int(n))} is treated as a class; leave these cells empty if they are "
        "missing"
        for word, n in counts.items()
    ]


def _quoted(values: Series, most: int = 3) -> str:
    return listed([str(value)[:30] for value in values.value_counts().index], most)


def _few_whole(numbers: np.ndarray) -> bool:
    if numbers.dtype.kind == "f" and (numbers != np.floor(numbers)).any():
        return False
    distinct = len(np.unique(numbers))
    return distinct <= min(_FEW, max(2, len(numbers) // _LEAST_EACH))


def _classes(
    text: Series, numbers: np.ndarray, all_numbers: bool, kept: np.ndarray, name: str, notes: list[str], least: int
) -> Target:
    _refuse_none(kept, name, "")
    counts = text[kept].value_counts()
    alike = _spelling.spelt_alike(map(str, counts.index))
    if alike:
        notes.append(f"target '{name}' has classes that {alike}")
    enough = counts[counts >= least]
    rare = counts[counts < least]
    if len(enough) < 2:
        if len(counts) == 1:
            raise InputError(
                f"target '{name}' is '{str(counts.index[0])[:30]}' in every row: there is nothing to learn"
            )
        raise InputError(
            f"target '{name}' has {len(counts)} classes in {int(counts.sum())} rows, {len(enough) or 'none'} of them "
            f"with {least} rows or more; two such classes are needed"
            + (", or the task regression" if all_numbers else "")
        )
    if len(rare):
        kept = kept & text.isin(enough.index).to_numpy()
        listed_rare = listed([str(label)[:30] for label in rare.index], most=3)
        notes.append(
            f"{counted(int(rare.sum()), 'row')} left out: their classes ({listed_rare}) have fewer than {least} rows "
            "each"
        )
    labels = list(enough.index)
    labels.sort(key=(lambda label: (float(label), label)) if all_numbers else str)
    place = {label: i for i, label in enumerate(labels)}
    targets = text[kept].map(place).to_numpy(np.int64, copy=True)
    return Target("classification", targets, tuple(map(str, labels)), kept, tuple(notes))


def listed(names: list[str], most: int = 30) -> str:
    """Return names for a message."""
    return ", ".join(f"'{name}'" for name in names[:most]) + (f" and {len(names) - most} more" * (len(names) > most))


def _rows(mask: np.ndarray) -> str:
    return _count(int(mask.sum()))


def _count(n: int) -> str:
    return f"{n} row{'s' * (n != 1)}"
