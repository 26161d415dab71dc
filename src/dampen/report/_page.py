"""The page that reports are: one HTML file that opens without a network, and whose texts are texts.

A study's folder may come from a stranger, so no text from it is taken as HTML: `escaped` is for the page, `label` for
plotly, which reads tags in its texts too.
"""

import html
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dampen.store import Folder

if TYPE_CHECKING:
    import plotly.graph_objects as go

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #111; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; }} h2 {{ font-size: 1.2rem; margin-top: 2.5rem; }}
p.lead {{ font-size: 1.25rem; font-weight: 600; }}
figure {{ margin: 0; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; }}
td, th {{ padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }}
td:first-child, th:first-child, td.text {{ text-align: left; }}
td small {{ color: #444; white-space: nowrap; }}
pre {{ background: #f5f5f5; padding: .8rem; overflow-x: auto; white-space: pre-wrap; }}
.note {{ color: #444; }}
@media print {{ body {{ margin: 0; }} figure {{ break-inside: avoid; }} }}
</style>
<script>{plotly}</script></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""
_LONGEST = 60  # letters of a label: longer ones take a picture's room


def write_page(path: Path, title: str, sections: Iterable[str]) -> None:
    """Write a page; sections are HTML, empty ones are left out.

    Raises:
        InputError: it can't be written.
    """
    from plotly.offline import get_plotlyjs

    body = "\n".join(f"<section>{section}</section>" for section in sections if section)
    page = _PAGE.format(title=escaped(title), body=body, plotly=get_plotlyjs())
    Folder(path.parent).write(path.name, lambda file: file.write_text(page, encoding="utf-8"))


def embed(figure: "go.Figure", name: str) -> str:
    """Return a picture as HTML; `name` tells it from the page's others."""
    figure.update_layout(template="plotly_white", margin={"l": 70, "r": 20, "t": 28, "b": 60})
    figure.update_layout(font={"family": "system-ui, sans-serif", "size": 13, "color": "#111"})
    config = {"displayModeBar": False, "responsive": True}
    inner = figure.to_html(full_html=False, include_plotlyjs=False, config=config, div_id=f"figure-{name}")
    return f"<figure>{inner}</figure>"


def escaped(value: object) -> str:
    """Return a value as HTML that shows it."""
    return html.escape(str(value))


def label(value: object) -> str:
    """Return a value as a text of plotly that shows it, cut where it is long."""
    text = str(value)
    return html.escape(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…", quote=False)


def words(name: str) -> str:
    """Return a knob's name as sentences have it; not escaped."""
    return "learning rate" if name == "lr" else name.replace("_", " ")


def tell(setting: dict[str, Any]) -> str:
    """Return a setting in words; not escaped."""
    told = ", ".join(f"{words(name)} {short(value)}" for name, value in setting.items())
    return told or "the network as it is"


def short(value: Any) -> str:
    """Return a knob's value: a number, a word, or one for each layer; not escaped."""
    if isinstance(value, dict):
        return "(" + ", ".join(f"{layer}: {short(rate)}" for layer, rate in value.items()) + ")"
    if isinstance(value, list | tuple | np.ndarray):
        return "(" + ", ".join(short(part) for part in value) + ")"
    return f"{value:.3g}" if isinstance(value, int | float) else str(value)


def with_ends(value: float, ends: Iterable[float | None] | None, sign: str = "") -> str:
    """Return a number with its interval, if it has one."""
    known = [_number(end, sign) for end in ends or () if end is not None]
    return _number(value, sign) + (f" ({' to '.join(known)})" if len(known) == 2 else "")


def _number(value: float, sign: str) -> str:
    value += 0.0  # makes -0 a 0
    return f"{value:{sign}.0f}" if 1000 <= abs(value) < 1e7 else f"{value:{sign}.3g}"


def n_epochs(n: int) -> str:
    """Return a number of epochs in words."""
    return f"{n:d} epoch{'s' * (n != 1)}"


def faint(colour: str) -> str:
    """Return a colour for a band behind a line of it."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"
