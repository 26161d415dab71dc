"""From a table's values to a network's inputs: what is estimated, on the training rows of one split alone.

Numbers as in Holzmüller, Grinsztajn and Steinwart (2024), "Better by default", section 3: robust scaling and smooth
clipping; categories of high cardinality as in Micci-Barreca (2001), by scikit-learn's `TargetEncoder`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from dampen.data.tables import _codes, _free_text
from dampen.data.tables._columns import PERIODS, Columns

_CLIP = 3.0  # where the smooth clip of the paper bends
_QUANTILE_ROWS = 200_000  # enough for a quartile to a thousandth
_CHUNK = 1 << 16  # rows at a time, so that what is in between stays small
_FOLDS = 5  # of the training rows, so that no row's own target is among its inputs

Encodings = Mapping[int, Float[np.ndarray, "levels means"]]
"""By column: the mean target of each level, then of an unknown one, then of a missing value."""


@dataclass(frozen=True, eq=False)
class Vectoriser:
    """How a table's values become inputs.

    Args:
        columns: what they are.
        outputs: of the network.
        centre: of each column's numbers: their median.
        scale: what they are multiplied by then: the reciprocal of the quartiles' distance.
        seen: by category, or column of codes: which levels occur in the training rows.
        means: by category of high cardinality: mean targets.
        counts: likewise: how often a level occurs, as `log1p`, in standard deviations from the mean.
        factors: by column of free text: the inverse document frequency of each term.
    """

    columns: Columns
    outputs: int
    centre: Float32[np.ndarray, " columns"]
    scale: Float32[np.ndarray, " columns"]
    seen: Mapping[int, np.ndarray] = field(default_factory=dict)
    means: Encodings = field(default_factory=dict)
    counts: Mapping[int, np.ndarray] = field(default_factory=dict)
    factors: Mapping[int, np.ndarray] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """How many inputs there are."""
        return width(self.columns, self.outputs)

    @property
    def note(self) -> str:
        """What is done, in words."""
        kinds = [column.kind for column in self.columns.used]
        return (
            f"{len(kinds)} columns ({kinds.count('number')} of numbers) to {self.width} inputs: numbers scaled by "
            "median and quartiles and smoothly clipped, categories one by one or by their mean target, "
            f"{'text by the tf-idf of its terms, ' * ('text' in kinds)}over the training rows"
            f"{', codes as they are' * ('code' in kinds)}"
        )

    def apply(self, raw: Shaped[Tensor, "N values"]) -> Float[Tensor, "N D"]:
        """Return inputs for rows that were not trained on."""
        return torch.from_numpy(self._apply(raw.numpy(), {}))

    def _apply(self, raw: np.ndarray, fitted: Mapping[int, np.ndarray]) -> Float32[np.ndarray, "N D"]:
        """Return inputs; `fitted` has mean targets of these very rows, where they were trained on."""
        inputs = np.zeros((len(raw), self.width), dtype=np.float32)
        for start in range(0, len(raw), _CHUNK):
            rows = slice(start, start + _CHUNK)
            self._fill(raw[rows], inputs[rows], {j: values[rows] for j, values in fitted.items()})
        return inputs

    def _fill(self, raw: np.ndarray, inputs: np.ndarray, fitted: Mapping[int, np.ndarray]) -> None:
        places = _places(self.columns, self.outputs)
        numbers, slots, flagged, flags = _of_numbers(self.columns, places)
        if len(numbers):
            z = (raw[:, numbers] - self.centre[numbers]) * self.scale[numbers]
            missing = np.isnan(z)
            z[missing] = 0.0
            inputs[:, slots] = _clipped(z)
            inputs[:, flags] = np.isnan(raw[:, flagged])
        counts = self.columns.counts()
        for j, column in enumerate(self.columns.used):
            values, at = raw[:, j], places[j]
            if column.kind == "two":
                inputs[:, at.start] = np.select([values == 0, values == 1], [-1.0, 1.0], 0.0)
            elif column.kind == "code":
                levels = _rows_of_levels(values, len(column.levels))
                seen = np.append(self.seen[j], [False, False])  # neither an unknown one nor a missing value
                inputs[:, at.start] = np.where(seen[levels], levels + 1, _codes.UNKNOWN)
            elif column.kind == "category":
                for level in np.flatnonzero(self.seen[j][: column.own]):
                    inputs[:, at.start + level] = values == level
                if column.has_other:
                    inputs[:, at.start + column.own] = (values >= column.own) | (values == -1)
            elif column.kind == "many":
                codes = _rows_of_levels(values, len(column.levels))
                inputs[:, at.start : at.stop - 1] = fitted[j] if j in fitted else self.means[j][codes]
                inputs[:, at.stop - 1] = self.counts[j][codes]
            elif column.kind == "text":
                terms = slice(at.start, at.start + len(column.levels))
                inputs[:, terms] = _free_text.tf_idf(raw[:, counts[j]], self.factors[j])
                inputs[:, terms.stop : at.stop] = np.isnan(values)[:, None]
            elif column.kind == "date":
                self._fill_date(j, values, inputs[:, at])

    def _fill_date(self, j: int, values: np.ndarray, inputs: np.ndarray) -> None:
        column, at = self.columns.used[j], 0
        missing = np.isnan(values)
        days = np.where(missing, 0.0, values).astype(np.float64)
        for part in column.parts:
            if part == "trend":
                inputs[:, at] = np.where(missing, 0.0, _clipped((days - self.centre[j]) * self.scale[j]))
                at += 1
                continue
            angle = 2 * np.pi * ((days + column.offset) % PERIODS[part]) / PERIODS[part]
            for wave in (np.sin, np.cos):
                inputs[:, at] = np.where(missing, 0.0, wave(angle))
                at += 1
        if column.missing:
            inputs[:, at] = missing

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "columns": self.columns.plain(),
            "outputs": self.outputs,
            "centre": self.centre.tolist(),
            "scale": self.scale.tolist(),
            "seen": {str(j): values.tolist() for j, values in self.seen.items()},
            "means": {str(j): values.tolist() for j, values in self.means.items()},
            "counts": {str(j): values.tolist() for j, values in self.counts.items()},
            "factors": {str(j): values.tolist() for j, values in self.factors.items()},
        }


def width(columns: Columns, outputs: int) -> int:
    """Return how many inputs a table becomes."""
    return len(columns.inputs(outputs))


def fit(
    columns: Columns, raw: Shaped[Tensor, "N values"], targets: Shaped[Tensor, " N"], outputs: int
) -> tuple[Vectoriser, Float[Tensor, "N D"]]:
    """Estimate on training rows; also return their own inputs.

    A row's own target is never among its inputs: mean targets of the training rows come from the other four fifths of
    them, those of other rows from all.

    Args:
        columns: what they are.
        raw: training rows.
        targets: theirs.
        outputs: of the network; classes, or 1.
    """
    values = raw.numpy()
    n = len(columns.used)
    centre, scale = np.zeros(n, dtype=np.float32), np.ones(n, dtype=np.float32)
    scaled = [j for j, column in enumerate(columns.used) if column.kind in ("number", "date")]
    step = max(1, len(values) // _QUANTILE_ROWS)
    for j in scaled:
        centre[j], scale[j] = _robust(values[::step, j], values[:, j])
    seen, means, counts, fitted = {}, {}, {}, {}
    factors = {j: _free_text.inverse_frequencies(values[:, at]) for j, at in columns.counts().items()}
    for j, column in enumerate(columns.used):
        if column.kind not in ("category", "code", "many"):
            continue
        n_levels = len(column.levels)
        codes = _rows_of_levels(values[:, j], n_levels)
        occurs = np.bincount(codes, minlength=n_levels + 2)
        if column.kind != "many":
            seen[j] = occurs[:n_levels] > 0
        else:
            means[j], fitted[j] = _mean_targets(codes, targets.numpy(), n_levels + 2, outputs)
            counts[j] = _standard(np.log1p(occurs), codes)
    vectoriser = Vectoriser(columns, outputs, centre, scale, seen, means, counts, factors)
    return vectoriser, torch.from_numpy(vectoriser._apply(values, fitted))


def _robust(some: np.ndarray, every: np.ndarray) -> tuple[float, float]:
    """Return the median and the reciprocal scale of numbers; 0 where all are alike (Holzmüller et al. 2024, sec. 3)."""
    known = some[~np.isnan(some)]
    if not len(known):
        return 0.0, 0.0
    low, middle, high = np.percentile(known.astype(np.float64), [25, 50, 75])
    spread = high - low
    if spread == 0:
        spread = (float(np.nanmax(every)) - float(np.nanmin(every))) / 2
    # float32's smallest steps would turn rounding into inputs: what is alike up to them is alike
    return middle, 1 / spread if spread > 1e-6 * max(abs(middle), 1e-30) else 0.0


def _clipped(z: np.ndarray) -> np.ndarray:
    return z / np.sqrt(1 + np.square(z / _CLIP, dtype=np.float64)).astype(z.dtype)


def _mean_targets(codes: np.ndarray, targets: np.ndarray, n_levels: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the smoothed mean target of each level, in standard deviations; and cross-fitted ones for the rows."""
    from sklearn.model_selection import KFold

    wanted = [targets] if outputs == 1 else [targets == c for c in ([1] if outputs == 2 else range(outputs))]
    levels = np.zeros((n_levels, len(wanted)), dtype=np.float32)
    rows = np.zeros((len(codes), len(wanted)), dtype=np.float32)
    for c, values in enumerate(wanted):
        mean, spread = float(values.mean()), float(values.std())
        if spread == 0 or len(values) < 2:
            continue
        z = (values - mean) / spread
        levels[:, c] = _of_levels(codes, z, n_levels)
        for rest, held in KFold(min(_FOLDS, len(z)), shuffle=True, random_state=0).split(z):
            rows[held, c] = _of_levels(codes[rest], z[rest], n_levels)[codes[held]]
    return np.nan_to_num(levels), np.nan_to_num(rows)


