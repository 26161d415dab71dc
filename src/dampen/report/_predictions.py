"""The picture of predictions whose targets are known: reliability, abstention, the most certain images."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dampen.data import Data, Incoming
from dampen.report import pictures
from dampen.uncertainty import ranks_rows, reliabilities, risk

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

_EXAMPLES = 8  # of the most and of the least certain images
_EMPTY = 0.1  # where an axis ends that has nothing above 0


def draw_predictions(own: Mapping[str, np.ndarray], data: Data | Incoming, file: str | Path) -> None:
    """Draw what predictions were worth.

    Args:
        own: columns of the rows, with targets.
        data: that the rows are of; images are shown.
        file: `.png` or `.svg`.

    Raises:
        InputError: the file can't be written.
    """
    classes = "probability" in own
    images = data.features.ndim == 4 and data.features.shape[1] in (1, 3) and ranks_rows(own)
    from matplotlib.figure import Figure

    with pictures.style():
        figure = Figure(figsize=(11, 8.2 if images else 4.6), layout="constrained")
        parts: Any = figure.subfigures(2, 1, height_ratios=(3, 2.2)) if images else [figure]
        panels = parts[0].subplots(1, 1 + classes, squeeze=False)[0]
        if classes:
            _reliability(panels[0], own)
        _risk(panels[-1], own, classes)
        if images:
            _examples(parts[1], own, data)
        pictures.save(figure, file)


def _reliability(axes: "Axes", own: Mapping[str, np.ndarray]) -> None:
    axes.plot([0, 1], [0, 1], ":", color=pictures.BLACK, label="calibrated")
    looks = (("as it is", pictures.TEST), ("after calibration", pictures.TRAIN))
    for reliability, (name, look) in zip(reliabilities(own), looks, strict=True):
        axes.plot(reliability.confidence, reliability.accuracy, label=f"{name}, error {reliability.error:.4f}", **look)
    axes.set_title("Are the probabilities calibrated?")
    axes.set_xlabel("probability of the predicted class")
    axes.set_ylabel("share of right predictions")
    axes.legend()


def _risk(axes: "Axes", own: Mapping[str, np.ndarray], classes: bool) -> None:
    curve = risk(own)
    values = curve.risk if classes else np.sqrt(curve.risk)
    apart = ranks_rows(own)
    if apart:
        axes.plot(100 * curve.coverage, values, color=pictures.BLUE, linewidth=2.5)
    axes.axhline(float(values[-1]), linestyle=":", color=pictures.BLACK, label="abstaining at random")
    axes.set_title("What is the gain from abstaining?")
    axes.set_xlabel("share of the rows that are predicted (%)" + ": all are equally uncertain" * (not apart))
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 1.08 * float(values.max()) or _EMPTY)
    axes.set_ylabel("share of wrong predictions" if classes else "RMSE of the predictions")
    axes.legend()


def _examples(figure: "SubFigure", own: Mapping[str, np.ndarray], data: Data | Incoming) -> None:
    uncertainty = 1 - own["probability"] if "probability" in own else own["standard_deviation"]
    order = np.argsort(uncertainty, kind="stable")
    n = min(_EXAMPLES, len(order))
    panels = figure.subplots(2, n, squeeze=False)
    for row, places, title in zip(panels, (order[:n], order[::-1][:n]), ("most certain", "least certain"), strict=True):
        for axes, i in zip(row, places, strict=True):
            pixels = pictures.shades(data.features[int(own["row"][i])].numpy())
            axes.imshow(np.moveaxis(pixels, 0, -1).squeeze(), cmap="gray")
            axes.set(xticks=[], yticks=[])
            if "probability" in own:
                caption = f"{'right' if own['_right'][i] else 'wrong'}, {own['probability'][i]:.3f}"
            else:
                caption = f"{own['prediction'][i]:.3g} ± {own['standard_deviation'][i]:.2g}"
            axes.set_xlabel(caption, fontsize=8)
        row[0].set_ylabel(title)
