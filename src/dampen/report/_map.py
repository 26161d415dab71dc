"""A map of the search: where the good settings are."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dampen._io import counted
from dampen._language import shown
from dampen.metrics import METRICS
from dampen.report import _page
from dampen.report._forest import rising
from dampen.report.pictures import BLACK, ORANGE

_FIRST = ("weight_decay", "decay_timescale", "dropout")  # knobs that a map is of, if they vary
_LEAST_POINTS = 5  # fewer settings make no map
_LEAST_TRAINED = 3  # settings that trained long enough, from which their worst ends the colours
_WIDE = 5.0  # ratio of values from which an axis is logarithmic
_ZERO = 3.0  # how many times below the least other value exactly 0 is drawn on such an axis
_FEW_TICKS = 300.0  # ratio of values below which powers of 10 alone are too few ticks
# like viridis; its ends show on a white and on a dark page, where it stays as it is
_SCALE = [[0.0, "#6a2c9c"], [0.35, "#31688e"], [0.7, "#35b779"], [1.0, "#dcd22a"]]


@dataclass(frozen=True)
class _Point:
    setting: dict[str, Any]
    value: float  # at its best length
    at: int  # that length
    longest: int


def landscape(document: dict[str, Any], rungs: Sequence[dict[str, Any]]) -> _page.Picture | None:
    """Return every setting of the search where it is, coloured by the loss at its best length."""
    import plotly.graph_objects as go

    points, diverged = _points(document["metric"], rungs)
    knobs = _varying([point.setting for point in points])
    if len(points) < _LEAST_POINTS or not knobs:
        return None
    x, y = knobs[0], knobs[1] if len(knobs) > 1 else None
    best, metric = document["recommended"], _page.label(shown(document["metric"]))
    alike = [of["setting"] for of in document["equivalent"] if of["setting"] != best]
    all_settings = [point.setting for point in points] + [best, *alike]
    across = _Axis.of([_value(setting, x) for setting in all_settings], x)
    up = (
        _Axis.of([_value(s, y) for s in all_settings], y)
        if y
        else _Axis.of([p.value for p in points], document["metric"])
    )

    def place(settings: Sequence[dict[str, Any]], values: Sequence[float]) -> dict[str, Any]:
        heights = values if y is None else [_value(setting, y) for setting in settings]
        return {"x": [across.put(_value(setting, x)) for setting in settings], "y": [up.put(h) for h in heights]}

    full = min(document["length"]["epochs"], max(point.longest for point in points))
    metric_values = np.array([point.value for point in points])
    colours = _Colours.of(metric_values, [p.value for p in points if p.longest >= full], document["metric"])
    figure = go.Figure()
    kinds = (
        (shown(f"dropped before {counted(full, 'epoch')}"), "circle-open", [p for p in points if p.longest < full]),
        (shown(f"trained for {counted(full, 'epoch')} or longer"), "circle", [p for p in points if p.longest >= full]),
    )
    for name, symbol, some in kinds:
        if not some:
            continue
        figure.add_scatter(
            **place([p.setting for p in some], [p.value for p in some]),
            mode="markers",
            showlegend=False,  # the legend has no colour scale
            marker={
                "symbol": symbol,
                "size": 13,
                "color": [colours.put(p.value) for p in some],
                "coloraxis": "coloraxis",
                "line": {"width": 2.5 if symbol == "circle-open" else 0},
            },
            text=[f"{_page.setting_lines(p.setting)}<br>{_about(p, metric)}" for p in some],
            hoverinfo="text",
        )
        sample = {"symbol": symbol, "size": 13, "color": "#444", "line": {"width": 2.5, "color": "#444"}}
        figure.add_scatter(x=[None], y=[None], mode="markers", name=name, marker=sample)
    own = [point.value for point in points if point.setting == best] or [float(np.median(metric_values))]
    ringed = [setting for i, setting in enumerate(alike) if setting not in alike[:i]]
    if ringed and y is not None:
        figure.add_scatter(
            **place(ringed, []),
            mode="markers",
            marker={"symbol": "circle-open", "size": 24, "color": BLACK, "line": {"width": 2}},
            name=shown("shown to be equivalent"),
            hoverinfo="skip",
        )
    figure.add_scatter(
        **place([best], own),
        mode="markers",
        marker={"symbol": "star", "size": 19, "color": ORANGE, "line": {"width": 1.5, "color": "white"}},
        name=shown("recommended"),
        hovertemplate=_page.hover(f"<b>{shown('recommended')}</b>", _page.setting_lines(best)),
    )
    figure.update_layout(
        xaxis=across.layout(),
        yaxis=up.layout(),
        coloraxis=colours.layout(),
        legend={"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0},
        height=540,
    )
    note = (
        f"Every point is a setting of the search; its colour is its {document['metric']} on the selection rows at its "
        "best length; the worst share the last colour. Hollow points were dropped after short trainings and might have "
        "become better."
    )
    if diverged:
        note += f" {diverged} that diverged {'is' if diverged == 1 else 'are'} not drawn."
    rest = [name.replace("_", " ") for name in knobs[2:]]
    if rest:
        note += f" Settings differ in {' and '.join(rest)}, too: hold the pointer over a point."
    return _page.Picture("map", figure, shown("Where the good settings are"), shown(note))


def _about(point: _Point, metric: str) -> str:
    """Return the value of a setting and its length in words, in two lines."""
    at, longest = counted(point.at, "epoch"), counted(point.longest, "epoch")
    value = f"{metric} {point.value:.4g} {shown(f'after {at};')}"
    return f"{value}<br>{shown(f'trained for up to {longest}')}"


@dataclass(frozen=True)
class _Axis:
    """An axis of a map: where a knob's values go, and how its ticks read."""

    name: str
    log: bool
    floor: float  # where exactly 0 goes on a logarithmic axis
    zero: bool  # whether something lies there
    most: float

    @classmethod
    def of(cls, values: Sequence[float], name: str) -> "_Axis":
        positive = [value for value in values if value > 0]
        log = min(values) >= 0 and len(positive) > 1 and max(positive) / min(positive) > _WIDE
        log = log and name not in ("dropout", *(metric.name for metric in METRICS.values() if metric.rising))
        return cls(name, log, min(positive) / _ZERO if log else 0.0, log and min(values) == 0, max(values))

    def put(self, value: float) -> float:
        return value if value > 0 or not self.log else self.floor

    def layout(self) -> dict[str, Any]:
        word = shown("dropout rate") if self.name == "dropout" else _page.words(self.name)
        if not self.log:
            return {"title": {"text": _page.label(word)}, "zeroline": False}
        least = self.floor * _ZERO
        steps = (1, 2, 5) if self.most < _FEW_TICKS * least else (1,)
        powers = range(math.floor(math.log10(least)), math.ceil(math.log10(self.most)) + 1)
        marks = [step * 10.0**n for n in powers for step in steps if step * 10.0**n >= least / (1 + self.zero)]
        ticks = ([self.floor] if self.zero else []) + marks
        names = (["0"] if self.zero else []) + [f"{mark:g}" for mark in marks]
        title = _page.label(f"{word}{shown(' (log scale)')}")
        return {"type": "log", "tickvals": ticks, "ticktext": names, "title": {"text": title}, "zeroline": False}


