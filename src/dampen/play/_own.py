"""A reader's own table as a lesson: the network trains on all columns, the surface is drawn over two of them."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from dampen.data import Data, with_unit_targets
from dampen.errors import InputError
from dampen.play import _surface
from dampen.play._lesson import Lesson
from dampen.play._points import Points
from dampen.play._surface import CLASS_COLOURS
from dampen.play._training import _MASKS, CHOSEN, NONE, LessonTraining
from dampen.uncertainty import mc_dropout

_MOST_TRAIN, _MOST_TEST = 2000, 1000  # rows: with more of them a frame takes too long
_MOST_DRAWN = 400  # points of each kind over a surface
_MARGIN = 0.05  # of a column's range, beyond its ends
_SPAN = 2.0  # standard deviations of the target that the colours tell apart
_LOW, _MIDDLE, _HIGH = (0, 114, 178), (200, 200, 200), (213, 94, 0)  # of Okabe and Ito

Shown = tuple[int, int]
"""Numbers of the columns that the surface is drawn over."""


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of a table, as they are and as the network gets them.

    Args:
        data: whose rows these are; a regression's target has mean 0 and deviation 1.
        names: of the columns.
        middle: of each column: the median, or the most frequent category.
        stepped: which columns are categories, whose values are whole numbers here.
        cut: whether there are more rows than are used.
    """

    data: Data
    names: tuple[str, ...]
    middle: Float[np.ndarray, " columns"]
    stepped: tuple[bool, ...]
    cut: bool

    @property
    def raw(self) -> tuple[Float[Tensor, "N columns"], Float[Tensor, "T columns"]]:
        """Training and test rows as they are."""
        return self.data.features[self.data.train_rows], self.data.features[self.data.test_rows]

    def telling(self) -> Shown:
        """Return the two columns that go most with the target, by their rank correlation: where a reader begins."""
        from scipy.stats import rankdata

        raw, targets = self.raw[0].numpy(), self.data.targets[self.data.train_rows].numpy()
        ranks = np.stack([rankdata(np.nan_to_num(column, nan=m)) for column, m in zip(raw.T, self.middle, strict=True)])
        if self.data.classes is not None:  # between the classes' mean ranks: their order says nothing
            means = [ranks[:, targets == c].mean(1) for c in np.unique(targets)]
            scores = np.std(means, axis=0)
        else:
            of_target = rankdata(targets) - (len(targets) + 1) / 2
            scores = np.abs((ranks - ranks.mean(1, keepdims=True)) @ of_target)
            scores = scores / np.maximum(ranks.std(1), 1e-9)
        first, second = np.argsort(-scores, kind="stable")[:2].tolist()
        return first, second


def table_of(data: Data) -> Table:
    """Return a table for the page.

    Raises:
        InputError: the data is no table, or has a single column or no test rows.
    """
    if data.features.ndim != 2 or data.features.dtype == torch.int64:
        raise InputError(
            f"the surface needs a table; {data.name} has rows of shape {list(data.inputs)}: the page Dropout shows "
            "images, Tune takes any data"
        )
    if data.columns is not None and any(column.kind == "text" for column in data.columns.used):
        raise InputError("text: the surface can't show words; leave the column out, the page Tune takes it")
    if data.codes:
        raise InputError(
            f"codes: the surface's network would read the codes of column '{data.codes[0].name}' as numbers; leave "
            "codes out"
        )
    if data.features.shape[1] < 2:
        raise InputError(f"the surface needs two columns at least; {data.name} has one")
    if len(data.test_rows) < 2:
        raise InputError(f"{data.name} has no test rows to compare on")
    cut = len(data.train_rows) > _MOST_TRAIN or len(data.test_rows) > _MOST_TEST
    if len(data.train_rows) > _MOST_TRAIN:
        data = data.subset(_MOST_TRAIN)
    if len(data.test_rows) > _MOST_TEST:
        kept = torch.randperm(len(data.test_rows), generator=torch.Generator().manual_seed(0))[:_MOST_TEST]
        data = replace(data, test_rows=data.test_rows[kept])
    data, _, _ = with_unit_targets(data)
    used = data.columns.used if data.columns is not None else ()
    names = tuple(column.name for column in used) or data.feature_names or ()
    n = data.features.shape[1]
    stepped = tuple(column.kind not in ("number", "date") for column in used) or (False,) * n
    raw = data.features[data.train_rows].double().numpy()
    middle = [_mode(column) if step else _median(column) for column, step in zip(raw.T, stepped, strict=True)]
    return Table(data, names or tuple(f"x{j}" for j in range(n)), np.array(middle), stepped, cut)


def points_of(table: Table, shown: Shown) -> Points:
    """Return the rows of a table, and the grid over two columns with all others at their middle."""
    data = table.data
    low, high = zip(*(_range(table, j) for j in shown), strict=True)
    over = _surface.grid(low, high)
    rows = torch.from_numpy(np.tile(table.middle, (len(over), 1))).float()
    for place, j in enumerate(shown):
        values = over[:, place]
        rows[:, j] = values.round() if table.stepped[j] else values
    train, test = data.train, data.test
    classes = data.classes is not None
    return Points(
        train.features,
        train.targets if classes else train.targets.unsqueeze(1),
        test.features,
        test.targets if classes else test.targets.unsqueeze(1),
        data.outputs if classes else 0,
        low,
        high,
        data.normalisation.apply(rows),
        shown,
    )


