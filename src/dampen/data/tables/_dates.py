"""Dates as people write them: the one format that a whole column follows, found by what most of its cells hold."""

import re
from dataclasses import dataclass

from dampen.data.tables._pandas_types import Series

_NEARLY_ALL = 0.9  # share of the cells that must be dates for a column to be one, as for numbers
_SAMPLE = 200  # cells by which formats are tried first
_YEARS = 1700, 2200  # of dates without a day: `1001-02` may as well be a code

_TIME = re.compile(
    r"(?P<before>[T ]|,\ ?|\ -\ )(?P<clock>\d{1,2}:\d{2}(?P<seconds>:\d{2}(?P<fraction>[.,]\d{1,9})?)?)"
    r"(?P<half>\ ?[AaPp][Mm])?(?P<zone>\ ?(?:Z|UTC|GMT|[+-]\d{2}:?\d{2}))?$"
)
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}(:?\d{2}(:?\d{2}([.,]\d+)?)?)?\ ?(Z|[+-]\d{2}(:?\d{2})?)?)?$")
_PERIODS = {  # texts of a period, by the name of their format: what they are rewritten as, and the format of that
    "quarter": (
        re.compile(r"(?P<y>\d{4})[- ]?Q(?P<q>[1-4])$|Q(?P<q2>[1-4])[- /]?(?P<y2>\d{4})$", re.IGNORECASE),
        "%Y-%m",
    ),
    "week": (re.compile(r"(?P<y>\d{4})-?W(?P<w>\d{2})$", re.IGNORECASE), "%G-%V-%u"),
    "from/to": (re.compile(r"(?P<first>\d{4}-\d{2}-\d{2})/\d{4}-\d{2}-\d{2}$"), "%Y-%m-%d"),
}
_CHINESE = re.compile(r"\d{4}年(\d{1,2}月(\d{1,2}[日号])?)?")
_DAY_FIRST = {
    "/": False,
    "-": True,
    ".": True,
}  # where both fit: 1/2 is read as in the United States, 1.2. as elsewhere


@dataclass(frozen=True)
class DateFormat:
    """How a column writes its dates.

    Args:
        format: as `pandas.to_datetime` takes it; or `quarter` (`2024Q1`), `week` (`2024-W05`) or `from/to` (two days).
        other: what comes first in another reading that fits as well; empty where there is none.
    """

    format: str
    other: str = ""

    @property
    def note(self) -> str:
        """The note on a reading that is not the only one."""
        return f"{_first(self.format)} first; {self.other} first fits, too" if self.other else ""


