"""Text that holds numbers as people write them: with a comma, a currency, a per cent sign or a unit.

What such a number is worth is not guessed, `1,234` is a thousand or one: it is recognised, so that a note can name it.
"""

import re
from collections import Counter

import numpy as np

from dampen.data.tables._pandas_types import Series
from dampen.data.tables._values import as_numbers

LIKE_NUMBERS = "looks like numbers with a comma, sign or unit"
_NEARLY_ALL = 0.9  # share of the values that must be numbers in the same dress
_SCALES = frozenset(("k", "K", "M", "Mio", "Mio.", "mn", "bn", "kB", "KB", "MB", "GB", "TB"))  # may differ by row
_LETTERS = frozenset("mgshlLkKMVWCFt")  # units of one letter; 12b is a house and 12A a seat
_MONEY = "$€£¥₹₽₺₩฿₴₫₪₦₱¢"
_CODES = (
    "EUR|USD|GBP|CHF|JPY|CNY|INR|RUB|SEK|NOK|DKK|PLN|CZK|HUF|TRY|BRL|AUD|CAD|NZD|ZAR|MXN|KRW|HKD|SGD|ILS|THB"
    "|Rs\\.?|kr\\.?"
)
_BLANKS = " \u00a0\u2009\u202f"
_DRESSED = re.compile(
    rf"""
    \(? [<>≤≥~≈]? [{_BLANKS}]* [-+−]? [{_BLANKS}]*
    (?P<money> [A-Z]{{0,3}}[{_MONEY}] | {_CODES} )? [{_BLANKS}]* [-+−]?
    (?P<number>
        (?: [1-9]\d{{0,2}} (?P<group>[.,'’{_BLANKS}]) \d{{3}} (?: (?P=group)\d{{3}} )* | 0 | [1-9]\d* ) (?: [.,]\d+ )?
        | [.,]\d+
    )
    (?: [eE][-+]?\d+ )?
    (?P<gap> [{_BLANKS}]* ) (?P<unit> [^\d\W_] [^\d,;:|()_-]{{0,14}} [23]? | [%‰°"'+{_MONEY}] [^\d,;:|()_-]{{0,14}} )?
    \)?
    """,
    re.VERBOSE,
)


def dressed(counts: Series, decimal_comma: bool = False) -> str | None:
    """Return one of some texts where nearly all are numbers that only a person can read, None where they are not.

    All must wear the same: one unit or currency, or none; so codes, house numbers and dates are none of them.

    Args:
        counts: how often each text occurs, texts as the index, without missing ones.
        decimal_comma: whether text such as `3,14` is a number, which needs no one to read it.
    """
    import pandas as pd

    texts = [str(text) for text in counts.index]
    matches = [_DRESSED.fullmatch(text) for text in texts]
    total = int(counts.sum())
    plain = ~np.isnan(as_numbers(pd.Series(texts, dtype=object), decimal_comma))
    wears: Counter[str] = Counter()
    for match, count in zip(matches, counts, strict=True):
        if match is not None and not _is_code(match):
            wears[_wear(match)] += int(count)
    if not wears:
        return None
    wear, n = wears.most_common(1)[0]
    if n < _NEARLY_ALL * total:
        return None
    odd = [
        (text, match, int(count))
        for text, match, count, is_plain in zip(texts, matches, counts, plain, strict=True)
        if match is not None and not is_plain and _wear(match) == wear
    ]
    wrong = sum(int(count) for count, is_plain in zip(counts, plain, strict=True) if not is_plain)
    if not odd or 2 * sum(count for _, _, count in odd) < wrong:
        return None
    if not wear and _are_codes([match for _, match, _ in odd]):
        return None
    return odd[0][0]


def advice(example: str) -> str:
    """Return the sentence about it, without a subject."""
    return f"{LIKE_NUMBERS} ('{example[:30]}'): write plain numbers"


def advice_on_target(example: str) -> str:
    """Return the sentence about it with the unit or currency to leave out."""
    match = _DRESSED.fullmatch(example)
    worn = [] if match is None else [part.strip() for part in (match["money"], match["unit"]) if part and part.strip()]
    quoted = " and ".join(f"'{part[:15]}'" for part in worn)
    return f"{advice(example)}{', without ' * bool(worn)}{quoted}"


def _wear(match: re.Match[str]) -> str:
    unit = (match["unit"] or "").strip()
    return f"{match['money'] or ''} {'' if unit in _SCALES else unit}".strip()


def _is_code(match: re.Match[str]) -> bool:
    unit = match["unit"] or ""
    return len(unit) == 1 and unit.isalpha() and unit not in _LETTERS and not match["gap"]


def _are_codes(odd: list[re.Match[str]]) -> bool:
    """Return whether blanks part digits that are always as many, as in a postal code or a telephone number."""
    groups = [match["group"] for match in odd]
    if not all(group and group in _BLANKS for group in groups):
        return False
    return len({len(match["number"]) for match in odd}) == 1
