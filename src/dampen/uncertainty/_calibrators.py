"""Maps from a network's probabilities to calibrated ones, fitted on rows that took no part in training, and the choice.

Temperature scaling has one parameter, vector scaling two for each class, isotonic regression as many as rows support.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from dampen.errors import InputError
from dampen.uncertainty._temperature import effective_rows, find_temperature, tempered
from dampen.uncertainty._weights import check_weights

CALIBRATORS = ("temperature", "vector", "isotonic")
_FOLDS = 5
_LEAST_ROWS = 50  # different ones, below which a cross-fitted difference is noise
_LEAST_WRONG = 10  # rows, below which nothing shows how sharp probabilities should be
_FIRM = 2.0  # standard errors that another calibrator has to be better by
_LOG_ENDS, _BIAS_ENDS = (-5.0, 5.0), (-20.0, 20.0)  # of vector scaling, where rows would have it infinite
_TINY = 1e-300


@dataclass(frozen=True)
class TemperatureScaling:
    """`softmax(logits / temperature)` (Guo et al. 2017, section 4.2)."""

    name: ClassVar[str] = "temperature"
    temperature: float

    def __call__(self, probabilities: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """Return calibrated probabilities."""
        return tempered(probabilities, self.temperature)


@dataclass(frozen=True)
class VectorScaling:
    """`softmax(weights * logits + biases)` (Guo et al. 2017, section 4.2), of the logarithms of probabilities."""

    name: ClassVar[str] = "vector"
    weights: tuple[float, ...]
    biases: tuple[float, ...]

    def __call__(self, probabilities: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """Return calibrated probabilities."""
        logits = probabilities.double().clamp_min(_TINY).log()
        return (logits * logits.new_tensor(self.weights) + logits.new_tensor(self.biases)).softmax(1)


@dataclass(frozen=True)
class Isotonic:
    """A rising step function of each class's probability, normalised over classes (Zadrozny and Elkan 2002).

    Args:
        knots: of each class the probabilities between which it is linear, and its values there.
        least: value below which and above one minus which no function goes: a share of 0 in N rows is no proof.
    """

    name: ClassVar[str] = "isotonic"
    knots: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]
    least: float

    def __call__(self, probabilities: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """Return calibrated probabilities."""
        p = probabilities.double().numpy()
        each = [np.interp(column, x, y) for column, (x, y) in zip(p.T, self.knots, strict=True)]
        values = torch.from_numpy(np.stack(each, 1).clip(self.least, 1 - self.least))
        return values / values.sum(1, keepdim=True)


Calibrator = TemperatureScaling | VectorScaling | Isotonic
_Fit = Callable[[Tensor, Tensor, Tensor | None], Calibrator]
_Split = tuple[Bool[np.ndarray, " N"], Bool[np.ndarray, " N"]]  # that are fitted on, and that are left out


def fit_vector(
    probabilities: Float[Tensor, "N C"], targets: Int64[Tensor, " N"], weights: Float[Tensor, " N"] | None = None
) -> VectorScaling:
    """Return the vector scaling under which rows are most likely, each as often as its weight has it."""
    check_weights(weights, len(targets))
    from scipy.optimize import minimize

    logits = probabilities.double().clamp_min(1e-30).log().numpy()
    N, C = logits.shape
    hot = np.zeros((N, C))
    hot[np.arange(N), targets.numpy()] = 1
    shares = np.full(N, 1 / N) if weights is None else (weights.double() / weights.double().sum()).numpy()

    def cost(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        w = np.exp(parameters[:C])
        z = logits * w + parameters[C:]
        z -= z.max(1, keepdims=True)
        total = np.log(np.exp(z).sum(1, keepdims=True))
        error = (np.exp(z - total) - hot) * shares[:, None]
        gradient = np.r_[(error * logits).sum(0) * w, error.sum(0)]
        return float(shares @ (total[:, 0] - (z * hot).sum(1))), gradient

    bounds = [_LOG_ENDS] * C + [_BIAS_ENDS] * C
    options = {"maxiter": 500, "ftol": 1e-13, "gtol": 1e-8}
    found: Any = minimize(cost, np.zeros(2 * C), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    biases = found.x[C:] - found.x[C:].mean()  # a softmax does not see their mean
    return VectorScaling(tuple(np.exp(found.x[:C]).tolist()), tuple(biases.tolist()))


def fit_isotonic(
    probabilities: Float[Tensor, "N C"],
    targets: Int64[Tensor, " N"],
    weights: Float[Tensor, " N"] | None = None,
    *,
    repeats: float | int = 1,
) -> Isotonic:
    """Return the isotonic regression of each class against the others; of two classes one is the other's mirror."""
    check_weights(weights, len(targets))
    from sklearn.isotonic import IsotonicRegression

    p, y = probabilities.double().numpy(), targets.numpy()
    w = None if weights is None else weights.double().numpy()
    knots = []
    for c in range(p.shape[1]):
        model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p[:, c], y == c, sample_weight=w)
        knots.append((tuple(model.X_thresholds_.tolist()), tuple(model.y_thresholds_.tolist())))
    return Isotonic(tuple(knots), 1 / (effective_rows(weights, len(y)) / repeats + 2))


