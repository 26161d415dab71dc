"""Calibration of probabilities: proper scores and calibration error."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from dampen.errors import InputError
from dampen.uncertainty._weights import check_weights

_GRID = 4096  # points on which residuals are smoothed
_WIDTH = 1e-4  # to which the kernel's width is found
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
    """Return how often the most probable class is right, beside its predicted probability.

    Args:
        probabilities: of the classes.
        targets: the right ones.
        bins: how many.
        adaptive: bins of equally many rows (Nixon et al. 2019) instead of equal width (Guo et al. 2017); rows that
            are equally confident share one, so that the order of rows is nothing.

    Raises:
        InputError: no rows, or fewer than one bin.
    """
    top = _checked(probabilities, targets).max(1)
    return reliability_of(top.values.numpy(), (top.indices == targets).numpy(), bins, adaptive=adaptive)


def reliability_of(
    confidence: Float[np.ndarray, " N"],
    right: Bool[np.ndarray, " N"],
    bins: int = BINS,
    *,
    adaptive: bool = False,
    weights: Float[np.ndarray, " _"] | None = None,
) -> Reliability:
    """Return the same from the most probable class's probability and whether it was right.

    With weights, 0 or larger and some above it, means and error are of rows that count as much.

    Raises:
        InputError: no rows, fewer than one bin, or weights that can't be.
    """
    if bins < 1 or len(right) == 0:
        raise InputError(f"reliability needs rows, and 1 bin or more, got {len(right)} and {bins}")
    if adaptive:
        place = _equally_full(confidence, bins)
    else:
        place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    check_weights(weights, len(right))
    w = np.ones(len(right)) if weights is None else weights
    count, weight = np.bincount(place, minlength=bins), np.bincount(place, w, minlength=bins)
    filled = weight > 0
    sums = (np.bincount(place, w * values, minlength=bins)[filled] for values in (confidence, right))
    mean, accuracy = (s / weight[filled] for s in sums)
    error = float((weight[filled] * np.abs(accuracy - mean)).sum() / w.sum())
    return Reliability(mean, accuracy, count[filled], error)


def _equally_full(confidence: Float[np.ndarray, " N"], bins: int) -> Int64[np.ndarray, " N"]:
    """Return each row's bin, of as many rows as ties allow: those that tie go where the middle one of them belongs."""
    _, which, count = np.unique(confidence, return_inverse=True, return_counts=True)
    bin_of_rank = np.repeat(np.arange(bins), [len(part) for part in np.array_split(confidence, bins)])
    middle = np.cumsum(count) - (count + 1) // 2
    return bin_of_rank[middle][which]


def ece(
    probabilities: Float[Tensor, "N C"], targets: Int64[Tensor, " _"], bins: int = BINS, *, adaptive: bool = False
) -> float:
    """Return the expected calibration error; see `reliability`."""
    return reliability(probabilities, targets, bins, adaptive=adaptive).error


def classwise_ece(
    probabilities: Float[Tensor, "N C"],
    targets: Int64[Tensor, " _"],
    bins: int = BINS,
    *,
    weights: Float[np.ndarray, " _"] | None = None,
) -> float:
    """Return the classwise calibration error: the mean over classes of the error of each one's own probability.

    Kull et al. (2019), "Beyond temperature scaling", equation 3: bins of equal width of each class's probability, with
    the share of rows of that class. It sees what `ece`, of the most probable class alone, does not.

    Raises:
        InputError: no rows, fewer than one bin, or weights that can't be.
    """
    p = _checked(probabilities, targets).numpy()
    y = targets.numpy()
    return float(np.mean([reliability_of(p[:, c], y == c, bins, weights=weights).error for c in range(p.shape[1])]))


def smooth_ece(probabilities: Float[Tensor, "N C"], targets: Int64[Tensor, " _"]) -> float:
    """Return the smooth calibration error of the most probable class's probability; see `smooth_ece_of`."""
    top = _checked(probabilities, targets).max(1)
    return smooth_ece_of(top.values.numpy(), (top.indices == targets).numpy())


def smooth_ece_of(
    confidence: Float[np.ndarray, " N"],
    right: Bool[np.ndarray, " N"],
    weights: Float[np.ndarray, " _"] | None = None,
) -> float:
    """Return SmoothECE (Blasiok and Nakkiran 2023): residuals smoothed by a Gaussian kernel instead of binned.

    The integral of `|E[K_w(t, confidence) (right - confidence)]|` over t in 0 to 1, of the kernel reflected at both
    ends, where its width w is the integral itself: the width that the data needs, so that there is no bin to choose.

    Raises:
        InputError: no rows, or weights that can't be.
    """
    if len(right) == 0:
        raise InputError("the smooth calibration error needs rows, got 0")
    check_weights(weights, len(right))
    from scipy.ndimage import gaussian_filter1d

    # each residual is shared by the two grid points beside it, which keeps its place in the mean
    place = np.clip(confidence, 0, 1) * _GRID - 0.5
    left = np.floor(place).astype(np.int64)
    w = np.ones(len(right)) if weights is None else weights
    share, residual = place - left, w * (right - confidence) / w.sum()
    on_grid = sum(
        np.bincount(np.clip(at, 0, _GRID - 1), weight * residual, minlength=_GRID)
        for at, weight in ((left, 1 - share), (left + 1, share))
    )

    def error(width: float) -> float:
        return float(np.abs(gaussian_filter1d(on_grid, width * _GRID, mode="reflect", truncate=6)).sum())

    low, high = 0.0, 1.0  # the error does not rise with the width
    while high - low > _WIDTH:
        middle = (low + high) / 2
        low, high = (low, middle) if error(middle) <= middle else (middle, high)
    return error(high)


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
        mean_forecast, frequency = (
            np.bincount(place, v, minlength=bins)[filled] / count[filled] for v in (forecast, event)
        )
        share, base = count[filled] / N, event.mean()
        parts += (
            (share * (mean_forecast - frequency) ** 2).sum(),
            (share * (frequency - base) ** 2).sum(),
            base * (1 - base),
        )
    calibration, resolution, uncertainty = map(float, parts)
    return Brier(score, calibration, resolution, uncertainty, score - (calibration - resolution + uncertainty))


def _checked(probabilities: Tensor, targets: Tensor) -> Tensor:
    if len(probabilities) == 0 or len(probabilities) != len(targets):
        raise InputError(
            f"probabilities and targets must have equally many rows, at least 1, got {len(probabilities)} and "
            f"{len(targets)}"
        )
    if int(targets.max()) >= probabilities.shape[1] or int(targets.min()) < 0:
        raise InputError(f"targets must be classes from 0 to {probabilities.shape[1] - 1}, got {int(targets.max())}")
    return probabilities.double()
