"""What `predict_uncertainty` returns: the quantities of `dampen.predict` as arrays."""

import math
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Shaped
from torch import Tensor

from dampen.errors import InputError
from dampen.uncertainty import ClassPrediction, Prediction, ValuePrediction


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassUncertainty:
    """Classes of N rows with their uncertainty, in nats; see `dampen.uncertainty.ClassPrediction`.

    Args:
        probabilities: as of `predict_proba`.
        classes: as of `predict`.
        max_probability: of the most probable class.
        entropy: of the probabilities: the whole uncertainty.
        expected_entropy: mean over networks and samples of their entropies.
        mutual_information: the difference of both.
        variation_ratio: share of networks and samples whose class is not the most frequent one.
        standard_deviation: over networks and samples, of the predicted class's probability.
        samples: how many networks times samples.
    """

    probabilities: Float64[np.ndarray, "N C"]
    classes: Shaped[np.ndarray, " N"]
    max_probability: Float64[np.ndarray, " N"]
    entropy: Float64[np.ndarray, " N"]
    expected_entropy: Float64[np.ndarray, " N"]
    mutual_information: Float64[np.ndarray, " N"]
    variation_ratio: Float64[np.ndarray, " N"]
    standard_deviation: Float64[np.ndarray, " N"]
    samples: int

    def __len__(self) -> int:
        return len(self.probabilities)

    def sets(self, threshold: float) -> Bool[np.ndarray, "N C"]:
        """Return which classes belong to each row's prediction set: those with a probability of `1 - threshold`.

        Raises:
            InputError: the threshold is no number.
        """
        if not isinstance(threshold, Real) or math.isnan(threshold):
            raise InputError(f"threshold must be a number, got {threshold!r}")
        return 1 - self.probabilities <= threshold  # as `class_scores` rounds


@dataclass(frozen=True, eq=False, kw_only=True)
class ValueUncertainty:
    """Values of N rows with their uncertainty, in the target's unit; see `dampen.uncertainty.ValuePrediction`.

    Args:
        mean: as of `predict`.
        variance: epistemic and aleatoric together; the epistemic one alone where the noise is not known.
        epistemic: variance over networks and samples.
        aleatoric: variance of the noise; None where it is not known.
        standard_deviation: the root of `variance`.
        samples: how many networks times samples.
    """

    mean: Float64[np.ndarray, " N"]
    variance: Float64[np.ndarray, " N"]
    epistemic: Float64[np.ndarray, " N"]
    aleatoric: Float64[np.ndarray, " N"] | None
    standard_deviation: Float64[np.ndarray, " N"]
    samples: int
    _prediction: ValuePrediction

    def __len__(self) -> int:
        return len(self.mean)

    def interval(self, level: float = 0.95) -> tuple[Float64[np.ndarray, " N"], Float64[np.ndarray, " N"]]:
        """Return the ends of the central interval of a Gaussian with this mean and variance.

        Raises:
            InputError: the noise is not known, or a level outside 0 to 1.
        """
        low, high = self._prediction.interval(level)
        return low.numpy(), high.numpy()


def of_classes(prediction: ClassPrediction, classes: Shaped[np.ndarray, " C"]) -> ClassUncertainty:
    """Return a prediction of classes as arrays.

    Args:
        prediction: whose classes are numbered.
        classes: in the order of these numbers.
    """
    arrays = _arrays(ClassUncertainty, prediction)
    arrays["classes"] = classes[arrays["classes"]]
    return ClassUncertainty(**arrays)


def of_values(prediction: ValuePrediction) -> ValueUncertainty:
    """Return a prediction of values as arrays."""
    return ValueUncertainty(**_arrays(ValueUncertainty, prediction), _prediction=prediction)


def _arrays(kind: type[Any], prediction: Prediction) -> dict[str, Any]:
    names = [field.name for field in fields(kind) if not field.name.startswith("_")]
    values: dict[str, Any] = {name: getattr(prediction, name) for name in names}
    return {name: value.numpy() if isinstance(value, Tensor) else value for name, value in values.items()}