def date_format(known: Series) -> DateFormat | None:
    """Return the format in which nine tenths of some texts are dates or more, None where there is none.

    The format that reads the most texts is taken, so that one `31/01/2024` decides for the whole column.
    """
    head = known.iloc[:: max(1, len(known) // _SAMPLE)].iloc[: 2 * _SAMPLE]
    if not len(head) or head.str.contains(r"\d", regex=True).mean() < _NEARLY_ALL:
        return None
    candidates = _candidates(head)
    tried = [(n, format) for format in candidates if (n := _n_dates(head, format)) >= 0.8 * len(head)]
    counted = [(_n_dates(known, format), format) for _, format in tried]
    best = max((n for n, _ in counted), default=0)
    if best < _NEARLY_ALL * len(known):
        return None
    fitting = [format for n, format in counted if n == best]
    firsts = {_first(fitting[0]), "year"}  # few people write 24-01-31: it is taken where nothing else fits
    others = [format for format in fitting[1:] if _first(format) not in firsts]
    return DateFormat(fitting[0], _first(others[0]) if others else "")


def is_compact(numbers: Series) -> bool:
    """Return whether whole numbers such as 20240131 are all days."""
    import pandas as pd

    known = numbers.dropna()
    if not len(known) or not known.between(19000101, 21001231).all() or (known % 1 != 0).any():
        return False
    distinct = known.astype("int64").drop_duplicates()
    return len(distinct) >= 5 and bool(
        pd.to_datetime(distinct.astype(str), format="%Y%m%d", errors="coerce").notna().all()
    )


def times(values: Series, format: str) -> Series:
    """Return texts as times in UTC, missing where one is no date of that format; periods as their first day."""
    import pandas as pd

    if format in _PERIODS:
        pattern, of_first = _PERIODS[format]
        values, format = values.map(lambda text: _first_day(pattern.match(text)), na_action="ignore"), of_first
    if format == "ISO8601":
        values = values.where(values.str.match(_ISO).fillna(False).astype(bool), None)
    parsed = pd.to_datetime(values, format=format, errors="coerce", utc=True)
    if "%d" not in format and format != "ISO8601":
        parsed = parsed.where(parsed.dt.year.between(*_YEARS))
    return parsed


def _first_day(period: re.Match[str] | None) -> str | None:
    if period is None:
        return None
    parts = period.groupdict()
    if "w" in parts:
        return f"{parts['y']}-{parts['w']}-1"
    if "q" in parts:
        return f"{parts['y'] or parts['y2']}-{3 * int(parts['q'] or parts['q2']) - 2:02d}"
    return parts["first"]


def _n_dates(texts: Series, format: str) -> int:
    return int(times(texts, format).notna().sum())


def _first(format: str) -> str:
    letter = "Y" if format == "ISO8601" or format in _PERIODS else re.sub(r"%[aA],? ", "", format)[1]
    return {"d": "day", "m": "month", "b": "month", "B": "month"}.get(letter, "year")


def _candidates(head: Series) -> list[str]:
    """Return formats that the texts' shapes allow, the likelier first."""
    formats: dict[str, None] = {}
    shapes: dict[str, str] = {}
    for text in head:
        shapes.setdefault(re.sub(r"[A-Za-z]+", "A", re.sub(r"\d", "0", text)), text)
    for text in list(shapes.values())[:20]:
        if _ISO.match(text):
            formats["ISO8601"] = None
        for name, (pattern, _) in _PERIODS.items():
            if pattern.match(text):
                formats[name] = None
        clock = _TIME.search(text)
        day = text[: clock.start()] if clock else text
        time = _time_format(clock) if clock else ""
        for format in _day_formats(day):
            formats[format + time] = None
    return list(formats)


def _time_format(clock: re.Match[str]) -> str:
    hours = "%I" if clock["half"] else "%H"
    parts = [clock["before"], hours, ":%M"]
    if clock["seconds"]:
        parts.append(":%S")
    if clock["fraction"]:
        parts.append(clock["fraction"][0] + "%f")
    if clock["half"]:
        parts.append(" %p" if clock["half"].startswith(" ") else "%p")
    if clock["zone"]:
        blank = " " if clock["zone"].startswith(" ") else ""
        parts.append(blank + ("%Z" if clock["zone"].strip() in ("UTC", "GMT") else "%z"))
    return "".join(parts)


def _day_formats(day: str) -> list[str]:
    chinese = _CHINESE.fullmatch(day)
    if chinese:  # 2024年1月31日, 2024年1月, 2024年
        return ["%Y年" + "%m月" * bool(chinese[1]) + f"%d{day[-1]}" * bool(chinese[2])]
    numeric = re.fullmatch(r"(\d{1,4})([-/.])(\d{1,2})(?:\2(\d{1,4}))?", day) or re.fullmatch(
        r"(\d{1,2})([-/.])(\d{4})", day
    )
    if numeric:
        return _numeric_formats(*numeric.groups())
    name = re.search(r"[A-Za-z]{3,9}", day.split(", ", 1)[-1] if re.match(r"[A-Za-z]+,? \d", day) is None else day)
    if name is None or not re.search(r"\d", day):
        return []
    return [format for format in _NAMED if _fits(day, format)]


def _numeric_formats(first: str, mark: str, second: str, third: str | None = None) -> list[str]:
    if third is None:  # a month
        if len(first) == 4:
            return [f"%Y{mark}%m"]
        return [f"%m{mark}%Y"] if len(second) == 4 else []
    if len(first) == 4:
        return [f"%Y{mark}%m{mark}%d"] if len(third) <= 2 else []
    if len(first) > 2 or len(third) not in (2, 4):
        return []
    year = "%Y" if len(third) == 4 else "%y"
    both = [f"%d{mark}%m{mark}{year}", f"%m{mark}%d{mark}{year}"]
    if not _DAY_FIRST[mark]:
        both.reverse()
    return both + ([f"%y{mark}%m{mark}%d"] if year == "%y" and len(first) == 2 else [])


_WEEKDAYS = ("", "%a, ", "%A, ", "%a ", "%A ")
_NAMED = tuple(
    weekday + day
    for weekday in _WEEKDAYS
    for month in ("%b", "%B")
    for day in (
        *(f"%d{mark}{month}{mark}{year}" for mark in ("-", " ", "/", ".") for year in ("%Y", "%y")),
        *(f"%d. {month} %Y", f"%d{month}%Y", f"%d {month}, %Y", f"{month} %d, %Y", f"{month} %d %Y"),
        *(f"%Y{mark}{month}{mark}%d" for mark in ("-", " ", "/")),
        *(f"{month}-%d-%Y", f"{month}{'.'} %d, %Y"),
        *(f"{month}{mark}{year}" for mark in ("-", " ", "/") for year in ("%Y", "%y") if not weekday),
        *(f"%Y{mark}{month}" for mark in ("-", " ") if not weekday),
    )
)


def _fits(day: str, format: str) -> bool:
    """Return whether a format fits one text."""
    import time

    try:
        time.strptime(day, format)
    except ValueError:
        return False
    return True
