"""The picture of a search: settings by weight decay and dropout, coloured by what they cost."""

import math
from collections.abc import Sequence

import numpy as np

from dampen.play import _charts
from dampen.play._charts import Option
from dampen.play._runs import Point
from dampen.play._text import Text

_COLOURS = ["#0072b2", "#56b4e9", "#a0a0a0", "#e69f00", "#d55e00"]  # seen on white and on black, with any vision
_GREY = "#808080"
_LEAST = 1e-4  # where a weight decay of 0 is drawn if nothing else is


def search(text: Text) -> Option:
    """Return the chart without settings."""
    option = _charts.axes(
        text("lesson.weight_decay"),
        x={"type": "log", "min": None, "max": None, "axisLabel": {"color": _GREY, "hideOverlap": True}},
        y={"name": text("lesson.dropout"), "min": 0, "max": 1, "nameTextStyle": {"color": _GREY}},
    )
    option["yAxis"] |= {"nameLocation": "middle", "nameGap": 36}
    option["grid"] |= {"left": 24, "right": 84}
    scatter = {"type": "scatter", "data": []}
    option["tooltip"] = {"show": False}
    option["series"] = [
        {
            **scatter,
            "id": "waiting",
            "name": text("tune.waiting"),
            "symbol": "emptyCircle",
            "symbolSize": 9,
            "itemStyle": {"color": _GREY},
        },
        {
            **scatter,
            "id": "dropped",
            "name": text("tune.dropped"),
            "symbolSize": 9,
            "itemStyle": {"opacity": 0.35, "color": _GREY},
        },
        {
            **scatter,
            "id": "alive",
            "name": text("tune.alive"),
            "symbolSize": 14,
            "itemStyle": {"opacity": 1, "color": _GREY},
        },
        {
            **scatter,
            "id": "chosen",
            "name": text("tune.chosen"),
            "symbolSize": 22,
            "itemStyle": {"color": "transparent", "borderColor": "#cc79a7", "borderWidth": 3},
        },
    ]
    option["visualMap"] = {
        "type": "continuous",
        "dimension": 2,
        "seriesIndex": [1, 2],
        "min": 0,
        "max": 1,
        "precision": 3,
        "right": 0,
        "top": 30,
        "itemWidth": 12,
        "itemHeight": 110,
        "text": [text("tune.cost.high"), text("tune.cost.low")],
        "textStyle": {"color": _GREY},
        "inRange": {"color": _COLOURS},
    }
    return option


def search_now(points: Sequence[Point], chosen: Point | None = None) -> Option:
    """Return the settings of a search.

    Args:
        points: the settings.
        chosen: the recommended one.
    """
    if chosen is not None and not any(_same(chosen, point) for point in points):
        points = [*points, chosen]
    decays = [point.weight_decay for point in points if point.weight_decay > 0]
    floor = 10.0 ** math.floor(math.log10(min(decays, default=2 * _LEAST) / 2))  # the axis begins at a power of ten

    def at(decay: float, dropout: float, *more: float) -> list[float]:
        return [max(decay, floor), dropout, *more]

    costs = np.array([point.cost for point in points if point.cost is not None])
    low, high = (float(costs.min()), float(np.quantile(costs, 0.9))) if len(costs) else (0.0, 1.0)
    done = [point for point in points if point.cost is not None]
    zero = any(point.weight_decay == 0 for point in points)
    return {
        "xAxis": {"min": floor if zero else None, "axisLabel": {"showMinLabel": not zero}},
        "visualMap": {"min": low, "max": max(high, low * (1 + 1e-6) + 1e-9)},
        "series": [
            {
                "id": "waiting",
                "data": [at(p.weight_decay, p.dropout) for p in points if p.cost is None],
                "markLine": _zero(floor) if zero else {"data": []},
            },
            {"id": "dropped", "data": [at(p.weight_decay, p.dropout, _cost(p)) for p in done if not p.alive]},
            {"id": "alive", "data": [at(p.weight_decay, p.dropout, _cost(p)) for p in done if p.alive]},
            {"id": "chosen", "data": [] if chosen is None else [at(chosen.weight_decay, chosen.dropout)]},
        ],
    }


def _zero(at: float) -> Option:
    """Return the left edge's tick: on an axis of logarithms 0 has no place of its own."""
    return {
        "symbol": "none",
        "silent": True,
        "lineStyle": {"color": _GREY, "type": "dotted"},
        "label": {"formatter": "0", "position": "start", "distance": 10, "color": _GREY},
        "data": [{"xAxis": at}],
    }


def _same(a: Point, b: Point) -> bool:
    return (a.weight_decay, a.dropout) == (b.weight_decay, b.dropout)


def _cost(point: Point) -> float:
    assert point.cost is not None
    return point.cost
