"""What each column of a table is and how many inputs it becomes; its values as float32 numbers without loss."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Float64

from dampen._tensors import LARGEST
from dampen.data.tables import _free_text
from dampen.data.tables._codes import CodedColumn
from dampen.data.tables._formatted_numbers import LIKE_NUMBERS
from dampen.data.tables._pandas_types import Series, Table
from dampen.data.tables._values import SYMBOLS, WORDS, as_days, as_known, as_numbers, as_text
from dampen.errors import InputError

Kind = Literal["number", "date", "two", "category", "many", "text", "code"]

Part = Literal["trend", "year", "week", "day"]
PERIODS = {"year": 365.2425, "week": 7.0, "day": 1.0}  # periods of a date's waves, in days
_TRUTH = {"1": "True", "0": "False", "1.0": "True", "0.0": "False"} | {
    written(word): word for word in ("True", "False") for written in (str, str.lower, str.upper)
}  # how rows to come may write what was true or false


@dataclass(frozen=True)
class Column:
    """A column that is an input.

    Args:
        name: as in the file.
        kind: `number`; `date`; `two` (levels); `category` (an input for each level); `many` (more levels than that);
            `text` (an input for each term); `code` (one input, the number of the level).
        levels: a category's, those with an input of their own first; a text's terms; in the order of their codes.
        own: how many of them have one; the others share one.
        offset: what is subtracted before numbers become float32: a date's in days since 1970.
        unit: what they are divided by.
        missing: whether another input flags that the value is missing.
        parts: of a date: `trend`, and waves with the period of a `year`, a `week`, a `day`.
        decimal_comma: whether text such as `3,14` is a number.
        format: a date's, where it is text.
        said: what is odd about it, for the table that users see.
        low: the least number or day (since 1970) in the rows that it was decided on; None where that is not known.
        high: likewise the largest.
    """

    name: str
    kind: Kind
    levels: tuple[str, ...] = ()
    own: int = 0
    offset: float = 0.0
    unit: float = 1.0
    missing: bool = False
    parts: tuple[Part, ...] = ()
    decimal_comma: bool = False
    format: str | None = None
    said: str = ""
    # neither is part of what a column is: a study made before they were kept is still of the same data
    low: float | None = field(default=None, repr=False, compare=False)
    high: float | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Make sure that the numbers belong together: a column may have been read from a document."""
        if not 0 <= self.own <= len(self.levels):
            raise ValueError(f"column '{self.name}': {self.own} of its {len(self.levels)} levels can't be inputs")
        if self.kind == "two" and not self.levels:
            raise ValueError(f"column '{self.name}' has no levels")
        if self.kind in ("text", "code") and not 0 < len(set(self.levels)) == len(self.levels):
            raise ValueError(
                f"column '{self.name}' has no {'terms' if self.kind == 'text' else 'levels'}, or one of them twice"
            )
        if not self.unit > 0:
            raise ValueError(f"column '{self.name}': its unit must be larger than 0, got {self.unit}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"column '{self.name}': it can't span {self.low} to {self.high}")

    def inputs(self, outputs: int) -> list[str]:
        """Return a name for each input that it becomes, for a network with so many outputs."""
        name = self.name
        if self.kind == "number":
            names = [name]
        elif self.kind == "two":
            return [f"{name}={self.levels[-1]}"]
        elif self.kind == "code":
            return [f"{name} code"]
        elif self.kind == "category":
            return [f"{name}={level}" for level in self.levels[: self.own]] + [f"{name} other"] * self.has_other
        elif self.kind == "text":
            names = [f"{name}: {term}" for term in self.levels]
        elif self.kind == "many":
            means = 1 if outputs <= 2 else outputs
            return [f"{name} mean target {c}" if means > 1 else f"{name} mean target" for c in range(means)] + [
                f"{name} count"
            ]
        else:
            names = [
                f"{name} {part}{wave}"
                for part in self.parts
                for wave in ([""] if part == "trend" else [" sin", " cos"])
            ]
        return [*names, f"{name} missing"] if self.missing else names

    @property
    def has_other(self) -> bool:
        """Whether rare levels share an input."""
        return self.own < len(self.levels)

    def summary(self, outputs: int) -> tuple[str, str, str, str]:
        """Return its row in the table of what was done: name, what it is, what it becomes, what is odd."""
        n = len(self.inputs(outputs))
        kind = {
            "two": "two values",
            "category": f"{len(self.levels)} categories",
            "many": "many categories",
            "text": "free text",
            "code": f"{len(self.levels)} categories",
        }
        what = {
            "number": f"scaled by median and quartiles{', missing as the median and a flag' * self.missing}",
            "date": ", ".join({"trend": "days"}.get(part, f"time of the {part}") for part in self.parts),
            "two": "-1 or 1",
            "category": f"one input each{', rare ones together' * self.has_other}",
            "many": "its smoothed mean target, and how often it occurs",
            "text": (
                "tf-idf of words, of characters where words are not separated, and of pairs, unknown ones ignored"
                if _free_text.has_characters(self.levels)
                else "tf-idf of words and pairs of words, unknown ones ignored"
            )
            + ", missing as a flag" * self.missing,
            "code": f"codes from 1 to {len(self.levels)} for nn.Embedding, 0 where missing or unknown",
        }[self.kind]
        if self.kind == "many":
            kind["many"] = f"{len(self.levels)} categories"
        return self.name, kind.get(self.kind, self.kind), f"{n} input{'s' * (n > 1)}: {what}", self.said


@dataclass(frozen=True)
class Columns:
    """All columns of a table.

    Args:
        used: those that are inputs.
        dropped: name and reason of those that are not.
        repeating: name and count of those, used or not, that look like identifiers which repeat and group no rows.
        decimal_comma: whether numbers were written with decimal commas.
        decimal_points: names of those, the target perhaps among them, that have decimal points all the same.
    """

    used: tuple[Column, ...]
    dropped: tuple[tuple[str, str], ...] = ()
    repeating: tuple[tuple[str, str], ...] = ()
    decimal_comma: bool = field(default=False, compare=False)  # how they were written is nothing of what they are
    decimal_points: tuple[str, ...] = field(default=(), compare=False)

    def summary(self, outputs: int) -> list[tuple[str, str, str, str]]:
        """Return the table of what was done to each column."""
        return [c.summary(outputs) for c in self.used] + [(name, "", "not used", why) for name, why in self.dropped]

    @property
    def unread(self) -> list[tuple[str, str]]:
        """Name and reason of those that are not used though a person would read numbers in them."""
        return [(name, why) for name, why in self.dropped if why.startswith(LIKE_NUMBERS)]

    def inputs(self, outputs: int) -> list[str]:
        """Return a name for each input."""
        return [name for column in self.used for name in column.inputs(outputs)]

    def encode(self, table: Table, source: str) -> Float32[np.ndarray, "N values"]:
        """Return a table's values as numbers: NaN where one is missing, -1 for a level that is not known.

        After the columns come the counts of the terms of those that hold free text, whose own numbers tell texts apart.

        Raises:
            InputError: a column is missing; `source` names the file.
        """
        lacking = [column.name for column in self.used if column.name not in table.columns]
        if lacking:
            raise InputError(
                f"{source} lacks {_listed(lacking)}, which the training rows have; its columns are "
                f"{_listed(list(map(str, table.columns)))}"
            )
        counts = self.counts()
        n = len(self.used) + sum(len(self.used[j].levels) for j in counts)
        codes = np.empty((len(table), n), dtype=np.float32)
        for j, column in enumerate(self.used):
            if column.kind == "text":
                texts, missing = _free_text.as_texts(table[column.name])
                codes[:, j] = np.where(missing, np.nan, _free_text.hashes(texts))
                _free_text.count(texts, column.levels, codes[:, counts[j]])
            else:
                codes[:, j] = _encoded(column, table[column.name])
        return codes

    def codes(self, outputs: int) -> tuple[CodedColumn, ...]:
        """Return the columns whose categories are codes, and which inputs these are, for a network's outputs."""
        found, place = [], 0
        for column in self.used:
            if column.kind == "code":
                found.append(CodedColumn(column.name, place, column.levels))
            place += len(column.inputs(outputs))
        return tuple(found)

    def counts(self) -> dict[int, slice]:
        """Return where the counts of each text's terms lie among a row's numbers, by the number of its column."""
        places, at = {}, len(self.used)
        for j, column in enumerate(self.used):
            if column.kind == "text":
                places[j] = slice(at, at + len(column.levels))
                at += len(column.levels)
        return places

    def numbers(self) -> tuple[str, ...]:
        """Return a name for each of a row's numbers, as `encode` has them."""
        terms = (f"{column.name}: {term}" for column in self.used if column.kind == "text" for term in column.levels)
        return (*(column.name for column in self.used), *terms)

    def document(self, outputs: int) -> list[dict[str, Any]]:
        """Return the table of what was done as JSON can hold it."""
        names = ("name", "read_as", "becomes", "note")
        return [dict(zip(names, row, strict=True)) for row in self.summary(outputs)]

    def plain(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it."""
        return {
            "used": [asdict(column) for column in self.used],
            "dropped": [list(pair) for pair in self.dropped],
            "repeating": [list(pair) for pair in self.repeating],
            "decimal_comma": self.decimal_comma,
            "decimal_points": list(self.decimal_points),
        }


def _encoded(column: Column, values: Series) -> Float64[np.ndarray, " N"]:
    if column.kind == "number":
        numbers = as_numbers(values, column.decimal_comma)
        numbers = np.where(np.isinf(numbers), np.nan, numbers)
        with np.errstate(over="ignore"):
            return np.clip((numbers - column.offset) / column.unit, -LARGEST, LARGEST)
    if column.kind == "date":
        return as_days(values, column.format) - column.offset
    import pandas as pd

    text = as_text(values)
    text = text.mask(text.isin({*WORDS, *SYMBOLS}.difference(column.levels)), None)
    if set(column.levels) <= {"False", "True"}:
        text = text.map(_TRUTH).fillna(text)
    text = as_known(text, column.levels)
    codes = pd.Index(column.levels, dtype=object).get_indexer(text.astype(object)).astype(np.float64)
    codes[text.isna().to_numpy()] = np.nan
    return codes


def _listed(names: list[str], most: int = 20) -> str:
    return ", ".join(f"'{name}'" for name in names[:most]) + (f" and {len(names) - most} more" * (len(names) > most))
