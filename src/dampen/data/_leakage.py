"""What lies on both sides of a split, or would: copies of rows, and rows of one person, place or thing."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from dampen.data._dataset import Data

_ONE_SIDE = "copies stay on one side of every split"


@dataclass(frozen=True)
class Leaks:
    """What may make held-out rows look easier than new ones.

    Args:
        copies: rows that equal an earlier one in all inputs.
        test_copies: test rows that equal a training or validation row.
        identifiers: columns that look like identifiers which repeat, and by which rows are not grouped.
    """

    copies: int
    test_copies: int
    identifiers: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {**asdict(self), "identifiers": list(self.identifiers)}


def leaks(data: Data) -> Leaks:
    """Count the rows in use that are copies, and name the columns that look like repeating identifiers.

    >>> from dampen.data import load
    >>> leaks(load("iris"))
    Leaks(copies=1, test_copies=0, identifiers=())
    """
    rest, test = _sides(data)
    identifiers = tuple(name for name, _ in _repeating(data))
    return Leaks(_repeated(torch.cat([rest, test])), int(torch.isin(test, rest).sum()), identifiers)


def noted(data: Data) -> Data:
    """Return the data with a note for each way in which rows of one kind are on both sides of a split."""
    rest, test = _sides(data)
    notes, leakage = [], leaks(data)
    where = _where(data)
    n = _repeated(rest) + _repeated(test) if where == _ONE_SIDE else leakage.copies
    if n:
        n_rows = len(rest) + len(test)
        notes.append(f"{n} of {n_rows} rows {'is a copy' if n == 1 else 'are copies'} of another row: {where}")
    if leakage.test_copies and not data.copies.repeat_by_themselves:
        rows = "1 test row is" if leakage.test_copies == 1 else f"{leakage.test_copies} test rows are"
        notes.append(f"{rows} equal to training rows: the test figures may be too good")
    notes += [
        f"{repeats(name, count)}: if rows of one belong together, use group {name}, else they are on both "
        "sides of every split"
        for name, count in _repeating(data)
    ]
    if data.classes is not None and len(test):
        trained = data.targets[torch.cat([data.train_rows, data.validation_rows])].unique()
        lacking = [data.classes[c] for c in data.targets[data.test_rows].unique().tolist() if c not in trained]
        if lacking:
            names = ", ".join(f"'{name}'" for name in lacking[:3]) + ", ..." * (len(lacking) > 3)
            notes.append(f"test rows have classes that no training row has ({names}): they can't be learnt")
    return replace(data, notes=(*data.notes, *notes)) if notes else data


def repeats(name: str, count: str) -> str:
    """Return the sentence about a column of identifiers, without what to do."""
    return f"column '{name}' looks like an identifier that repeats ({count})"


def _repeating(data: Data) -> tuple[tuple[str, str], ...]:
    return () if data.columns is None else data.columns.repeating


def _where(data: Data) -> str:
    """Return where copies are, in words."""
    copies = data.copies
    if data.ordered:
        return "the order of time may put them on both sides of a split"
    if copies.repeat_by_themselves:
        return "the columns hold so few values that rows repeat by themselves, on both sides of every split"
    if copies.together is None:
        return "too few rows are different to keep copies on one side of a split, the figures hold for these rows only"
    if data.groups is None or not data.groups[copies.together].equal(data.groups):
        return "they would link nearly all groups, so copies in two groups may be on both sides of a split"
    if copies.spread:
        return f"{_ONE_SIDE}, but for rows that make up more than a tenth of all, which are on both"
    return _ONE_SIDE


def _sides(data: Data) -> tuple[Int[Tensor, " rest"], Int[Tensor, " test"]]:
    """Return a number for each training and validation row, and for each test row; equal rows have the same."""
    first = data.copies.first
    return first[torch.cat([data.train_rows, data.validation_rows])], first[data.test_rows]


def _repeated(first: Int[Tensor, " n"]) -> int:
    return len(first) - len(first.unique())
