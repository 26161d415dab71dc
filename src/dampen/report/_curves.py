"""Training and validation loss over the epochs, with and without regularisation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dampen._language import part, shown
from dampen.engine.knobs import KNOBS
from dampen.report import _page
from dampen.report.pictures import BLUE, ORANGE
from dampen.study import REFERENCE_NAMES

if TYPE_CHECKING:
    import pandas as pd

_COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00")
_SPLITS = (("train_loss", "training", "dash"), ("validation_loss", "validation", "solid"))
_BELOW = 8.0  # how many times below the least validation loss the axis goes: training losses fall to nothing
_STEEP = 5.0  # ratio of losses from which the axis is logarithmic
_LONGER, _FEW = 4, 12  # ratio of lengths from which epochs are logarithmic; epochs of which each has a tick
Named = Sequence[tuple[str, "pd.DataFrame", str]]
"""What each is called, its curves, and its setting in words, escaped."""


def curves(document: dict[str, Any], frame: "pd.DataFrame") -> _page.Picture | None:
    """Return the learning curves; None where there are none.

    Args:
        document: the study's.
        frame: its curves.
    """
    import plotly.graph_objects as go

    named = _named(document, frame)
    if not named:
        return None
    figure, lows, highs = go.Figure(), [], []
    without = None
    for colour, (name, curve, about) in zip(_COLOURS, named, strict=False):
        for column, split, dash in _SPLITS:
            if column not in curve:
                continue
            values = curve.pivot(index="epoch", columns="seed", values=column).dropna(how="all")
            if values.empty:
                continue
            mean, error = values.mean(axis=1), values.sem(axis=1).fillna(0.0)
            if column == "validation_loss":
                lows.append(float(mean.min()))
                without = mean if name.startswith("without") else without
            highs.append(float(mean.max()))
            x = values.index.to_numpy()
            band = np.concatenate([(mean + error).clip(lower=mean / 3), (mean - error).clip(lower=mean / 3)[::-1]])
            figure.add_scatter(
                x=np.concatenate([x, x[::-1]]),
                y=band,
                fill="toself",
                fillcolor=_page.faint(colour),
                line={"width": 0},
                mode="lines",
                hoverinfo="skip",
                showlegend=False,
            )
            line = {"color": colour, "width": 2.5, "dash": dash}
            called = f"{_page.label(part(name))}: {shown(split)}"
            figure.add_scatter(
                x=x,
                y=mean,
                mode="lines",
                name=called,
                line=line,
                customdata=error,
                hovertemplate=_page.hover(
                    f"<b>{called}</b>", about, shown("epoch %{x}: loss %{y:.4g} ± %{customdata:.2g}")
                ),
            )
    if not highs:
        return None
    note = "Means over seeds, with bands of one standard error. The training loss is that of the batches, with "
    note += "dropout active where there is any."
    mean, deviation = document["plan"]["target_scale"]
    if (mean, deviation) != (0.0, 1.0):
        note += f" Losses are of the standardised target, (target - {mean:.4g}) / {deviation:.4g}."
    if document["metric"] not in ("nll", "mse"):
        note += " The loss is what training minimises, not the metric."
    note += _overfitting(figure, document, without)
    figure.update_layout(
        xaxis=_epochs([int(curve["epoch"].to_numpy().max()) for _, curve, _ in named]),
        yaxis=_axis(lows, highs),
        height=520,
        legend={"orientation": "h", "y": -0.16, "yanchor": "top", "x": 0},
    )
    return _page.Picture("curves", figure, shown("Training and validation loss"), shown(note))


def curves_of(
    frame: "pd.DataFrame", setting: dict[str, Any], epochs: int, stopped_at: int | None = None
) -> "pd.DataFrame | None":
    """Return the confirmation's curves of a training; None where there are none."""
    confirmed = frame[(frame["phase"] == "confirmation") & (frame["length"] == epochs)]
    knobs = [str(name) for name in frame if name in KNOBS]
    selected: Any  # a frame; pandas' types are too wide
    for _, selected in confirmed.groupby(["run", "setting"]):
        row = selected.iloc[0]
        whole = selected["epoch"].max() == (stopped_at or epochs)
        if whole and all(_same(setting.get(name), row[name]) for name in knobs):
            return selected
    return None


