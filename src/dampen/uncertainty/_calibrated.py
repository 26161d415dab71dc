"""Predictions after calibration: probabilities or values, which rows to abstain from, prediction sets and intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from dampen._html import ROWS, lines, table
from dampen._io import counted
from dampen.uncertainty._calibrators import Calibrator, Isotonic, TemperatureScaling, VectorScaling
from dampen.uncertainty._conformal import SetRule, intervals
from dampen.uncertainty._prediction import ClassPrediction, ValuePrediction

LEVEL = 0.95  # of intervals


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What rows that took no part in training show about a network's predictions.

    Args:
        rows: how many there were.
        calibrator: what makes class probabilities calibrated; None for values.
        noise: variance of a regression's noise in the target's own unit; None for classes, and where the networks
            return the noise of each row.
        noise_factor: by which that is multiplied.
        abstain_above: uncertainty above which a prediction abstains, so that a share `coverage` of those rows is
            answered.
        coverage: that share.
        conformal: threshold of the conformal score, at the level `coverage` for classes, `level` for values.
        level: of a regression's intervals.
        sets: which classes belong to a prediction set.
        seed: of the uniform numbers of such sets.
        notes: what the rows were too few for, and what to do about it.
        limit_rows: as many different rows of even weight say as much as those that `abstain_above` was fitted on.
    """

    rows: int
    calibrator: Calibrator | None
    noise: float | None
    abstain_above: float
    coverage: float
    conformal: float
    noise_factor: float = 1.0
    level: float = LEVEL
    sets: SetRule = field(default_factory=SetRule)
    seed: int = 0
    notes: tuple[str, ...] = ()
    limit_rows: float = math.inf

    @property
    def temperature(self) -> float:
        """For class probabilities; 1 for values, and where another calibrator takes its place."""
        return self.calibrator.temperature if isinstance(self.calibrator, TemperatureScaling) else 1.0

    def values(self, prediction: ValuePrediction) -> ValuePrediction:
        """Return a prediction of values with its noise."""
        return (
            prediction.with_noise_factor(self.noise_factor) if self.noise is None else prediction.with_noise(self.noise)
        )

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        of_classes = self.calibrator is not None
        parameters: dict[str, Any] = {}
        if isinstance(self.calibrator, VectorScaling):
            parameters = {"weights": list(self.calibrator.weights), "biases": list(self.calibrator.biases)}
        if isinstance(self.calibrator, Isotonic):
            parameters = {"knots": [len(x) for x, _ in self.calibrator.knots]}
        return {
            "rows": self.rows,
            "calibrator": self.calibrator.name if self.calibrator is not None else None,
            "temperature": self.temperature if of_classes and not parameters else None,
            **({"calibrator_parameters": parameters} if parameters else {}),
            "sets": self.sets.name if of_classes else None,
            **({"raps": {"penalty": self.sets.penalty, "free": self.sets.free}} if self.sets.name == "raps" else {}),
            "noise_variance": self.noise,
            **({} if of_classes or self.noise is not None else {"noise_factor": self.noise_factor}),
            **({} if of_classes or self.level == LEVEL else {"level": self.level}),
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
        probabilities: after calibration.
        entropy: of the mean over samples, before calibration, in nats.
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
    def of(
        cls,
        prediction: ClassPrediction,
        calibration: Calibration,
        classes: Sequence[str],
        inputs: Shaped[Tensor, "N ..."],
    ) -> "CalibratedClasses":
        """Return what a calibration makes of the predictions for rows with these inputs."""
        assert calibration.calibrator is not None
        q = calibration.calibrator(prediction.probabilities)
        uniforms = None if calibration.sets.name == "lac" else uniforms_of(inputs, calibration.seed)
        return cls(
            classes=tuple(classes),
            probabilities=q.numpy(),
            entropy=prediction.entropy.numpy(),
            mutual_information=prediction.mutual_information.numpy(),
            abstain=(1 - q.amax(1) > calibration.abstain_above).numpy(),
            in_prediction_set=calibration.sets.sets(q, calibration.conformal, uniforms).numpy(),
        )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CalibratedValues(_Rows):
    """Calibrated predictions of values, in the target's own unit, as NumPy arrays.

    Args:
        mean: the prediction.
        deviation: standard deviation of the target around it: that over samples and networks, and the noise.
        epistemic: the first of these alone, which more data would reduce.
        intervals: ends of the conformal prediction intervals, for 95 % coverage or another `level`; infinite where too
            few rows were left to calibrate on.
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
        prediction = calibration.values(prediction)
        deviation = prediction.standard_deviation
        return cls(
            mean=prediction.mean.numpy(),
            deviation=deviation.numpy(),
            epistemic=prediction.epistemic.sqrt().numpy(),
            intervals=intervals(prediction, calibration.conformal).numpy(),
            abstain=(deviation > calibration.abstain_above).numpy(),
        )


def uniforms_of(inputs: Shaped[Tensor, "N ..."], seed: int) -> Float[Tensor, " N"]:
    """Return a number from 0 to 1 for each row, float64, that follows from the seed and the row's inputs alone.

    So a row has the same one wherever it stands, alone in a call or among others, and among calibration rows, too.
    """
    rows, key = inputs.detach().cpu().float().flatten(1).numpy(), str(seed).encode()[:64]
    digests = b"".join(blake2b(row.tobytes(), digest_size=8, key=key).digest() for row in rows)
    return torch.from_numpy((np.frombuffer(digests, np.uint64) >> 11) * 2.0**-53)


Calibrated = CalibratedClasses | CalibratedValues


def joined(parts: Sequence[Calibrated]) -> Calibrated:
    """Return the predictions of several parts of the rows as one."""
    first = parts[0]
    every: dict[str, Any] = {
        name: value if name == "classes" else np.concatenate([getattr(part, name) for part in parts])
        for name, value in vars(first).items()
    }
    return type(first)(**every)
