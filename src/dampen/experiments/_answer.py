"""The answer to a question: sentences, estimates with intervals, and panels of a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from dampen.statistics import Estimate


@dataclass(frozen=True)
class Line:
    """A curve: the mean over seeds, and the range from the lowest to the highest seed.

    Args:
        label: for the legend.
        x: where it was measured.
        values: `[E, S]`.
        held_out: whether it is of rows that did not train: drawn dashed.
        group: lines of one group have one colour.
    """

    label: str
    x: Sequence[float | int]
    values: Float[np.ndarray, "E S"]
    held_out: bool = False
    group: int = 0


@dataclass(frozen=True)
class Points:
    """Estimates with their 95 % intervals, one below the other.

    Args:
        labels: of the estimates.
        estimates: as many.
    """

    labels: Sequence[str]
    estimates: Sequence[Estimate]


@dataclass(frozen=True)
class Panel:
    """One part of a picture.

    Args:
        title: above it.
        x: what its horizontal axis shows, with the unit.
        y: what its vertical axis shows; for points nothing.
        content: lines, or points.
        log_x: whether the horizontal axis is logarithmic; an x of 0 is drawn at its left end.
        log_y: whether the vertical axis is.
    """

    title: str
    x: str
    y: str
    content: Sequence[Line] | Points
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Answer:
    """What a question found.

    Args:
        question: its name.
        data: name of the data set.
        verdict: a word or two that a program can read.
        sentences: the answer in words, the answer first.
        main: estimates by name.
        panels: the picture.
        more: further figures, as JSON can hold them.
    """

    question: str
    data: str
    verdict: str
    sentences: tuple[str, ...]
    main: dict[str, Estimate]
    panels: tuple[Panel, ...]
    more: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "\n".join(self.sentences)

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it, the curves included."""
        return {
            "question": self.question,
            "data": self.data,
            "main": {name: interval_document(estimate) for name, estimate in self.main.items()},
            **self.more,
            "verdict": self.verdict,
            "sentences": list(self.sentences),
            "figures": [_figure(panel) for panel in self.panels],
        }


LEVEL = 0.95  # of intervals


def word_of(estimate: Estimate, below: str, above: str) -> str:
    """Return a word for the side of 0 on which a difference lies, or that its 95 % interval settles none.

    >>> word_of(Estimate(1.0, 0.1, 9.0), "helps", "hurts"), word_of(Estimate(1.0, 1.0, 9.0), "helps", "hurts")
    ('hurts', 'no significant difference')
    """
    if not estimate.excludes_zero:
        return "no significant difference"
    return below if estimate.mean < 0 else above


def by_sign(estimates: Mapping[str, Estimate], sentence: str, below: str, above: str, level: float = LEVEL) -> str:
    """Return which significant estimates lie below 0 and which above; empty where none is significant.

    Significant is what its interval of this level settles the sign of.

    >>> by_sign({"a": Estimate(-1.0, 0.1, 9.0), "b": Estimate(0.1, 1.0, 9.0)}, "{} than dropout: ", "better", "worse")
    'better than dropout: a'
    """
    sides: dict[str, list[str]] = {below: [], above: []}
    for name, estimate in estimates.items():
        low, high = estimate.interval(level)
        if low > 0 or high < 0:
            sides[below if estimate.mean < 0 else above].append(name)
    return "; ".join(sentence.format(word) + ", ".join(names) for word, names in sides.items() if names)


def interval_document(estimate: Estimate) -> dict[str, Any]:
    """Return an estimate and its interval as JSON can hold it."""
    return {"estimate": estimate.mean, "interval": list(estimate.interval())}


def ends(estimate: Estimate) -> str:
    """Return an estimate in words: `-0.012 (95 % interval -0.02 to -0.004)`."""
    low, high = estimate.interval()
    return f"{estimate.mean:+.3g} (95 % interval {low:+.3g} to {high:+.3g})"


def _figure(panel: Panel) -> dict[str, Any]:
    if isinstance(panel.content, Points):
        each = [interval_document(estimate) for estimate in panel.content.estimates]
        return {"title": panel.title, "points": dict(zip(panel.content.labels, each, strict=True))}
    lines = {
        line.label: {"x": list(line.x), "mean": line.values.mean(1).tolist(), "seeds": line.values.T.tolist()}
        for line in panel.content
    }
    return {"title": panel.title, "x": panel.x, "y": panel.y, "lines": lines}
