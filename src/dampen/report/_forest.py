"""Differences with their intervals, one below the other: a forest plot; and what a study draws as one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from dampen._language import part, shown
from dampen.metrics import METRICS
from dampen.report import _page
from dampen.report.pictures import BLACK, BLUE, GREEN, ORANGE
from dampen.study import REFERENCE_NAMES

if TYPE_CHECKING:
    import plotly.graph_objects as go

_GREY = "#777777"
_LOOKS = {"better": (BLUE, "circle"), "worse": (ORANGE, "square")}  # colours that shapes repeat
_OPEN = (_GREY, "circle-open")
_FAR = 6.0  # times the middle reference's distance from 0: what lies beyond would squash the others
_NEVER_FAR = ("none", "none_stopped_early", "off")  # what the verdict is about
_ROW = 62  # pixels
_ROOM = 0.06  # beside the outermost marks, as a share of what is between them
_STEPS = {"lr": "learning rate", "length": "length", "regularisation": "regularisation"}


@dataclass(frozen=True)
class Row:
    """A row of a forest plot.

    Args:
        name: what the difference is to.
        detail: a second, smaller line below the name; shown whole.
        estimate: the difference.
        ends: of its interval; None where it has none.
        colour: of its mark.
        symbol: of its mark, in plotly's words.
        about: what a pointer shows beside these, escaped: the setting.
    """

    name: str
    detail: str
    estimate: float
    ends: tuple[float, float] | None
    colour: str
    symbol: str
    about: str = ""

    @property
    def reach(self) -> float:
        """How far from 0 it and its interval go."""
        return max(abs(x) for x in (self.estimate, *(self.ends or ())))


def rising(metric: str) -> bool:
    """Return whether more of a metric is better."""
    return any(known.rising for known in METRICS.values() if known.name == metric)


def differences(document: dict[str, Any]) -> _page.Picture:
    """Return the recommended training against all that it was compared with."""
    recommended = (document["recommended"], document["length"]["epochs"])
    rows: dict[str, Row] = {}
    diverged = []
    for name, other in document["references"].items():
        if (other["setting"], other["epochs"]) == recommended and other["stopped_at"] is None:
            continue
        if other["difference"] is None:
            diverged.append(_name(name))
            continue
        word = {True: "better", False: "worse", None: "no significant difference"}[other["better"]]
        word = "equivalent" if other["better"] is None and other["equivalent"] else word
        ends = _ends(other["interval"])
        detail = f"{_page.with_ends(other['difference'], ends, '+')}, {shown(word)}"
        rows[name] = Row(_name(name), detail, other["difference"], ends, *_LOOKS.get(word, _OPEN), _about(other))
    far = _far(rows)
    metric = document["metric"]
    notes = [
        f"Differences are the recommended training's {metric} minus the other's: "
        f"{'right' if rising(metric) else 'left'} of 0 it is better."
    ]
    notes = notes if rows else []
    notes += [f"{row.name} is too far away to be drawn: {row.detail}." for row in far.values()]
    notes += [f"{name} diverged." for name in diverged]
    drawn = [row for name, row in rows.items() if name not in far]
    caption = " ".join(shown(note[:1].upper() + note[1:]) for note in notes)
    if not drawn:
        return _page.Picture("differences", None, note=caption)
    figure = forest(drawn, _page.label(shown(f"difference of {metric}")))
    return _page.Picture("differences", figure, shown("What it was compared with"), caption)


def gain_rows(document: dict[str, Any]) -> list[Row]:
    """Return where the gain comes from, a row for each part; none for a comparison."""
    parts = {name: part for name, part in document["attribution"].items() if part["estimate"] is not None}
    rows = [_part(shown(words), parts[name], BLUE, "circle") for name, words in _STEPS.items() if name in parts]
    total = document["total"]
    if total is not None and total["estimate"] is not None and len(rows) > 1:
        rows.append(_part(shown("all of these"), total, BLACK, "diamond"))
    calibrated = document.get("calibrated_attribution", {})
    for name in (name for name in parts if name not in _STEPS):
        words = _knob_words(name)
        rows.append(_part(shown(words), parts[name], GREEN, "square"))
        if calibrated.get(name, {}).get("estimate") is not None:
            rows.append(_part(shown(f"{words}, with temperatures"), calibrated[name], GREEN, "square-open"))
    return rows


def _knob_words(name: str) -> str:
    return "all regularisation" if name == "together" else f"its {name.replace('_', ' ')}"


def gain(document: dict[str, Any]) -> _page.Picture | None:
    """Return where the gain comes from; None for a comparison."""
    rows = gain_rows(document)
    if not rows:
        return None
    note = (
        "From the usual learning rate and length without regularisation to the recommended training, step by step: "
        "first the learning rate, then the length, then regularisation."
    )
    if any(row.symbol == "square" for row in rows):
        note += " Squares are what is lost where one regulariser alone is left out; these need not add up."
    if any(row.symbol == "square-open" for row in rows):
        note += " Hollow ones are of the same networks with a temperature each."
    title = _page.label(shown(f"better by ({document['metric']})"))
    return _page.Picture("gain", forest(rows, title), shown("Where the gain comes from"), shown(note))


def forest(rows: Sequence[Row], title: str) -> "go.Figure":
    """Draw rows from the top down; `title` is the axis' and escaped already."""
    import plotly.graph_objects as go

    figure = go.Figure()
    places = list(range(len(rows)))[::-1]
    for row, place in zip(rows, places, strict=True):
        low, high = row.ends or (row.estimate, row.estimate)
        figure.add_scatter(
            x=[row.estimate],
            y=[place],
            error_x={"array": [high - row.estimate], "arrayminus": [row.estimate - low], "thickness": 2.5, "width": 6},
            marker={"size": 13, "color": row.colour, "symbol": row.symbol, "line": {"width": 2.5, "color": row.colour}},
            text="<br>".join(filter(None, (f"<b>{_page.label(row.name)}</b>", row.about, escape(row.detail, False)))),
            hoverinfo="text",
        )
    figure.add_vline(x=0, line_dash="dash", line_width=1.5)
    ticks = [
        f"{_page.label(row.name)}<br><span style='font-size:12px;color:#555'>{escape(row.detail, False)}</span>"
        for row in rows
    ]
    figure.update_layout(
        showlegend=False,
        xaxis={"title": {"text": title}, "zeroline": False, "nticks": 7, "range": _span(rows)},
        yaxis={
            "range": [-0.6, len(rows) - 0.4],
            "tickvals": places,
            "ticktext": ticks,
            "tickfont": {"size": 15},
            "automargin": True,
            "ticklabelstandoff": 8,
            "showgrid": False,
            "zeroline": False,
        },
        height=120 + _ROW * len(rows),
    )
    return figure


