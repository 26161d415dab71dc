"""Temperature scaling: one number that makes probabilities as sharp as they are right, where rows suffice to fit it."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dampen.errors import InputError
from dampen.uncertainty._weights import check_weights

_ENDS = -5.0, 5.0  # of the logarithm of a temperature: 0.0067 to 148
_DOUBT = 3.841  # twice the log likelihood that noise alone makes in one of twenty cases: chi-squared, one degree, 95 %
_NO_DOUBT = 100.0  # the same where the likeliest temperature stands; the limits of a firm threshold


@dataclass(frozen=True)
class Temperature:
    """A temperature and how well rows determine it.

    Args:
        value: what logits are divided by.
        likeliest: the temperature under which the rows are most likely (Guo et al. 2017, equation 9).
        evidence: twice the log likelihood that it gains over a temperature of 1.
        wrong: rows whose most probable class is not theirs; part of a row where each was predicted several times.
    """

    value: float
    likeliest: float
    evidence: float
    wrong: float


def find_temperature(
    logits: Float[Tensor, "N C"],
    targets: Int64[Tensor, " _"],
    *,
    repeats: float | int = 1,
    weights: Float[Tensor, " N"] | None = None,
) -> Temperature:
    """Return the mildest temperature that rows support, and how well they determine it.

    The likeliest temperature of few rows, or of rows of which hardly one is wrong, is mostly noise: where all are
    right it is 0. So the one nearest to 1 inside the 95 % likelihood interval is taken; as the evidence grows, it moves
    to the likeliest one (a firm threshold, as Gao and Bruce 1997 have it for wavelets). Rows without an error can't
    show how much sharper probabilities should be, and leave them as they are.

    Args:
        logits: of rows that took no part in training; logarithms of probabilities will do, such as those of a sampled
            prediction or an ensemble.
        targets: their classes.
        repeats: how often each row is among them: predictions of a row by several networks are no several rows.
        weights: how much each row counts, one of 0 as if it were not there; None where all count alike. Their evidence
            is that of as many rows as have the same variance, `sum(w)^2 / sum(w^2)` (Kish 1965).

    Raises:
        InputError: fewer than two rows, or weights that can't be.

    Example:
        >>> logits = 4 * torch.eye(2).repeat(20, 1)
        >>> find_temperature(logits, torch.arange(2).repeat(20)).value  # all right: no temperature can be fitted
        1.0
    """
    if len(logits) < 2:
        raise InputError(f"fitting a temperature needs at least 2 rows, got {len(logits)}")
    check_weights(weights, len(logits))
    from scipy.optimize import minimize_scalar

    z = logits.double().log_softmax(1).clamp_min(-1e4)
    own = z.gather(1, targets.unsqueeze(1)).squeeze(1)
    shares = None if weights is None else weights.double() / weights.double().sum()
    rows = effective_rows(weights, len(z)) / repeats

    def cost(log_temperature: float) -> float:
        b = math.exp(-log_temperature)
        each = torch.logsumexp(z * b, 1) - own * b
        return float(each.mean() if shares is None else shares @ each)

    # The cost is convex in 1 / T; where all rows are right, or all are uninformative, the best is an end.
    optimum: Any = minimize_scalar(cost, bounds=_ENDS, method="bounded", options={"xatol": 1e-8})
    likeliest = float(optimum.x)
    least, missed = cost(likeliest), own < z.amax(1)
    wrong = float((missed if weights is None else missed & (weights > 0)).sum()) / repeats
    evidence = max(0.0, 2 * rows * (cost(0.0) - least))
    value = likeliest
    if evidence <= _DOUBT or (wrong == 0 and likeliest < 0):
        value = 0.0
    elif evidence < _NO_DOUBT:
        within = _DOUBT * (_NO_DOUBT - evidence) / (_NO_DOUBT - _DOUBT)
        value = _nearest(lambda t: 2 * rows * (cost(t) - least) <= within, likeliest)
    return Temperature(math.exp(value), math.exp(likeliest), evidence, wrong)


def fit_temperature(
    logits: Float[Tensor, "N C"],
    targets: Int64[Tensor, " _"],
    *,
    repeats: float | int = 1,
    weights: Float[Tensor, " N"] | None = None,
) -> float:
    """Return the number by which logits are divided so that probabilities fit rows, 1 where these don't determine it.

    See `find_temperature` for the arguments and for what is done where rows are few, or hardly one is wrong.

    Raises:
        InputError: fewer than two rows, or weights that can't be.

    Example:
        >>> logits = 3 * torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).repeat(100, 1)
        >>> round(fit_temperature(logits, torch.tensor([0, 1, 1]).repeat(100)), 2)  # right in two of three: log 2
        4.33
    """
    return find_temperature(logits, targets, repeats=repeats, weights=weights).value


def tempered(probabilities: Float[Tensor, "N C"], temperature: float) -> Float[Tensor, "N C"]:
    """Return `softmax(log(probabilities) / temperature)`: a temperature for any prediction, sampled or not."""
    return (probabilities.double().clamp_min(1e-300).log() / temperature).softmax(1)


def effective_rows(weights: Float[Tensor, " N"] | None, n: int) -> float:
    """Return how many rows of equal weight have a mean of the same variance as n rows of these weights."""
    if weights is None:
        return float(n)
    w = weights.double()
    return float(w.sum().square() / w.square().sum())


def _nearest(supported: Any, likeliest: float) -> float:
    """Return the logarithm of a temperature that is nearest to 0 and supported, by bisection."""
    outside, inside = 0.0, likeliest
    for _ in range(60):
        middle = (outside + inside) / 2
        outside, inside = (outside, middle) if supported(middle) else (middle, inside)
    return inside