@dataclass(frozen=True, eq=False)
class Chosen:
    """A calibrator with what it makes of the rows that it was fitted on.

    Args:
        calibrator: fitted on all rows.
        probabilities: of these rows after calibration; by calibrators fitted without them where it has more than one
            parameter, so that thresholds which follow are not too tight.
        gains: cross-fitted nll of a temperature less that of each other calibrator, with its standard error.
    """

    calibrator: Calibrator
    probabilities: Float[Tensor, "N C"]
    gains: dict[str, tuple[float, float]]


def choose(
    probabilities: Float[Tensor, "N C"],
    targets: Int64[Tensor, " N"],
    name: str = "auto",
    *,
    rows: Int64[np.ndarray, " N"] | None = None,
    networks: Int64[np.ndarray, " N"] | None = None,
    repeats: float | int = 1,
    weights: Float[Tensor, " N"] | None = None,
) -> Chosen:
    """Return a calibrator fitted on rows that took no part in training.

    `auto` takes the temperature, unless another calibrator's nll, cross-fitted in five folds of the rows, is smaller by
    more than two standard errors of the paired difference: what has more parameters has to show that it needs them, on
    50 different rows or more, 10 of them predicted wrongly. Where several networks have predicted the rows, a fold's
    networks have no part in it either: what suits them alone would not suit the one that is calibrated.

    Args:
        probabilities: of these rows.
        targets: their classes.
        name: `auto`, `temperature`, `vector` or `isotonic`.
        rows: the number of each row, where several networks have predicted one: it stays in one fold.
        networks: the number of the network that has predicted it.
        repeats: how often each row is among them.
        weights: how much each counts, above 0; None where all count alike.

    Raises:
        InputError: no such name, fewer than two rows, or weights that can't be.

    Example:
        >>> p = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).repeat(20, 1)
        >>> choose(p, torch.tensor([0, 1]).repeat(20)).calibrator.name
        'temperature'
    """
    if name not in ("auto", *CALIBRATORS):
        raise InputError(f"calibrator must be auto, {', '.join(CALIBRATORS)}, got {name!r}")
    of_temperature = partial(fit_temperature_scaling, repeats=repeats)
    temperature = of_temperature(probabilities, targets, weights)
    plain = Chosen(temperature, temperature(probabilities), {})
    if name == "temperature":
        return plain
    rows = np.arange(len(targets)) if rows is None else rows
    splits = _splits(rows, np.zeros(len(rows), np.int64) if networks is None else networks, targets.numpy())
    counting = np.ones(len(rows), bool) if weights is None else (weights > 0).numpy()
    wrong = float((probabilities.argmax(1) != targets).numpy()[counting].sum()) / repeats
    enough = len(np.unique(rows[counting])) >= _LEAST_ROWS and wrong >= _LEAST_WRONG
    if name == "auto" and not enough:
        return plain
    fits: dict[str, _Fit] = {"vector": fit_vector, "isotonic": partial(fit_isotonic, repeats=repeats)}
    if name != "auto":
        held_out = _cross_fitted(fits[name], probabilities, targets, weights, splits)
        return Chosen(fits[name](probabilities, targets, weights), held_out, {})
    scaled = _cross_fitted(of_temperature, probabilities, targets, weights, splits)
    least = _nll(scaled, targets)
    best, best_gain, gains = plain, 0.0, {}
    for other, fit in fits.items():
        held_out = _cross_fitted(fit, probabilities, targets, weights, splits)
        gains[other] = gain, error = _paired(least - _nll(held_out, targets), rows, weights)
        if gain > max(_FIRM * error, best_gain):
            best, best_gain = Chosen(fit(probabilities, targets, weights), held_out, {}), gain
    return Chosen(best.calibrator, best.probabilities, gains)