def _span(rows: Sequence[Row]) -> list[float]:
    """Return where an axis of rows with their intervals and 0 begins and ends: names inside it change nothing."""
    reached = [0.0, *(x for row in rows for x in (row.estimate, *(row.ends or ())))]
    low, high = min(reached), max(reached)
    room = _ROOM * (high - low) or 1.0
    return [low - room, high + room]


def _about(other: dict[str, Any]) -> str:
    """Return a reference's setting and length in words; nothing of one that is no network."""
    if other["setting"] is None:
        return ""
    return f"{_page.setting_lines(other['setting'])}<br>{_page.n_epochs(other['stopped_at'] or other['epochs'])}"


def _part(name: str, part: dict[str, Any], colour: str, symbol: str) -> Row:
    ends = _ends(part["interval"])
    return Row(name, _page.with_ends(part["estimate"], ends, "+"), part["estimate"], ends, colour, symbol)


def _far(rows: dict[str, Row]) -> dict[str, Row]:
    """Return those that lie so far out that the others could not be read."""
    kept = [row.reach for name, row in rows.items() if name in _NEVER_FAR]
    if len(rows) < 3:
        return {}
    limit = _FAR * max([float(np.median([row.reach for row in rows.values()])), *kept])
    return {name: row for name, row in rows.items() if row.reach > limit}


def _ends(interval: Iterable[float | None]) -> tuple[float, float] | None:
    low, high = interval
    return None if low is None or high is None else (low, high)


def _name(name: str) -> str:
    return part(REFERENCE_NAMES.get(name, name))
