"""The options of the page's charts, and the patches that bring a snapshot into them."""

from collections.abc import Mapping, Sequence
from typing import Any

from dampen.play._points import Points
from dampen.play._surface import CLASS_COLOURS
from dampen.play._text import Text
from dampen.play._training import Band, Snapshot

# Blue and orange of Okabe and Ito (2008): told apart with any colour vision, on white and on black.
NONE_COLOUR, CHOSEN_COLOUR = "#e69f00", "#0072b2"
_COLOURS = {"none": NONE_COLOUR, "chosen": CHOSEN_COLOUR}
_GREY = "#808080"  # readable on white and on black

Option = dict[str, Any]


def axes(x_name: str, *, y: Mapping[str, Any] | None = None, x: Mapping[str, Any] | None = None) -> Option:
    """Return what all charts have in common: no animation, grey axes, little space around."""
    line = {
        "axisLine": {"onZero": False, "lineStyle": {"color": _GREY}},
        "axisLabel": {"color": _GREY, "hideOverlap": True, "showMaxLabel": False},
    }
    split = {"splitLine": {"lineStyle": {"color": _GREY, "opacity": 0.25}}}
    return {
        "animation": False,
        "textStyle": {"fontFamily": "inherit"},
        "grid": {"left": 8, "right": 16, "top": 34, "bottom": 26, "containLabel": True},
        "legend": {"type": "scroll", "top": 0, "left": 0, "textStyle": {"color": _GREY}, "itemHeight": 8},
        "tooltip": {"trigger": "axis", "confine": True, "renderMode": "richText"},
        "xAxis": {
            "type": "value",
            "name": x_name,
            "nameLocation": "middle",
            "nameGap": 24,
            "nameTextStyle": {"color": _GREY},
            "min": "dataMin",
            "max": "dataMax",
            **line,
            "splitLine": {"show": False},
            **(x or {}),
        },
        "yAxis": {"type": "value", "scale": True, **line, **split, **(y or {})},
    }


def curves(text: Text) -> Option:
    """Return the chart of the losses: four curves with the band of the seeds."""
    series: list[Option] = []
    for setting, colour in _COLOURS.items():
        for split, kind in (("train", "dashed"), ("test", "solid")):
            name = text(f"lesson.{setting}.short") + text("lesson.comma") + text(f"lesson.{split}")
            series += _banded(f"{setting}_{split}", name, colour, kind)
    option = axes(text("lesson.steps"), y={"min": 0})
    option["legend"]["data"] = _named(series)
    return {
        **option,
        "dataset": _no_rows(series),
        "series": series,
    }


def curves_now(snapshot: Snapshot, text: Text) -> Option:
    """Return a snapshot's losses, and where sliders moved."""
    source: dict[str, Sequence[float]] = {"step": snapshot.steps}
    for split, pair in (("train", snapshot.train), ("test", snapshot.test)):
        for setting, band in zip(_COLOURS, pair, strict=True):
            source |= _columns(f"{setting}_{split}", band)
    marks = [
        {
            "xAxis": mark.step,
            "label": {"formatter": f"{text('lesson.' + mark.name)} {mark.value:g}", "position": "insideEndTop"},
        }
        for mark in snapshot.marks
    ]
    return {"dataset": {"source": source}, "series": [{"id": "chosen_test", "markLine": {"data": marks}}]}


def norm(text: Text) -> Option:
    """Return the chart of the norms."""
    series = [_line(setting, text(f"lesson.{setting}.short"), colour) for setting, colour in _COLOURS.items()]
    return {**axes(text("lesson.steps"), y={"min": 0}), "dataset": _no_rows(series), "series": series}


def norm_now(snapshot: Snapshot) -> Option:
    """Return a snapshot's norms."""
    none, chosen = snapshot.norm
    return {"dataset": {"source": {"step": snapshot.steps, "none": none, "chosen": chosen}}}


def histogram(text: Text) -> Option:
    """Return the chart of the weights."""
    series = [
        _line(setting, text(f"lesson.{setting}.short"), colour) | {"step": "end", "areaStyle": {"opacity": 0.25}}
        for setting, colour in _COLOURS.items()
    ]
    return {**axes(text("lesson.weight")), "dataset": _no_rows(series), "series": series}


def histogram_now(snapshot: Snapshot) -> Option:
    """Return a snapshot's weights."""
    edges = snapshot.edges
    none, chosen = ([*counts, counts[-1]] for counts in snapshot.counts)  # a step begins at its bin's left edge
    ends = {"min": edges[0], "max": edges[-1]}
    return {"xAxis": ends, "dataset": {"source": {"step": edges, "none": none, "chosen": chosen}}}


def units(text: Text) -> Option:
    """Return the chart of the units that are dropped."""
    option = axes(text("lesson.unit"), x={"min": 0, "max": 1, "nameGap": 8, "axisLabel": {"show": False}})
    symbol = {"type": "scatter", "symbol": "rect", "symbolSize": [11, 15]}
    option["yAxis"] = {
        "type": "category",
        "inverse": True,
        "data": [],
        "axisLabel": {"color": _GREY},
        "axisLine": {"show": False},
        "axisTick": {"show": False},
    }
    option["tooltip"] = {"show": False}
    option["series"] = [
        {"id": "kept", "name": text("lesson.kept.kept"), "itemStyle": {"color": CHOSEN_COLOUR}, "data": [], **symbol},
        {
            "id": "dropped",
            "name": text("lesson.kept.dropped"),
            "itemStyle": {"color": "transparent", "borderColor": _GREY, "borderWidth": 1.5},
            "data": [],
            **symbol,
        },
    ]
    return option