def overlay(table: Table, shown: Shown) -> str:
    """Return the rows as SVG over the picture of the surface: training rows filled, test rows hollow."""
    low, high = zip(*(_range(table, j) for j in shown), strict=True)
    data = table.data

    def marks(raw: Tensor, targets: Shaped[Tensor, " N"], filled: bool) -> str:
        found = []
        for row, target in zip(raw[:_MOST_DRAWN].tolist(), targets[:_MOST_DRAWN].tolist(), strict=True):
            x, y = (100 * (row[j] - a) / (b - a) for j, a, b in zip(shown, low, high, strict=True))
            if not (0 <= x <= 100 and 0 <= y <= 100):  # a value that is missing, too
                continue
            colour = CLASS_COLOURS[target % len(CLASS_COLOURS)] if data.classes is not None else _hex(target)
            fill, edge, width = (colour, "#ffffff", 0.25) if filled else ("none", colour, 0.55)
            style = f'fill="{fill}" stroke="{edge}" stroke-width="{width}"'
            found.append(f'<circle cx="{x:.2f}" cy="{100 - y:.2f}" r="{1.3 if filled else 1.0}" {style}/>')
        return "".join(found)

    train, test = table.raw
    targets = data.targets
    circles = marks(test, targets[data.test_rows], False) + marks(train, targets[data.train_rows], True)
    return f'<svg viewBox="0 0 100 100" aria-hidden="true">{circles}</svg>'


class OwnTraining(LessonTraining):
    """Trains on a reader's table; see `LessonTraining`.

    Args:
        table: what it trains on.
        lesson: how.
        shown: the columns that the surface is drawn over.
    """

    def __init__(self, table: Table, lesson: Lesson, shown: Shown):
        self._table, self._shown = table, shown
        super().__init__(lesson, points_of(table, shown))

    def change(self, what: tuple[Lesson, Shown]) -> None:  # type: ignore[override]
        """Go on with another lesson, or show other columns."""
        lesson, shown = what
        if shown != self._shown:
            self._shown = shown
            self._points = self.points = points_of(self._table, shown)
        super().change(lesson)

    def _pictures(self, outputs: Float[Tensor, "S 2 G C"]) -> tuple[tuple[str, ...], None]:
        if self._table.data.classes is not None:
            return super()._pictures(outputs)
        values = outputs.squeeze(3).numpy()
        if self.lesson.surface == "mean":
            return tuple(_of_values(values[:, m].mean(0)) for m in (NONE, CHOSEN)), None
        if self.lesson.surface == "seeds":
            deviations = [values[:, m].std(0) for m in (NONE, CHOSEN)]
        else:
            deviations = [np.zeros(values.shape[2]), self._over_masks()]
        return tuple(_surface.of_spread(deviation, 1.0) for deviation in deviations), None

    def _over_masks(self) -> Float[np.ndarray, " G"]:
        if self._table.data.classes is not None or not self.lesson.dropout:
            return super()._over_masks()
        member = self._population.member(self.lesson.settings[CHOSEN], self._first)
        found = mc_dropout(member, self.points.grid, _MASKS, task="regression")
        return found.epistemic.sqrt().flatten().numpy()  # type: ignore[union-attr]


def own_training(table: bytes, lesson: Lesson, shown: Shown) -> OwnTraining:
    """Make the training of the page from a pickled table: what the page's own process wrote."""
    import pickle

    return OwnTraining(pickle.loads(table), lesson, shown)


def _range(table: Table, j: int) -> tuple[float, float]:
    """Return where the picture of a column begins and ends."""
    values = torch.cat(table.raw)[:, j].double().numpy()
    values = values[np.isfinite(values)]
    if not len(values):
        return -1.0, 1.0
    low, high = float(values.min()), float(values.max())
    margin = _MARGIN * (high - low) if high > low else 1.0
    return low - margin, high + margin


def _median(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else 0.0


def _mode(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    levels, counts = np.unique(known, return_counts=True)
    return float(levels[counts.argmax()]) if len(levels) else -1.0


def _colours(values: Float[np.ndarray, " N"]) -> Float[np.ndarray, "N 3"]:
    """Return colours of standardised numbers: low blue, middle white, high orange."""
    at = np.nan_to_num(np.clip(values, -_SPAN, _SPAN))
    channels = zip(_LOW, _MIDDLE, _HIGH, strict=True)
    return np.stack([np.interp(at, (-_SPAN, 0.0, _SPAN), channel) for channel in channels], 1)


def _of_values(values: Float[np.ndarray, " N"]) -> str:
    """Return a picture of predicted numbers, paler than the points over it."""
    return _surface._png(255 + (_colours(values) - 255) * 0.6)


def _hex(value: float) -> str:
    r, g, b = _colours(np.array([value]))[0].round().astype(int).tolist()
    return f"#{r:02x}{g:02x}{b:02x}"