@dataclass(frozen=True)
class _Colours:
    """The colours of a metric: the good settings differ, the worst share the last one."""

    metric: str
    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, values: np.ndarray, trained: Sequence[float], metric: str) -> "_Colours":
        some = trained if len(trained) >= _LEAST_TRAINED else [float(np.median(values)), *trained]
        if rising(metric):
            return cls(metric, min(some), float(values.max()), False)
        low, high = float(values.min()), max(some)
        return cls(metric, low, high, low > 0 and high > _WIDE * low)

    def put(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.log else value

    def layout(self) -> dict[str, Any]:
        bar: dict[str, Any] = {"title": {"text": _page.label(shown(self.metric))}, "thickness": 16}
        if self.log:
            ticks = np.geomspace(self.low, self.high, 5)
            bar |= {"tickvals": np.log10(ticks).tolist(), "ticktext": [f"{tick:.2g}" for tick in ticks]}
        ends = {"cmin": self.put(self.low), "cmax": self.put(self.high)}
        return {"colorscale": _SCALE, "reversescale": rising(self.metric), "colorbar": bar, **ends}


def _points(metric: str, rungs: Sequence[dict[str, Any]]) -> tuple[list[_Point], int]:
    """Return the search's settings with their best values, and how many never had one."""
    points: dict[str, _Point] = {}
    tried: set[str] = set()
    for rung in rungs:
        if rung["family"] != "search":
            continue
        for setting, value in zip(rung["settings"], rung[metric], strict=True):
            key, epochs = json.dumps(setting), rung["epochs"]
            tried.add(key)
            before = points.get(key)
            if value is None:
                continue
            if before is None:
                points[key] = _Point(setting, value, epochs, epochs)
                continue
            better = value > before.value if rising(metric) else value < before.value
            best, at = (value, epochs) if better else (before.value, before.at)
            points[key] = _Point(setting, best, at, max(epochs, before.longest))
    return list(points.values()), len(tried) - len(points)


def _varying(settings: Sequence[dict[str, Any]]) -> list[str]:
    """Return the knobs that are numbers and differ: those that a map is of first, the learning rate last."""
    names = list(dict.fromkeys(name for setting in settings for name in setting))
    order = [*(n for n in _FIRST if n in names), *(n for n in names if n not in (*_FIRST, "lr")), "lr"]
    varying = []
    for name in order:
        values = [_number(setting.get(name, 0.0)) for setting in settings]
        if None not in values and len(set(values)) > 1:
            varying.append(name)
    return varying


def _value(setting: dict[str, Any], name: str) -> float:
    return _number(setting.get(name, 0.0)) or 0.0


def _number(value: Any) -> float | None:
    """Return a knob's value as a number, the mean over layers; None if it is none."""
    values = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
    if not values or not all(isinstance(item, int | float) for item in values):
        return None
    return float(np.mean(values))
