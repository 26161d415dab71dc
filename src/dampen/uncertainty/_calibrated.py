"""Predictions after calibration: probabilities or values, which rows to abstain from, prediction sets and intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Shaped

from dampen._html import ROWS, lines, table
from dampen._io import counted
from dampen.uncertainty._prediction import ClassPrediction, ValuePrediction
from dampen.uncertainty._temperature import tempered

LEVEL = 0.95  # of intervals


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What rows that took no part in training show about a network's predictions.

    Args:
        rows: how many there were.
        temperature: for class probabilities; 1 for values.
        noise: variance of a regression's noise in the target's own unit; None for classes.
        abstain_above: uncertainty above which a prediction abstains, so that a share `coverage` of those rows is
            answered.
        coverage: that share.
        conformal: threshold of the conformal score, at the level `coverage` for classes, `LEVEL` for values.
        notes: what the rows were too few for, and what to do about it.
    """

    rows: int
    temperature: float
    noise: float | None
    abstain_above: float
    coverage: float
    conformal: float
    notes: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "rows": self.rows,
            "temperature": self.temperature if self.noise is None else None,
            "noise_variance": self.noise,
            "coverage": self.coverage,
            "abstain_above": self.abstain_above if math.isfinite(self.abstain_above) else None,
            "conformal_threshold": self.conformal if math.isfinite(self.conformal) else None,
        }


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _Rows:
    abstain: Bool[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.abstain)

    def columns(self) -> dict[str, np.ndarray]:
        """Return one value a row under each name."""
        return {"abstain": self.abstain}

    def __repr__(self) -> str:
        left = f"abstaining from {int(self.abstain.sum())}" if self.abstain.any() else "abstaining from none"
        return f"<{type(self).__name__} of {counted(len(self), 'row')}, {left}>"

    def _repr_html_(self) -> str:
        return lines(repr(self)[1:-1], ()) + table(
            {n: values[:ROWS] for n, values in self.columns().items()}, len(self)
        )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CalibratedClasses(_Rows):
    """Calibrated predictions of classes, as NumPy arrays.

    Args:
        classes: names, in the order of the probabilities' columns.
        probabilities: after temperature scaling.
        entropy: of the mean over samples, before temperature scaling, in nats.
        mutual_information: what the samples disagree on, likewise.
        abstain: the rows to abstain from: their largest probability is too small.
        in_prediction_set: which classes belong to each row's conformal prediction set.
    """

    classes: tuple[str, ...]
    probabilities: Float[np.ndarray, "N C"]
    entropy: Float[np.ndarray, " N"]
    mutual_information: Float[np.ndarray, " N"]
    in_prediction_set: Bool[np.ndarray, "N C"]

    @property
    def prediction(self) -> Shaped[np.ndarray, " N"]:
        """The name of each row's most probable class."""
        return np.array(self.classes, dtype=object)[self.probabilities.argmax(1)]

    @property
    def probability(self) -> Float[np.ndarray, " N"]:
        """The probability of that class."""
        return self.probabilities.max(1)

    @property
    def prediction_sets(self) -> list[tuple[str, ...]]:
        """The names of the classes in each row's prediction set; the right one is among them in `coverage` of rows."""
        return [
            tuple(name for name, held in zip(self.classes, row, strict=True) if held) for row in self.in_prediction_set
        ]

    @property
    def set_size(self) -> Int64[np.ndarray, " N"]:
        """How many classes each row's prediction set holds."""
        return self.in_prediction_set.sum(1)

    def columns(self) -> dict[str, np.ndarray]:
        """Return one value a row under each name, as `dampen predict` writes them."""
        return {
            "prediction": self.prediction,
            "probability": self.probability,
            "entropy": self.entropy,
            "mutual_information": self.mutual_information,
            "abstain": self.abstain,
            "set_size": self.set_size,
        }

    @classmethod
    def of(cls, prediction: ClassPrediction, calibration: Calibration, classes: Sequence[str]) -> "CalibratedClasses":
        """Return what a calibration makes of predictions."""
        q = tempered(prediction.probabilities, calibration.temperature)
        return cls(
            classes=tuple(classes),
            probabilities=q.numpy(),
            entropy=prediction.entropy.numpy(),
            mutual_information=prediction.mutual_information.numpy(),
            abstain=(1 - q.amax(1) > calibration.abstain_above).numpy(),
            in_prediction_set=(q >= 1 - calibration.conformal).numpy(),
        )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CalibratedValues(_Rows):
    """Calibrated predictions of values, in the target's own unit, as NumPy arrays.

    Args:
        mean: the prediction.
        deviation: standard deviation of the target around it: that over samples and networks, and the noise.
        epistemic: the first of these alone, which more data would reduce.
        intervals: ends of the conformal prediction intervals for 95 % coverage; infinite where too few rows were left
            to calibrate on.
        abstain: the rows to abstain from: their deviation is too large.
    """

    mean: Float[np.ndarray, " N"]
    deviation: Float[np.ndarray, " N"]
    epistemic: Float[np.ndarray, " N"]
    intervals: Float[np.ndarray, "N 2"]

    @property
    def prediction(self) -> Float[np.ndarray, " N"]:
        """The mean."""
        return self.mean

    def columns(self) -> dict[str, np.ndarray]:
        """Return one value a row under each name, as `dampen predict` writes them."""
        return {
            "prediction": self.mean,
            "standard_deviation": self.deviation,
            "epistemic": self.epistemic,
            "low": self.intervals[:, 0],
            "high": self.intervals[:, 1],
            "abstain": self.abstain,
        }

    @classmethod
    def of(cls, prediction: ValuePrediction, calibration: Calibration) -> "CalibratedValues":
        """Return what a calibration makes of predictions."""
        assert calibration.noise is not None
        deviation = prediction.with_noise(calibration.noise).standard_deviation
        half = calibration.conformal * deviation
        return cls(
            mean=prediction.mean.numpy(),
            deviation=deviation.numpy(),
            epistemic=prediction.epistemic.sqrt().numpy(),
            intervals=torch.stack([prediction.mean - half, prediction.mean + half], 1).numpy(),
            abstain=(deviation > calibration.abstain_above).numpy(),
        )


Calibrated = CalibratedClasses | CalibratedValues


def joined(parts: Sequence[Calibrated]) -> Calibrated:
    """Return the predictions of several parts of the rows as one."""
    first = parts[0]
    every: dict[str, Any] = {
        name: value if name == "classes" else np.concatenate([getattr(part, name) for part in parts])
        for name, value in vars(first).items()
    }
    return type(first)(**every)
