"""The charts of the page on weight decay."""

from dampen.play import _charts
from dampen.play._charts import CHOSEN_COLOUR, NONE_COLOUR, Option
from dampen.play._decay import DecaySnapshot
from dampen.play._text import Text

_COLOURS = {"none": NONE_COLOUR, "chosen": CHOSEN_COLOUR}
_DESCENT, _RIDGE = "#009e73", "#cc79a7"  # of Okabe and Ito, as the others
_LOG = {"type": "log", "scale": True, "axisLabel": {"color": "#808080"}}


def losses(text: Text) -> Option:
    """Return the chart of the losses along the epochs, on a logarithmic axis."""
    series: list[Option] = []
    for setting, colour in _COLOURS.items():
        for part, kind in (("train", "dashed"), ("test", "solid")):
            name = text(f"decay.{setting}") + text("lesson.comma") + text(f"lesson.{part}")
            series += _charts._banded(f"{setting}_{part}", name, colour, kind)
    option = _charts.axes(text("decay.epoch"), y=_LOG, x={"min": 0, "max": "dataMax"})
    option["legend"]["data"] = _charts._named(series)
    return {**option, "dataset": _charts._no_rows(series), "series": series}


def losses_now(snapshot: DecaySnapshot) -> Option:
    """Return a snapshot's losses."""
    source: dict[str, object] = {"step": snapshot.epochs}
    for part, pair in (("train", snapshot.train), ("test", snapshot.test)):
        for setting, band in zip(_COLOURS, pair, strict=True):
            source |= _charts._columns(f"{setting}_{part}", band)
    return {"dataset": {"source": source}}


def norms(text: Text) -> Option:
    """Return the chart of the norms along the epochs, with what theory says."""
    series = [
        _charts._line(setting, text(f"decay.{setting}"), colour) | {"datasetIndex": 0}
        for setting, colour in _COLOURS.items()
    ]
    for key, colour in (("descent", _DESCENT), ("ridge", _RIDGE)):
        series.append(_charts._line(key, text(f"decay.{key}"), colour, "dashed") | {"datasetIndex": 1})
    series[2] |= {"symbol": "circle", "symbolSize": 6, "showSymbol": True, "lineStyle": {"opacity": 0}}
    empty = [_charts._no_rows(series[:2]), _charts._no_rows(series[2:])]
    return {**_charts.axes(text("decay.epoch"), y=_LOG, x={"min": 0}), "dataset": empty, "series": series}


def norms_now(snapshot: DecaySnapshot) -> Option:
    """Return a snapshot's norms."""
    none, chosen = snapshot.norm
    ridge = [snapshot.ridge_norm] * len(snapshot.theory_epochs)
    theory = {"step": snapshot.theory_epochs, "descent": snapshot.theory_norm, "ridge": ridge}
    return {
        "dataset": [{"source": {"step": snapshot.epochs, "none": none, "chosen": chosen}}, {"source": theory}],
    }


def along(text: Text) -> Option:
    """Return a chart along weight decay: both closed forms, and where the training is."""
    series = [
        _charts._line("descent", text("decay.descent"), _DESCENT),
        _charts._line("ridge", text("decay.ridge"), _RIDGE, "dashed"),
        {
            "id": "now",
            "name": text("decay.now"),
            "type": "scatter",
            "symbolSize": 12,
            "itemStyle": {"color": CHOSEN_COLOUR},
            "data": [],
        },
    ]
    option = _charts.axes(text("decay.lambda"), y=_LOG, x={"min": 0})
    return {**option, "dataset": _charts._no_rows(series), "series": series}


def along_now(snapshot: DecaySnapshot, quantity: str) -> Option:
    """Return theory along weight decay, and where a snapshot's training is: `test` or `norm`."""
    curves = snapshot.test_along if quantity == "test" else snapshot.norm_along
    value = snapshot.test[1].mean[-1] if quantity == "test" else snapshot.norm[1][-1]
    return {
        "dataset": {"source": {"step": snapshot.along, "descent": curves.descent, "ridge": curves.ridge}},
        "series": [{"id": "now", "data": [[snapshot.weight_decay, value]]}],
    }