def _named(document: dict[str, Any], frame: "pd.DataFrame") -> Named:
    """Return what is drawn: with and without regularisation; of a comparison its trainings."""
    recommended = {"setting": document["recommended"], "epochs": document["length"]["epochs"], "stopped_at": None}
    off = document["off"]
    wanted: list[tuple[str, dict[str, Any]]] = []
    if off is None:
        references = document["references"].items()
        others = [(str(REFERENCE_NAMES.get(name, name)), of) for name, of in references if of["setting"] is not None]
        wanted = [other for other in others if _training(other[1]) == recommended]
        wanted += [other for other in others if _training(other[1]) != recommended]
    elif _training(off) == recommended:
        wanted = [("without regularisation, recommended", recommended)]
        if document.get("passed_over") is not None and "chosen" in document:  # unknown of the first studies
            wanted = [("the best with regularisation", _training(document["chosen"])), *wanted]
    else:
        wanted = [("recommended", recommended), ("without regularisation", off)]
    named_curves = [(name, of, curves_of(frame, of["setting"], of["epochs"], of["stopped_at"])) for name, of in wanted]
    return [(name, found, _page.setting_lines(of["setting"])) for name, of, found in named_curves if found is not None]


def _training(other: dict[str, Any]) -> dict[str, Any]:
    return {name: other[name] for name in ("setting", "epochs", "stopped_at")}


def _overfitting(figure: Any, document: dict[str, Any], without: "pd.Series | None") -> str:
    """Mark where overfitting begins, and return the sentence about it."""
    diagnosis = document["diagnosis"]
    start = None if diagnosis is None else diagnosis["overfits_from"]
    if start is None:
        return ""
    if without is None or start not in without.index or without.idxmin() != start:
        return f" Without regularisation, with its own learning rate and length, it overfits from epoch {start:d} on."
    figure.add_scatter(
        x=[start],
        y=[without[start]],
        mode="markers",
        marker={"size": 13, "symbol": "diamond", "color": "white", "line": {"color": "black", "width": 2.5}},
        name=shown(f"overfits from epoch {start:d} on"),
        hovertemplate=_page.hover(
            f"<b>{shown(f'overfits from epoch {start:d} on')}</b>", shown("validation loss %{y:.4g}")
        ),
    )
    return " From the diamond on the validation loss rises while the training loss falls: overfitting."


def _axis(lows: Sequence[float], highs: Sequence[float]) -> dict[str, Any]:
    """Return the axis of losses: logarithmic where they fall far, and not far below the least validation loss."""
    least, most = min(lows, default=0.0), max(highs)
    if least <= 0 or most / least < _STEEP:
        return {"title": {"text": shown("loss")}, "rangemode": "tozero"}
    ends = [np.log10(least / _BELOW), np.log10(most * 1.15)]
    return {
        "type": "log",
        "range": ends,
        "title": {"text": shown("loss (log scale)")},
        "dtick": "D2",
        "tickformat": ".3~g",
    }


def _epochs(lengths: Sequence[int]) -> dict[str, Any]:
    """Return the axis of epochs: logarithmic where one training is many times as long as another."""
    if max(lengths) > _LONGER * min(lengths):
        return {"title": {"text": shown("epochs (log scale)")}, "type": "log", "dtick": "D2", "tickformat": "~g"}
    steps = {"dtick": 1} if max(lengths) <= _FEW else {}
    return {"title": {"text": shown("epochs")}, "rangemode": "tozero", **steps}


def _same(value: Any, cell: Any) -> bool:
    """Return whether a knob's value is what a frame holds of it: text for values that are tuples."""
    if value is None:
        return str(cell) in ("None", "nan")
    if isinstance(value, dict):
        value = tuple(value.items())
    elif isinstance(value, list):
        value = tuple(value)
    return bool(cell == value) or str(cell) == str(value)
