"""The picture of an answer: its panels, one below the other or side by side."""

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dampen._language import language, shown
from dampen.experiments._answer import Answer, Line, Panel, Points
from dampen.report import pictures

_COLOURS = (pictures.BLUE, pictures.ORANGE, pictures.GREEN, pictures.BLACK, "#CC79A7", "#56B4E9", "#E69F00")


def draw_answer(answer: Answer, file: str | Path) -> None:
    """Draw what a question found.

    Raises:
        InputError: the file can't be written.
    """
    n = len(answer.panels)
    columns = 2 if n == 4 else min(n, 3)
    with pictures.style():
        figure = Figure(figsize=(max(5.0 * columns, 7.0), 4.2 * -(-n // columns) + 0.6), layout="constrained")
        axes = figure.subplots(-(-n // columns), columns, squeeze=False).ravel()
        for panel, content in zip(axes, answer.panels, strict=False):
            _draw(panel, content)
        for empty in axes[n:]:
            empty.remove()
        width = (12 if language() == "en" else 7) * int(figure.get_figwidth())  # letters that fit
        figure.suptitle(
            textwrap.fill(f"{answer.question}, {answer.data}: {shown(answer.verdict)}", width), parse_math=False
        )
        pictures.save(figure, file)


def _draw(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    if isinstance(panel.content, Points):
        _draw_points(axes, panel.content)
        return
    if panel.log_y:
        axes.set_yscale("log")
    if panel.log_x:
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    many = max(len(line.x) for line in panel.content) > 20
    for line in panel.content:
        look = {
            "color": _COLOURS[line.group % len(_COLOURS)],
            "linestyle": "--" if line.held_out else "-",
            "marker": None if many else "s" if line.held_out else "o",
            "markersize": 4,
        }
        pictures.curve(axes, _places(line, panel.log_x), line.values, line.label, look)
    if len(panel.content) > 1:
        axes.legend()


def _draw_points(axes: Axes, points: Points) -> None:
    places = np.arange(len(points.labels))[::-1]
    means = np.array([e.mean for e in points.estimates])
    ends = np.array([e.interval() for e in points.estimates])
    axes.errorbar(means, places, xerr=abs(ends.T - means), fmt="o", color=pictures.BLUE, capsize=4, linewidth=2)
    axes.axvline(0, color=pictures.BLACK, linestyle="--", linewidth=1)
    axes.set_yticks(places, [shown(label) for label in points.labels])
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_ylim(-0.6, len(places) - 0.4)


def _places(line: Line, log: bool) -> np.ndarray:
    """Return where a line's points go: on a logarithmic axis, 0 lies a step left of the smallest other one."""
    x = np.asarray(line.x, dtype=float)
    if log and (x == 0).any():
        x = np.where(x == 0, x[x > 0].min() / 3, x)
    return x
