"""A study as a notebook shows it: the verdict in words, and the picture of the gain."""

import base64
import io
from typing import Any

from dampen._language import shown
from dampen.report import _forest, pictures
from dampen.report._page import render

_MARKS = {"circle": "o", "square": "s", "diamond": "D"}  # plotly's words in matplotlib's
_ROW = 0.45  # inches


def study_html(document: dict[str, Any]) -> str:
    """Return a piece of HTML that needs no network and no script.

    Args:
        document: `Study.document()`.
    """
    lead, *rest = map(shown, document["sentences"])
    picture = _picture(document) if _forest.gain_rows(document) else ""
    return str(render("notebook.html", lead=lead, sentences=rest, picture=picture))


def _picture(document: dict[str, Any]) -> str:
    """Return a forest plot as a PNG file in base64."""
    from matplotlib.figure import Figure

    with pictures.style():
        rows = _forest.gain_rows(document)
        figure = Figure(figsize=(7, 0.8 + _ROW * len(rows)), layout="constrained")
        axes = figure.subplots()
        for place, row in enumerate(reversed(rows)):
            low, high = row.ends or (row.estimate, row.estimate)
            axes.plot([low, high], [place, place], color=row.colour, linewidth=2)
            shape, hollow = _MARKS[row.symbol.removesuffix("-open")], row.symbol.endswith("-open")
            axes.plot([row.estimate], [place], shape, color=row.colour, markersize=7, mfc="white" if hollow else None)
        axes.axvline(0, color=pictures.BLACK, linestyle="--", linewidth=1)
        labels = [f"{row.name}\n{row.detail}".replace("$", r"\$") for row in reversed(rows)]  # no formulas
        axes.set_yticks(range(len(rows)), labels, fontsize=8)
        axes.set_xlabel(shown(f"better by ({document['metric']})").replace("$", r"\$"))
        axes.set_ylim(-0.6, len(rows) - 0.4)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=100)
    return base64.b64encode(stream.getvalue()).decode()