def _of_levels(codes: np.ndarray, z: np.ndarray, n_levels: int) -> np.ndarray:
    """Return the mean of each level, drawn towards that of all by empirical Bayes; that of all for an absent one."""
    from sklearn.preprocessing import TargetEncoder

    means = np.full(n_levels, z.mean())
    if z.min() < z.max():
        # as a number, one class at a time: its own way with classes refuses rare ones
        encoder = TargetEncoder(target_type="continuous").fit(codes[:, None], z)
        means[encoder.categories_[0]] = encoder.encodings_[0]
    return means


def _rows_of_levels(values: np.ndarray, n_levels: int) -> np.ndarray:
    """Return the number of each value's level; after the levels come an unknown one and a missing value."""
    codes = np.nan_to_num(values, nan=n_levels + 1.0).astype(np.int64)
    return np.where(codes < 0, n_levels, codes)


def _standard(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return values by level, standardised over the rows."""
    of_rows = values[codes]
    return ((values - of_rows.mean()) / (of_rows.std() or 1.0)).astype(np.float32)


def _places(columns: Columns, outputs: int) -> list[slice]:
    """Return where each column's inputs lie."""
    ends = np.cumsum([len(column.inputs(outputs)) for column in columns.used]).tolist()
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def _of_numbers(columns: Columns, places: list[slice]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return the columns of numbers and where their inputs lie; those that can be missing and where their flags lie."""
    numbers = [j for j, column in enumerate(columns.used) if column.kind == "number"]
    flagged = [j for j in numbers if columns.used[j].missing]
    return numbers, [places[j].start for j in numbers], flagged, [places[j].stop - 1 for j in flagged]
