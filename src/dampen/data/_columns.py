"""What each column of a table is and how many inputs it becomes; its values as float32 numbers that still tell all.

Decided once, on the rows that are not test rows and without the target: all folds and seeds share one network, so they
share its inputs. What is estimated (medians, mean targets) is `_vectorise`'s and comes from each split's training rows.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import numpy as np
from jaxtyping import Float32, Float64

from dampen.data._frames import Series, Table
from dampen.errors import InputError

Kind = Literal["number", "date", "two", "category", "many"]

MANY = 40  # levels above which a category becomes its mean target, as in skrub's TableVectorizer
RARE = 5  # rows below which a level has no input of its own
_NUMBERS = 0.9  # share of a text column's values that must be numbers for it to be one
_DISTINCT = 0.9  # levels for each row above which a category is an identifier, or text
_LEAST_IDS = 20  # rows below which distinct whole numbers prove nothing
_MISSING = ("", "?", "-", "--")  # beside what pandas takes for missing: NA, NaN, null, n/a ...
_ID = re.compile(r"(^|[_\W])(id|uuid|guid|index|key|no|nr)$|^(id|unnamed: 0)|[a-z]ID$|Id$", re.ASCII)
_DAY = 86_400.0  # seconds
_FORMATS = (
    *("ISO8601", "%Y/%m/%d", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%d.%m.%Y", "%d.%m.%Y %H:%M"),
    *("%m/%d/%Y", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y", "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S"),
)
_PARTS = {"year": 365.2425, "week": 7.0, "day": 1.0}  # periods of a date's waves, in days
_LARGEST = 1e30  # far below float32's largest, so that later sums of squares stay finite


@dataclass(frozen=True)
class Column:
    """A column that is an input.

    Args:
        name: as in the file.
        kind: `number`; `date`; `two` (levels); `category` (an input for each level); `many` (more levels than that).
        levels: a category's, those with an input of their own first.
        own: how many of them have one; the others share one.
        offset: what is subtracted before numbers become float32: a date's in days since 1970.
        unit: what they are divided by.
        missing: whether another input says that the value is missing.
        parts: of a date: `trend`, and waves with the period of a `year`, a `week`, a `day`.
        decimal_comma: whether text such as `3,14` is a number.
        format: a date's, where it is text.
        said: what is odd about it, for the table that users see.
    """

    name: str
    kind: Kind
    levels: tuple[str, ...] = ()
    own: int = 0
    offset: float = 0.0
    unit: float = 1.0
    missing: bool = False
    parts: tuple[str, ...] = ()
    decimal_comma: bool = False
    format: str | None = None
    said: str = ""

    def inputs(self, outputs: int) -> list[str]:
        """Return a name for each input that it becomes, for a network with so many outputs."""
        name = self.name
        if self.kind == "number":
            found = [name]
        elif self.kind == "two":
            return [f"{name}={self.levels[-1]}"]
        elif self.kind == "category":
            return [f"{name}={level}" for level in self.levels[: self.own]] + [f"{name} other"] * self.has_other
        elif self.kind == "many":
            means = 1 if outputs <= 2 else outputs
            return [f"{name} mean target {c}" if means > 1 else f"{name} mean target" for c in range(means)] + [
                f"{name} count"
            ]
        else:
            found = [
                f"{name} {part}{wave}"
                for part in self.parts
                for wave in ([""] if part == "trend" else [" sin", " cos"])
            ]
        return [*found, f"{name} missing"] if self.missing else found

    @property
    def has_other(self) -> bool:
        """Whether rare levels share an input."""
        return self.own < len(self.levels)

    def told(self, outputs: int) -> tuple[str, str, str, str]:
        """Return its row in the table of what was done: name, what it is, what it becomes, what is odd."""
        n = len(self.inputs(outputs))
        kind = {"two": "two values", "category": f"{len(self.levels)} categories", "many": "many categories"}
        what = {
            "number": f"scaled by median and quartiles{', missing as the median and a flag' * self.missing}",
            "date": ", ".join({"trend": "days"}.get(part, f"time of the {part}") for part in self.parts),
            "two": "-1 or 1",
            "category": f"one input each{', rare ones together' * self.has_other}",
            "many": "its smoothed mean target, and how often it occurs",
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
    """

    used: tuple[Column, ...]
    dropped: tuple[tuple[str, str], ...] = ()

    def told(self, outputs: int) -> list[tuple[str, str, str, str]]:
        """Return the table of what was done to each column."""
        return [c.told(outputs) for c in self.used] + [(name, "", "not used", why) for name, why in self.dropped]

    def inputs(self, outputs: int) -> list[str]:
        """Return a name for each input."""
        return [name for column in self.used for name in column.inputs(outputs)]

    def encode(self, table: Table, source: str) -> Float32[np.ndarray, "N columns"]:
        """Return a table's values as numbers: NaN where one is missing, -1 for a level that is not known.

        Raises:
            InputError: a column is missing; `source` says where.
        """
        lacking = [column.name for column in self.used if column.name not in table.columns]
        if lacking:
            raise InputError(
                f"{source} lacks {_listed(lacking)}, which the training rows have; its columns are "
                f"{_listed(list(map(str, table.columns)))}"
            )
        found = np.empty((len(table), len(self.used)), dtype=np.float32)
        for j, column in enumerate(self.used):
            found[:, j] = _encoded(column, table[column.name])
        return found

    def document(self, outputs: int) -> list[dict[str, Any]]:
        """Return the table of what was done as JSON can hold it."""
        names = ("name", "read_as", "becomes", "note")
        return [dict(zip(names, row, strict=True)) for row in self.told(outputs)]

    def plain(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it."""
        return {"used": [asdict(column) for column in self.used], "dropped": [list(pair) for pair in self.dropped]}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Columns":
        """Return what `plain` told."""
        used = []
        for column in plain["used"]:
            values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in column.items()}
            used.append(Column(**values))
        return cls(tuple(used), tuple((name, why) for name, why in plain["dropped"]))


def decide(table: Table, *, decimal_comma: bool = False, time: str | None = None) -> Columns:
    """Say what each column is.

    Args:
        table: the rows that are not test rows, columns that are inputs only.
        decimal_comma: whether text such as `3,14` is a number.
        time: a column that puts the rows in order: it has no trend, which the rows that follow would only exceed.

    Raises:
        InputError: none is of use.
    """
    used, dropped = [], []
    for name in table.columns:
        found = _decided(str(name), table[name], decimal_comma, name == time)
        if isinstance(found, Column):
            used.append(found)
        else:
            dropped.append((str(name), found))
    if not used:
        reasons = "; ".join(f"'{name}': {why}" for name, why in dropped[:3])
        raise InputError(f"no column is of use as an input ({reasons or 'there is none beside the target'})")
    return Columns(tuple(used), tuple(dropped))


def numbers_only(values: Float64[np.ndarray, "N n"], names: Sequence[str] | None = None) -> Columns:
    """Return columns for an array of numbers: all are inputs, whatever they hold."""
    used = []
    for j in range(values.shape[1]):
        v = values[:, j]
        offset, unit = _offset_and_unit(v[np.isfinite(v)])
        name = names[j] if names is not None else f"x{j}"
        used.append(Column(name, "number", offset=offset, unit=unit, missing=bool(np.isnan(v).any())))
    return Columns(tuple(used))


def _decided(name: str, values: Series, decimal_comma: bool, orders: bool) -> "Column | str":
    import pandas as pd

    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _category(name, as_text(values))
    if pd.api.types.is_bool_dtype(dtype):
        return _category(name, as_text(values))
    if pd.api.types.is_complex_dtype(dtype):
        return "complex numbers"
    if pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_timedelta64_dtype(dtype):
        return "it puts the rows in order" if orders else _number(name, as_numbers(values), values, False, "")
    if pd.api.types.is_datetime64_any_dtype(dtype) or isinstance(dtype, pd.PeriodDtype):
        return _date(name, as_days(values, None), None, orders)
    inferred = pd.api.types.infer_dtype(values, skipna=True)
    if inferred in ("date", "datetime", "datetime64"):
        return _date(name, as_days(values, None), None, orders)
    if inferred in ("complex", "bytes") or _holds_containers(values):
        return "complex numbers" if inferred == "complex" else "holds lists, mappings or bytes, not single values"
    text = as_text(values)
    known = text.dropna()
    if not len(known):
        return "every value is missing"
    numbers = as_numbers(text, decimal_comma)
    wrong = np.isnan(numbers) & text.notna().to_numpy()
    if wrong.sum() <= (1 - _NUMBERS) * len(known):
        said = ""
        if wrong.any():
            first = str(text[wrong].iloc[0])[:20]
            said = f"{int(wrong.sum())} no numbers ('{first}'{', ...' if wrong.sum() > 1 else ''}), taken as missing"
        return "it puts the rows in order" if orders else _number(name, numbers, values, decimal_comma, said)
    format = date_format(known)
    if format is not None:
        return _date(name, as_days(text, format), format, orders)
    return "it puts the rows in order" if orders else _category(name, text)


def _number(name: str, numbers: Float64[np.ndarray, " N"], values: Series, comma: bool, said: str) -> "Column | str":
    infinite = int(np.isinf(numbers).sum())
    if infinite:
        said = "; ".join(filter(None, [said, f"{infinite} infinite, taken as missing"]))
        numbers = np.where(np.isinf(numbers), np.nan, numbers)
    known = numbers[~np.isnan(numbers)]
    n_missing = len(numbers) - len(known)
    if not len(known):
        return "every value is missing"
    if not n_missing:
        if known.min() == known.max():
            return f"constant, {known[0]:g} in every row"
        if _is_identifier(name, known):
            return "an identifier: a whole number of its own for every row"
    if n_missing and not infinite and not said:
        said = f"{n_missing} missing"
    offset, unit = _offset_and_unit(known)
    return Column(name, "number", offset=offset, unit=unit, missing=n_missing > 0, decimal_comma=comma, said=said)


def _is_identifier(name: str, known: Float64[np.ndarray, " n"]) -> bool:
    if len(known) < _LEAST_IDS or (known != np.floor(known)).any():
        return False
    if (np.diff(known) >= 1).all() and 0 <= known[0] < _LEAST_IDS and known[-1] - known[0] < 2 * len(known):
        return True  # a count of the rows: test rows have left gaps
    return bool(_ID.search(name.strip()) or _ID.search(name.strip().lower())) and len(np.unique(known)) == len(known)


def _offset_and_unit(known: Float64[np.ndarray, " n"]) -> tuple[float, float]:
    """Return what makes numbers small enough for float32: their middle and half their range, else 0 and 1."""
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    half = high / 2 - low / 2
    if half == 0 or (max(abs(low), abs(high)) < 2**20 and half > 1e-6):  # exact enough, and small whole numbers stay so
        return (low, 1.0) if half == 0 else (0.0, 1.0)
    return low + half, half


def _date(name: str, days: Float64[np.ndarray, " N"], format: str | None, orders: bool) -> "Column | str":
    known = days[~np.isnan(days)]
    if not len(known):
        return "every value is missing"
    n_missing = len(days) - len(known)
    span = known.max() - known.min()
    if span == 0 and not n_missing:
        return "constant, the same time in every row"
    whole = np.floor(known)
    parts = [] if orders else ["trend"]
    if span > 60:
        parts.append("year")
    if len(np.unique(whole[:100_000] % 7)) > 1:
        parts.append("week")
    if (known != whole).any():
        parts.append("day")
    if not parts:
        return "it puts the rows in order"
    said = f"{n_missing} missing" if n_missing else ""
    offset = float(np.floor(np.median(known)))
    return Column(name, "date", offset=offset, missing=n_missing > 0, parts=tuple(parts), format=format, said=said)


def _category(name: str, text: Series) -> "Column | str":
    counts = text.value_counts(dropna=True)
    n_known, n_missing = int(counts.sum()), int(text.isna().sum())
    levels = sorted(map(str, counts.index), key=lambda level: (-int(counts[level]), level))
    said = f"{n_missing} missing" if n_missing else ""
    if not levels:
        return "every value is missing"
    if len(levels) == 1 and not n_missing:
        return f"constant, '{levels[0][:30]}' in every row"
    if len(levels) > max(_DISTINCT * n_known, 2):
        return f"an identifier or text: {len(levels)} different values in {n_known} rows"
    if len(levels) == 2:
        return Column(name, "two", tuple(sorted(levels)), 2, said=said)
    if len(levels) > MANY:
        return Column(name, "many", tuple(levels), said=said)
    own = sum(int(counts[level]) >= RARE for level in levels)
    own = len(levels) if len(levels) - own == 1 or own == 0 else own  # "others" of one, or of all, say no more
    return Column(name, "category", tuple(levels), own, said=said)


def _encoded(column: Column, values: Series) -> Float64[np.ndarray, " N"]:
    if column.kind == "number":
        numbers = as_numbers(values, column.decimal_comma)
        numbers = np.where(np.isinf(numbers), np.nan, numbers)
        with np.errstate(over="ignore"):
            return np.clip((numbers - column.offset) / column.unit, -_LARGEST, _LARGEST)
    if column.kind == "date":
        return as_days(values, column.format) - column.offset
    import pandas as pd

    text = as_text(values)
    codes = pd.Index(column.levels, dtype=object).get_indexer(text.astype(object)).astype(np.float64)
    codes[text.isna().to_numpy()] = np.nan
    return codes


def as_text(values: Series) -> Series:
    """Return values as stripped text, missing where they are missing or say so."""
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object)
    missing = values.isna()
    text = values.astype(object).map(_word).str.strip()
    return text.mask(missing | text.isin(_MISSING), None)


def _word(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))  # 1.0 is what a missing value elsewhere makes of the whole number 1
    return value if isinstance(value, str) else str(value)


def as_numbers(values: Series, decimal_comma: bool = False) -> Float64[np.ndarray, " N"]:
    """Return values as float64, NaN where they are missing or no numbers."""
    import pandas as pd

    if pd.api.types.is_timedelta64_dtype(values.dtype):
        return (values / pd.Timedelta(seconds=1)).to_numpy(np.float64, na_value=np.nan)
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_complex_dtype(values.dtype):
        return values.to_numpy(np.float64, na_value=np.nan)
    text = as_text(values)
    if decimal_comma:
        text = text.where(text.isna(), text.str.replace(",", ".", regex=False))
    return cast(Series, pd.to_numeric(text, errors="coerce")).to_numpy(np.float64, na_value=np.nan)


def as_days(values: Series, format: str | None) -> Float64[np.ndarray, " N"]:
    """Return times as days since 1970, NaN where they are missing or no times."""
    import pandas as pd

    if isinstance(values.dtype, pd.PeriodDtype):
        values = values.dt.to_timestamp()
    if format is not None and not pd.api.types.is_datetime64_any_dtype(values.dtype):
        values = as_text(values)
    times = pd.to_datetime(values, format=format, errors="coerce", utc=True)
    microseconds = times.dt.tz_localize(None).to_numpy("datetime64[us]")  # nanoseconds would end in the year 2262
    return np.where(np.isnat(microseconds), np.nan, microseconds.astype(np.int64) / (1e6 * _DAY))


def date_format(known: Series) -> str | None:
    """Return the format in which every one of some texts is a date, None where there is none."""
    import pandas as pd

    head = known.iloc[:100]
    if not head.str.contains(r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}", regex=True).all():
        return None
    for format in _FORMATS:
        if pd.to_datetime(head, format=format, errors="coerce", utc=True).notna().all() and (
            pd.to_datetime(known, format=format, errors="coerce", utc=True).notna().all()
        ):
            return format
    return None


def _holds_containers(values: Series) -> bool:
    return any(isinstance(value, list | tuple | dict | set | np.ndarray | bytes) for value in values.iloc[:1000])


def _listed(names: list[str], most: int = 20) -> str:
    return ", ".join(f"'{name}'" for name in names[:most]) + (f" and {len(names) - most} more" * (len(names) > most))
