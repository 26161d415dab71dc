"""How long to train: the best of each kind of setting at each length."""

import math
from collections.abc import Sequence
from typing import Any

from dampen._language import part, shown
from dampen.report import _page
from dampen.report._forest import rising
from dampen.report.pictures import BLUE, GREEN, ORANGE
from dampen.study import REFERENCE_NAMES

_FAMILIES = {"search": (BLUE, "circle"), "none": (ORANGE, "square"), "default": (GREEN, "diamond")}
_OTHER_FAMILY = ("#CC79A7", "triangle-up")
_STEEP = 4.0  # ratio of values from which the axis is logarithmic


def lengths(document: dict[str, Any], rungs: Sequence[dict[str, Any]]) -> _page.Picture | None:
    """Return each family's best against the length of its trainings."""
    import plotly.graph_objects as go

    metric = document["metric"]
    pick = max if rising(metric) else min
    points: dict[str, dict[int, float]] = {}
    best: dict[str, dict[int, dict[str, Any]]] = {}
    for rung in rungs:
        for value, setting in zip(rung[metric], rung["settings"], strict=True):
            if value is None:
                continue
            of, epochs = points.setdefault(rung["family"], {}), rung["epochs"]
            if epochs not in of or (value != of[epochs] and pick(value, of[epochs]) == value):
                of[epochs], best.setdefault(rung["family"], {})[epochs] = value, setting
    ticks = sorted({epochs for of in points.values() for epochs in of})
    if len(ticks) < 2:
        return None
    figure = go.Figure()
    for family, of in points.items():
        colour, symbol = _FAMILIES.get(family, _OTHER_FAMILY)
        x = sorted(of)
        name = shown("settings of the search") if family == "search" else part(REFERENCE_NAMES.get(family, family))
        figure.add_scatter(
            x=x,
            y=[of[epochs] for epochs in x],
            name=_page.label(name),
            mode="lines+markers",
            line={"color": colour, "width": 2.5},
            marker={"size": 10, "symbol": symbol},
            text=[_page.setting_lines(best[family][epochs]) for epochs in x],
            hovertemplate=_page.hover(
                f"<b>{_page.label(name)}</b>",
                "%{text}",
                f"{shown('%{x} epochs')}: {_page.label(shown(metric))} %{{y:.4g}}",
            ),
        )
    chosen = document["length"]["epochs"]
    mark = {"x0": chosen, "x1": chosen, "y0": 0, "y1": 1, "xref": "x", "yref": "paper"}
    figure.add_shape(type="line", **mark, line={"dash": "dash", "width": 1.5})
    side = "left" if chosen <= ticks[0] else "right" if chosen >= ticks[-1] else "center"  # not beyond the picture
    above = {"y": 1, "yref": "paper", "xanchor": side, "yanchor": "bottom", "showarrow": False}
    figure.add_annotation(x=math.log10(chosen), text=shown("recommended"), **above)
    values = [value for of in points.values() for value in of.values()]
    steep = min(values) > 0 and max(values) > _STEEP * min(values)
    figure.update_layout(
        xaxis={
            "type": "log",
            "range": [math.log10(min(*ticks, chosen) / 1.1), math.log10(max(*ticks, chosen) * 1.1)],
            "tickvals": ticks,
            "ticktext": [str(tick) for tick in ticks],
            "title": {"text": shown("epochs (log scale)")},
        },
        yaxis={
            "title": {"text": _page.label(shown(f"{metric} of the best{' (log scale)' * steep}"))},
            "type": "log" if steep else "linear",
            **({"dtick": "D2", "tickformat": ".3~g"} if steep else {}),
        },
        height=420,
        legend={"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0},
    )
    note = (
        "Each point is a complete training, over the whole schedule of its learning rate: the best of each kind, on "
        "the selection rows. Fewer settings are left at each longer length."
    )
    return _page.Picture("lengths", figure, shown("How long to train"), shown(note))