def fit_temperature_scaling(
    probabilities: Float[Tensor, "N C"],
    targets: Int64[Tensor, " N"],
    weights: Float[Tensor, " N"] | None = None,
    *,
    repeats: float | int = 1,
) -> TemperatureScaling:
    """Return the mildest temperature that rows support; see `find_temperature`."""
    logits = probabilities.log().clamp_min(-700)
    return TemperatureScaling(find_temperature(logits, targets, repeats=repeats, weights=weights).value)


def _folds(rows: Int64[np.ndarray, " N"], targets: Int64[np.ndarray, " N"]) -> Int64[np.ndarray, " N"]:
    """Return the fold of each prediction: classes have their share in each, a row's predictions are in one."""
    _, first, which = np.unique(rows, return_index=True, return_inverse=True)
    shuffled = np.random.default_rng(0).permutation(len(first))
    order = shuffled[np.argsort(targets[first][shuffled], kind="stable")]
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(order)) % _FOLDS
    return fold[which]


def _splits(
    rows: Int64[np.ndarray, " N"], networks: Int64[np.ndarray, " N"], targets: Int64[np.ndarray, " N"]
) -> list[_Split]:
    """Return parts of the predictions, each with those that neither its rows nor its networks have a part in."""
    _, network = np.unique(networks, return_inverse=True)
    n = int(network.max()) + 1
    fold = _folds(rows, targets)
    shared = n > 1 and len(np.unique(rows[network == 0])) == len(np.unique(rows))
    if n == 1:
        parts = [fold == k for k in range(_FOLDS)]
    elif shared:  # two halves of the networks by the folds of their rows
        parts = [(network % 2 == half) & (fold == k) for half in range(2) for k in range(_FOLDS)]
    else:
        parts = [network % _FOLDS == k for k in range(min(n, _FOLDS))]
    splits = []
    for part in (part for part in parts if part.any()):
        fitted = ~np.isin(rows, rows[part])
        splits.append((fitted if n == 1 else fitted & ~np.isin(network, network[part]), part))
    return splits


def _cross_fitted(
    fit: _Fit, p: Tensor, y: Tensor, weights: Tensor | None, splits: list[_Split]
) -> Float[Tensor, "N C"]:
    """Return probabilities by calibrators that have not seen their rows."""
    found = p.double().clone()
    for fitted, part in ((torch.from_numpy(a), torch.from_numpy(b)) for a, b in splits):
        if int(fitted.sum()) > 1:
            found[part] = fit(p[fitted], y[fitted], None if weights is None else weights[fitted])(p[part])
    return found


def _nll(p: Tensor, targets: Tensor) -> Float[np.ndarray, " N"]:
    return -p.gather(1, targets.unsqueeze(1)).squeeze(1).clamp_min(_TINY).log().numpy()


def _paired(
    gains: Float[np.ndarray, " N"], rows: Int64[np.ndarray, " N"], weights: Float[Tensor, " N"] | None
) -> tuple[float, float]:
    """Return a mean over rows and its standard error; a row's predictions count as one."""
    _, which = np.unique(rows, return_inverse=True)
    each = np.bincount(which, gains) / np.bincount(which)
    if weights is None:
        return float(each.mean()), float(each.std(ddof=1) / math.sqrt(len(each)))
    w = np.bincount(which, weights.double().numpy()) / np.bincount(which)
    mean, n = float(np.average(each, weights=w)), len(each)
    # of a ratio: its denominator, the weights, is drawn with the rows
    return mean, float(np.sqrt(np.square(w * (each - mean)).sum() * n / (n - 1)) / w.sum())
