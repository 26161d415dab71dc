"""Greedy ensemble selection with replacement: how often each candidate belongs into an ensemble."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dampen._checks import integer

_BAGS, _SHARE = 20, 0.5  # Caruana et al. (2004), section 2.3: that many selections, each among half of the candidates


def select_ensemble(
    predictions: Float[Tensor, "L N C"],
    cost: Callable[[Tensor], Tensor],
    n: int,
    *,
    first: int = 0,
    most: int | None = None,
    bagged: bool = False,
    seed: int = 0,
) -> list[int]:
    """Return how often each candidate is drawn into an ensemble whose prediction is the mean of what was drawn.

    Caruana, Niculescu-Mizil, Crew and Ksikes (2004), "Ensemble selection from libraries of models": candidates are
    added one by one, each time the one with which the ensemble's cost is least, and may be added again. The ensemble
    begins with one that is given (their sorted initialisation), so that it does not begin with a lucky one; where rows
    are few, selections among random halves of the candidates are averaged (their bagged selection).

    Args:
        predictions: of each candidate on rows that it was not trained on: probabilities, or numbers.
        cost: of predictions `[..., N, C]`, one number for each `[...]`.
        n: size of the ensemble.
        first: the candidate to begin with.
        most: how often one can be drawn; None: as often as it is best.
        bagged: whether selections among halves of the candidates are averaged.
        seed: of these halves.

    Returns:
        A count for each candidate; their sum is n.

    Raises:
        InputError: n below 1.

    Example:
        >>> import torch
        >>> values = torch.tensor([[[1.0], [0.0]], [[-1.0], [0.0]], [[3.0], [3.0]]])
        >>> select_ensemble(values, lambda mean: mean.square().mean((-1, -2)), 4)
        [2, 2, 0]
    """
    integer("n", n)
    L = len(predictions)
    limit = n if most is None else max(most, math.ceil(n / L))
    if not bagged or L < 3:
        return _greedy(predictions, cost, n, first, limit, list(range(L)))
    rng, votes = np.random.default_rng(seed), np.zeros(L)
    others = [i for i in range(L) if i != first]
    for _ in range(_BAGS):
        half = rng.choice(others, math.ceil(_SHARE * len(others)), replace=False)
        votes += _greedy(predictions, cost, n, first, n, [first, *sorted(map(int, half))])
    return _rounded(votes * n / votes.sum(), n, limit)


def _greedy(
    predictions: Float[Tensor, "L N C"],
    cost: Callable[[Tensor], Tensor],
    n: int,
    first: int,
    limit: int,
    among: list[int],
) -> list[int]:
    counts = [0] * len(predictions)
    counts[first] = 1
    total = predictions[first]
    for k in range(2, n + 1):
        free = [i for i in among if counts[i] < limit]
        best = free[int(cost((total + predictions[free]) / k).argmin())]
        counts[best] += 1
        total = total + predictions[best]
    return counts


def _rounded(shares: np.ndarray, n: int, limit: int) -> list[int]:
    """Return whole numbers of sum n near to shares: the largest remainders are rounded up (Hamilton's method)."""
    shares = np.minimum(shares, limit)
    counts = np.floor(shares + 1e-9).astype(int)
    while counts.sum() < n:
        counts[int(np.argmax(np.where(counts < limit, shares - counts, -np.inf)))] += 1
    return counts.tolist()
