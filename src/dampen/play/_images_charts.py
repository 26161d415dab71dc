"""The charts of the page on dropout."""

from dampen.play import _charts
from dampen.play._charts import CHOSEN_COLOUR, NONE_COLOUR, Option
from dampen.play._images import BINS, ImagesSnapshot, Shown
from dampen.play._text import Text

_COLOURS = {"with": CHOSEN_COLOUR, "without": NONE_COLOUR}
_CLASSES = ("#0072b2", "#e69f00", "#009e73")  # of Okabe and Ito, by rank


def curves(text: Text) -> Option:
    """Return a chart along the epochs: training and test, with and without dropout."""
    series: list[Option] = []
    for setting, colour in _COLOURS.items():
        for part, kind in (("train", "dashed"), ("test", "solid")):
            name = text(f"images.{setting}") + text("lesson.comma") + text(f"lesson.{part}")
            banded = _charts._banded(f"{setting}_{part}", name, colour, kind)
            series += [{**banded[0], "showSymbol": True, "symbol": "circle", "symbolSize": 4}, *banded[1:]]
    option = _charts.axes(text("decay.epoch"), x={"minInterval": 1})
    option["legend"]["data"] = _charts._named(series)
    return {**option, "dataset": _charts._no_rows(series), "series": series}


def curves_now(snapshot: ImagesSnapshot, metric: str) -> Option:
    """Return a snapshot's `loss` or `accuracy`."""
    source: dict[str, object] = {"step": list(range(1, snapshot.epoch + 1))}
    for part, pair in getattr(snapshot, metric).items():
        for setting, band in zip(_COLOURS, pair, strict=True):
            source |= _charts._columns(f"{setting}_{part}", band)
    if not snapshot.epoch:
        source |= {f"{s}_{p}{end}": [] for s in _COLOURS for p in ("train", "test") for end in ("", "_low", "_span")}
    return {"dataset": {"source": source}}


def histogram(text: Text) -> Option:
    """Return the chart of one image's sampled probabilities."""
    series = [
        _charts._line(f"class_{i}", f"{i + 1}", colour) | {"step": "end", "areaStyle": {"opacity": 0.25}}
        for i, colour in enumerate(_CLASSES)
    ]
    option = _charts.axes(text("images.probability"), x={"min": 0, "max": 1}, y={"name": text("images.samples")})
    option["yAxis"] |= {"nameLocation": "middle", "nameGap": 30, "nameTextStyle": {"color": "#808080"}}
    option["grid"]["left"] = 24
    return {**option, "dataset": _charts._no_rows(series), "series": series}


def histogram_now(shown: Shown) -> Option:
    """Return an image's samples."""
    source: dict[str, object] = {"step": [i / BINS for i in range(BINS + 1)]}  # a step begins at its bin's left edge
    series = []
    for i, (name, counts) in enumerate(zip(shown.names, shown.counts, strict=True)):
        source[f"class_{i}"] = [*counts, counts[-1]]
        series.append({"id": f"class_{i}", "name": name})
    return {"legend": {"data": shown.names}, "dataset": {"source": source}, "series": series}
