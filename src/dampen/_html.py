"""What notebooks show of values, short tables whose texts are texts, whatever they hold; and the mark of pages."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

ROWS = 10
"""How many rows of a long table are shown."""
_MARK = b'<meta name="generator" content="dampen">'
_TITLES = (b"<title>How much regularisation? ", b"<title>When to trust it? ")  # of older ones, which bear no mark


def is_page(head: bytes) -> bool:
    """Return whether a file with these first bytes is a page of dampen's."""
    return any(mark in head for mark in (_MARK, *_TITLES))


def table(columns: Mapping[str, Any], n: int | None = None) -> str:
    """Return columns as HTML; of long ones the first rows, with a line that tells so.

    Args:
        columns: by name, equally long: lists, arrays or tensors.
        n: how many rows there are where the columns hold the first ones alone.

    Example:
        >>> table({"class": ["a<b"], "probability": [0.98765]})
        '<table><tr><th>class</th><th>probability</th></tr><tr><td>a&lt;b</td><td>0.9877</td></tr></table>'
    """
    held = [[_text(value) for value in list(values[:ROWS])] for values in columns.values()]
    head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in columns)
    rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in zip(*held, strict=True))
    n = max((len(values) for values in columns.values()), default=0) if n is None else n
    more = f"<p>... {n - ROWS:,} more rows</p>" if n > ROWS else ""
    return f"<table><tr>{head}</tr>{rows}</table>{more}"


def lines(lead: str, rest: Sequence[str]) -> str:
    """Return a sentence in bold and others as a list below it."""
    items = "".join(f"<li>{html.escape(line)}</li>" for line in rest)
    return f"<div><p><strong>{html.escape(lead)}</strong></p>{f'<ul>{items}</ul>' if items else ''}</div>"


def _text(value: Any) -> str:
    value = value.item() if hasattr(value, "item") else value
    return f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))
