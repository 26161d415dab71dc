"""Do probabilities mean what they say: proper scores, calibration error, and the temperature that repairs it."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from dampen.errors import InputError

BINS = 15  # Guo et al. (2017), "On calibration of modern neural networks", section 5


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy, in bins of the most probable class's probability.

    Args:
        confidence: mean of each bin that has rows.
        accuracy: share of right rows in it.
        count: its rows.
        error: the expected calibration error, `sum(count / N * |accuracy - confidence|)`.
    """

    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]
    count: Int64[np.ndarray, " bins"]
    error: float


@dataclass(frozen=True)
class Brier:
    """The Brier score and where it comes from: `score = reliability - resolution + uncertainty + within`.

    Murphy (1973) for the first three, with forecasts binned class by class; `within` is what the spread of forecasts
    inside the bins adds (Stephenson, Coelho and Jolliffe 2008), so that the sum is exact.

    Args:
        score: mean over rows of the squared distance of probabilities from the class, 0 to 2.
        reliability: how far forecasts are from what happens: 0 is perfect.
        resolution: how much what happens differs from bin to bin: more is better.
        uncertainty: of the classes themselves.
        within: the remainder of binning.
    """

    score: float
    reliability: float
    resolution: float
    uncertainty: float
    within: float


def nll(probabilities: Float[Tensor, "N C"], targets: Int64[Tensor, " _"]) -> float:
    """Return the mean negative log likelihood, in nats."""
    p = _checked(probabilities, targets).gather(1, targets.unsqueeze(1)).squeeze(1)
    return float(-p.clamp_min(torch.finfo(p.dtype).tiny).log().mean())


def reliability(
    probabilities: Float[Tensor, "N C"], targets: Int64[Tensor, " _"], bins: int = BINS, *, adaptive: bool = False
) -> Reliability:
    """Return how often the most probable class is right, beside how probable it was said to be.

    Args:
        probabilities: of the classes.
        targets: the right ones.
        bins: how many.
        adaptive: bins of equally many rows (Nixon et al. 2019) instead of equal width (Guo et al. 2017).

    Raises:
        InputError: no rows, or fewer than one bin.
    """
    found = _checked(probabilities, targets).max(1)
    return reliability_of(found.values.numpy(), (found.indices == targets).numpy(), bins, adaptive=adaptive)


def reliability_of(
    confidence: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"], bins: int = BINS, *, adaptive: bool = False
) -> Reliability:
    """Return the same from the most probable class's probability and whether it was right."""
    if bins < 1 or len(right) == 0:
        raise InputError(f"reliability needs rows, and 1 bin or more, got {len(right)} and {bins}")
    if adaptive:
        place = np.empty(len(right), dtype=np.int64)
        for i, part in enumerate(np.array_split(np.argsort(confidence, kind="stable"), bins)):
            place[part] = i
    else:
        place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    filled = count > 0
    sums = (np.bincount(place, values, minlength=bins)[filled] for values in (confidence, right))
    mean, accuracy = (s / count[filled] for s in sums)
    error = float((count[filled] * np.abs(accuracy - mean)).sum() / len(right))
    return Reliability(mean, accuracy, count[filled], error)


def ece(
    probabilities: Float[Tensor, "N C"], targets: Int64[Tensor, " _"], bins: int = BINS, *, adaptive: bool = False
) -> float:
    """Return the expected calibration error; see `reliability`."""
    return reliability(probabilities, targets, bins, adaptive=adaptive).error


def brier(probabilities: Float[Tensor, "N C"], targets: Int64[Tensor, " _"], bins: int = BINS) -> Brier:
    """Return the Brier score of several classes, decomposed."""
    p = _checked(probabilities, targets).numpy()
    y = np.eye(p.shape[1])[targets.numpy()]
    score = float(((p - y) ** 2).sum(1).mean())
    parts = np.zeros(3)
    N = len(p)
    for forecast, event in zip(p.T, y.T, strict=True):
        place = np.clip(np.ceil(forecast * bins).astype(np.int64) - 1, 0, bins - 1)
        count = np.bincount(place, minlength=bins)
        filled = count > 0
        said, happened = (np.bincount(place, v, minlength=bins)[filled] / count[filled] for v in (forecast, event))
        share, base = count[filled] / N, event.mean()
        parts += (share * (said - happened) ** 2).sum(), (share * (happened - base) ** 2).sum(), base * (1 - base)
    calibration, resolution, uncertainty = map(float, parts)
    return Brier(score, calibration, resolution, uncertainty, score - (calibration - resolution + uncertainty))


def fit_temperature(logits: Float[Tensor, "N C"], targets: Int64[Tensor, " _"]) -> float:
    """Return the number by which logits are divided so that rows are most likely (Guo et al. 2017, equation 9).

    Args:
        logits: of rows that took no part in training; logarithms of probabilities will do, such as those of a sampled
            prediction or an ensemble.
        targets: their classes.

    Raises:
        InputError: fewer than two rows.

    Example:
        >>> logits = 3 * torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> round(fit_temperature(logits, torch.tensor([0, 1, 1])), 2)  # right in two of three: log 2 is due, not 3
        4.33
    """
    if len(logits) < 2:
        raise InputError(f"fitting a temperature needs at least 2 rows, got {len(logits)}")
    from scipy.optimize import minimize_scalar

    z = logits.double().log_softmax(1).clamp_min(-1e4)
    own = z.gather(1, targets.unsqueeze(1)).squeeze(1)

    def cost(log_temperature: float) -> float:
        b = math.exp(-log_temperature)
        return float((torch.logsumexp(z * b, 1) - own * b).mean())

    # The cost is convex in 1 / T; where all rows are right, or none tells anything, the best is an end.
    found: Any = minimize_scalar(cost, bounds=(-5.0, 5.0), method="bounded", options={"xatol": 1e-8})
    return math.exp(float(found.x))


def tempered(probabilities: Float[Tensor, "N C"], temperature: float) -> Float[Tensor, "N C"]:
    """Return `softmax(log(probabilities) / temperature)`: a temperature for any prediction, sampled or not."""
    return (probabilities.double().clamp_min(1e-300).log() / temperature).softmax(1)


def _checked(probabilities: Tensor, targets: Tensor) -> Tensor:
    if len(probabilities) == 0 or len(probabilities) != len(targets):
        raise InputError(
            f"probabilities and targets must have equally many rows, at least 1, got {len(probabilities)} and "
            f"{len(targets)}"
        )
    if int(targets.max()) >= probabilities.shape[1] or int(targets.min()) < 0:
        raise InputError(f"targets must be classes from 0 to {probabilities.shape[1] - 1}, got {int(targets.max())}")
    return probabilities.double()
