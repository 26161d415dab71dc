"""A column's values as text, numbers or days, however the file or the frame holds them."""

from typing import Any, cast

import numpy as np
from jaxtyping import Float64

from dampen.data._frames import Series

_MISSING = ("", "?", "-", "--")  # beside what pandas takes for missing: NA, NaN, null, n/a ...
_DAY = 86_400.0  # seconds
_FORMATS = (
    *("ISO8601", "%Y/%m/%d", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%d.%m.%Y", "%d.%m.%Y %H:%M"),
    *("%m/%d/%Y", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y", "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S"),
)


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


def is_ambiguous(known: Series, format: str) -> bool:
    """Return whether dates that were read with the month first can be read with the day first, too."""
    import pandas as pd

    other = format.replace("%m/%d", "%d/%m")
    return other != format and bool(pd.to_datetime(known, format=other, errors="coerce", utc=True).notna().all())
