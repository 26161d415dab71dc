"""Codes of a table's categories, for a network that embeds them: whole numbers from 1 on, 0 where none is known.

Categories are numbered as scikit-learn's `OrdinalEncoder` numbers them, plus one: in the order of their numbers where
all are numbers, else of their letters. 0 is kept for what has no code: a missing value, a category that the rows which
decide on the codes lack, and one that a split's own training rows lack.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dampen.data.tables._pandas_types import Series
from dampen.data.tables._values import HOLDS_NUMBERS, as_levels, as_numbers, as_text, not_text, settled
from dampen.errors import InputError

_MANY = 40  # different numbers above which they need rows that repeat them: an input each is for as many categories
_LEAST_ROWS = 2  # for each number, on average, where there are many: numbers that hardly repeat are measured
_DISTINCT = 0.9  # categories for each row above which a column is an identifier, as where types are inferred
UNKNOWN = 0  # the code of what has none


@dataclass(frozen=True, repr=False)
class CodedColumn:
    """A column whose categories are codes among the inputs.

    - `name`: as in the table.
    - `place`: which input has the codes: `x[..., place]`.
    - `num_embeddings`: how many codes there are, 0 among them: `nn.Embedding(num_embeddings, ...)`.
    - `categories`: those of the codes from 1 on; 0 is a missing or unknown one.
    """

    name: str
    place: int
    categories: tuple[str, ...]

    def __repr__(self) -> str:
        return f"CodedColumn(name={self.name!r}, place={self.place}, num_embeddings={self.num_embeddings})"

    @property
    def num_embeddings(self) -> int:
        """How many codes there are: one more than categories."""
        return len(self.categories) + 1

    @property
    def note(self) -> str:
        """Where the codes are and what they are, in words."""
        look_up = f"nn.Embedding({self.num_embeddings}, ...)(x[..., {self.place}].long())"
        return f"the codes of column '{self.name}' are input {self.place}, for {look_up}; 0 is missing or unknown"


def categories(name: str, values: Series, least: int) -> tuple[tuple[str, ...], int]:
    """Return a column's categories in the order of their codes, and how many rows lack one.

    Args:
        name: of the column.
        values: of the rows that decide.
        least: rows that must hold a word such as `None` for it to be a category.

    Raises:
        InputError: it holds no categories.
    """
    other = not_text(values)
    if other not in (None, HOLDS_NUMBERS):
        raise InputError(f"codes: column '{name}' {other}, no categories; leave it out")
    text = as_levels(settled(as_text(values), least))
    known = text.dropna()
    levels = list(map(str, known.unique()))
    if not levels:
        raise InputError(f"codes: column '{name}' holds no value, and so no categories; leave it out")
    if len(levels) == 1 and len(known) == len(text):
        raise InputError(f"codes: column '{name}' holds '{levels[0][:30]}' in every row, one category; leave it out")
    numbers = other == HOLDS_NUMBERS
    few_rows = len(known) < _LEAST_ROWS * len(levels) if numbers else len(levels) > _DISTINCT * len(known)
    if len(levels) > _MANY and (few_rows or (numbers and _has_fractions(known))):
        raise InputError(
            f"codes: column '{name}' holds {len(levels)} different {'numbers' if numbers else 'values'} in "
            f"{len(known)} rows, no categories; leave it out"
        )
    return tuple(_in_order(levels)), len(text) - len(known)


def _has_fractions(known: Series) -> bool:
    numbers = as_numbers(known)
    return bool((numbers != np.floor(numbers)).any())


def _in_order(levels: Sequence[str]) -> list[str]:
    import pandas as pd

    numbers = as_numbers(pd.Series(list(levels), dtype=object))
    if not np.isfinite(numbers).all():
        return sorted(levels)
    return [level for _, level in sorted(zip(numbers.tolist(), levels, strict=True))]