def units_now(snapshot: Snapshot, text: Text) -> Option:
    """Return which units a snapshot drops."""
    layers = [text("lesson.layer", number=i + 1) for i in range(len(snapshot.kept))]
    at = [(unit + 1, layer, on) for layer, kept in enumerate(snapshot.kept) for unit, on in enumerate(kept)]
    return {
        "xAxis": {"max": max((len(kept) for kept in snapshot.kept), default=0) + 1},
        "yAxis": {"data": layers},
        "series": [
            {"id": "kept", "data": [[x, y] for x, y, on in at if on]},
            {"id": "dropped", "data": [[x, y] for x, y, on in at if not on]},
        ],
    }


def line(text: Text, setting: str, points: Points) -> Option:
    """Return the chart of what is predicted from one input, with the points."""
    colour = _COLOURS[setting]
    hollow = {"color": "transparent", "borderColor": _GREY, "borderWidth": 1.5}
    scatter = [
        {
            "id": split,
            "name": text(f"lesson.{split}"),
            "type": "scatter",
            "symbolSize": 6,
            "itemStyle": style,
            "data": [[x[0], y[0]] for x, y in zip(inputs.tolist(), targets.tolist(), strict=True)],
        }
        for split, inputs, targets, style in (
            ("train", points.inputs, points.targets, {"color": _GREY}),
            ("test", points.test_inputs, points.test_targets, hollow),
        )
    ]
    series = [*scatter, *_banded("predicted", text("lesson.prediction"), colour, "solid")]
    option = axes("", x={"min": points.low[0], "max": points.high[0], "axisLabel": {"show": False}})
    option["legend"]["data"] = _named(series)
    return {**option, "tooltip": {"show": False}, "dataset": _no_rows(series), "series": series}


def line_now(values: Sequence[float], band: Band) -> Option:
    """Return what a snapshot predicts from one input."""
    return {"dataset": {"source": {"step": values, **_columns("predicted", band)}}}


def overlay(points: Points) -> str:
    """Return the points as SVG over the picture of a surface: training points filled, test points hollow."""
    if len(points.shown) != 2:
        return ""
    a, b = points.shown

    def marks(inputs: Any, targets: Any, filled: bool) -> str:
        found = []
        for row, target in zip(inputs.tolist(), targets.tolist(), strict=True):
            x = 100 * (row[a] - points.low[0]) / (points.high[0] - points.low[0])
            y = 100 * (points.high[1] - row[b]) / (points.high[1] - points.low[1])
            colour = CLASS_COLOURS[target % len(CLASS_COLOURS)]
            fill, edge, width, r = (colour, "#ffffff", 0.25, 1.3) if filled else ("none", colour, 0.55, 1.0)
            style = f'fill="{fill}" stroke="{edge}" stroke-width="{width}"'
            found.append(f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{r}" {style}/>')
        return "".join(found)

    circles = marks(points.test_inputs, points.test_targets, False) + marks(points.inputs, points.targets, True)
    return f'<svg viewBox="0 0 100 100" aria-hidden="true">{circles}</svg>'


def _named(series: Sequence[Option]) -> list[str]:
    """Return the names that a legend shows: of everything but the bands."""
    return [one["name"] for one in series if not one.get("silent")]


def _no_rows(series: Sequence[Option]) -> Option:
    """Return a data set that has the columns of some curves, and no rows yet."""
    columns = [one["encode"]["y"] for one in series if "encode" in one]
    return {"source": {name: [] for name in ("step", *columns)}}


def _line(key: str, name: str, colour: str, kind: str = "solid") -> Option:
    return {
        "id": key,
        "name": name,
        "type": "line",
        "symbol": "none",
        "encode": {"x": "step", "y": key},
        "lineStyle": {"color": colour, "width": 2, "type": kind},
        "itemStyle": {"color": colour},
    }


def _banded(key: str, name: str, colour: str, kind: str) -> list[Option]:
    """Return a curve, and its band as an area that is stacked on an invisible line."""
    hidden = {
        "type": "line",
        "showSymbol": False,
        "silent": True,
        "tooltip": {"show": False},
        "lineStyle": {"opacity": 0},
        "stack": key,
        "stackStrategy": "all",
    }
    curve = _line(key, name, colour, kind)
    if key == "chosen_test":
        curve["markLine"] = {
            "symbol": "none",
            "silent": True,
            "lineStyle": {"color": _GREY, "type": "dashed"},
            "label": {"color": _GREY},
            "data": [],
        }
    return [
        curve,
        {**hidden, "id": f"{key}_low", "name": f"{key}_low", "encode": {"x": "step", "y": f"{key}_low"}},
        {
            **hidden,
            "id": f"{key}_span",
            "name": f"{key}_span",
            "encode": {"x": "step", "y": f"{key}_span"},
            "areaStyle": {"color": colour, "opacity": 0.15},
        },
    ]


def _columns(key: str, band: Band) -> dict[str, list[float]]:
    span = [high - low for low, high in zip(band.low, band.high, strict=True)]
    return {key: band.mean, f"{key}_low": band.low, f"{key}_span": span}
