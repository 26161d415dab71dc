"""Split-conformal prediction: thresholds for prediction sets and intervals of a promised coverage."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from dampen.errors import InputError
from dampen.uncertainty._prediction import ValuePrediction
from dampen.uncertainty._weights import check_weights


def rows_for(level: float) -> int:
    """Return how many calibration rows a finite conformal threshold takes: `ceil(1 / (1 - level)) - 1`.

    Example:
        >>> rows_for(0.9), rows_for(0.95), rows_for(0.999)
        (9, 19, 999)
    """
    if not 0 < level < 1:
        raise InputError(f"a level lies between 0 and 1, got {level!r}")
    return math.ceil(1 / (1 - level) - 1e-9) - 1


def most_coverage(rows: int) -> float:
    """Return the largest level, of three digits, at which so many calibration rows give a finite threshold.

    Example:
        >>> most_coverage(19), most_coverage(300)
        (0.95, 0.996)
    """
    return math.floor(1000 * rows / (rows + 1) + 1e-9) / 1000


def conformal(
    scores: Float[Tensor, " N"],
    level: float = 0.9,
    *,
    repeats: float | int = 1,
    weights: Float[Tensor, " _"] | None = None,
) -> float:
    """Return the threshold that a new row's score does not exceed with probability `level` or more.

    Split conformal prediction (Papadopoulos et al. 2002; Angelopoulos and Bates 2023, equation 1): the
    `ceil((N + 1) level)`-th smallest score, infinite where N is too small for the level. It holds for any network and
    any distribution, as long as the rows are exchangeable. `rows_for` gives the least number of rows. With weights the
    quantile is that of the scores under their shares, of which a new row takes one row's mean (Tibshirani, Barber,
    Candes and Ramdas 2019, equation 4, for weights that stand for how often a row was there).

    Args:
        scores: of rows that took no part in training: `1 - probability of the right class`, or
            `|target - mean| / deviation`.
        level: of the coverage.
        repeats: how often each row is among them, predicted by one network after the other.
        weights: how much each counts, 0 or larger; None where all count alike. A row of weight 0 is none.

    Raises:
        InputError: no rows, a level outside 0 to 1, or weights that can't be.

    Example:
        >>> scores = torch.tensor([1.0, 2.0, 3.0])
        >>> conformal(scores, 0.5), conformal(scores, 0.5, weights=torch.tensor([8.0, 1.0, 1.0]))
        (2.0, 1.0)
    """
    check_weights(weights, len(scores))
    if weights is not None:
        scores, weights = scores[weights > 0], weights[weights > 0].double()
    N = len(scores)
    if not 0 < level < 1 or N == 0:
        raise InputError(f"conformal prediction needs rows and a level between 0 and 1, got {N} rows and {level!r}")
    # equal weights take the count of rows: a sum of fractions could miss it by rounding
    if weights is None or bool((weights == weights[0]).all()):
        k = math.ceil((N + repeats) * level - 1e-9)
    else:
        reached = weights[scores.argsort()].cumsum(0) * (N / weights.sum())
        k = int((reached < (N + repeats) * level - 1e-9 * N).sum()) + 1
    return math.inf if k > N else float(scores.double().sort().values[k - 1])


def class_scores(probabilities: Float[Tensor, "N C"], targets: Int64[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Return `1 - probability of the right class`, the conformal score of classes (Sadinle, Lei and Wasserman 2019)."""
    return 1 - probabilities.gather(1, targets.unsqueeze(1)).squeeze(1)


SETS = ("lac", "aps", "raps")
_PENALTIES = (0.001, 0.01, 0.1, 0.2, 0.5)  # Angelopoulos et al. (2021), appendix E, over which the set size is least


@dataclass(frozen=True)
class SetRule:
    """Which classes belong to a prediction set: those whose score is at most a threshold.

    Args:
        name: `lac`, sets of least mean size (Sadinle, Lei and Wasserman 2019); `aps`, sets whose size follows the row's
            difficulty, with coverage more even over rows (Romano, Sesia and Candes 2020); `raps`, the same with a
            penalty on large sets (Angelopoulos et al. 2021).
        penalty: of each class after the first `free` ones: `lambda` of RAPS.
        free: `k_reg` of RAPS.

    Raises:
        InputError: no such name.
    """

    name: str = "lac"
    penalty: float = 0.0
    free: int = 0

    def __post_init__(self) -> None:
        if self.name not in SETS:
            raise InputError(f"sets must be {', '.join(SETS[:-1])} or {SETS[-1]}, got {self.name!r}")

    def scores(
        self, probabilities: Float[Tensor, "N C"], uniforms: Float[Tensor, " N"] | None = None
    ) -> Float[Tensor, "N C"]:
        """Return the conformal score of every class.

        Of `aps` and `raps` the probability of all classes that are more probable, and that of the class itself times
        the row's uniform number, without which coverage would be more than promised; None counts it in full.
        """
        p = probabilities.double()
        if self.name == "lac":
            return 1 - p
        order = p.argsort(dim=1, descending=True, stable=True)
        in_order = p.gather(1, order)
        share = 1.0 if uniforms is None else uniforms.to(p).unsqueeze(1)
        before = in_order.cumsum(1) - in_order
        rank = torch.arange(1, p.shape[1] + 1, device=p.device)
        scores = before + share * in_order + self.penalty * (rank - self.free).clamp_min(0)
        return torch.empty_like(p).scatter_(1, order, scores)

    def sets(
        self, probabilities: Float[Tensor, "N C"], threshold: float, uniforms: Float[Tensor, " N"] | None = None
    ) -> Bool[Tensor, "N C"]:
        """Return which classes belong to each row's set; of `aps` and `raps` the most probable one always does."""
        if self.name == "lac":
            return 1 - probabilities <= threshold  # as scores are: p >= 1 - threshold may round otherwise
        found = self.scores(probabilities, uniforms) <= threshold
        return found.scatter_(1, probabilities.argmax(1, keepdim=True), True)


def tuned_raps(
    probabilities: Float[Tensor, "N C"],
    targets: Int64[Tensor, " N"],
    level: float,
    uniforms: Float[Tensor, " N"] | None = None,
    weights: Float[Tensor, " N"] | None = None,
) -> SetRule:
    """Return RAPS with the penalty whose sets are smallest on these rows, which must not be those of the threshold.

    Classes up to the rank that holds the right one at the level are free of it (Angelopoulos et al. 2021, algorithm 4).
    """
    own = probabilities.gather(1, targets.unsqueeze(1))
    ranks = (probabilities > own).sum(1) + 1
    most = conformal(ranks.double(), level, weights=weights)
    free = int(ranks.max()) if math.isinf(most) else int(most)
    rules = [SetRule("raps", penalty, free) for penalty in _PENALTIES]

    def size(rule: SetRule) -> float:
        scores = rule.scores(probabilities, uniforms).gather(1, targets.unsqueeze(1)).squeeze(1)
        sizes = rule.sets(probabilities, conformal(scores, level, weights=weights), uniforms).sum(1).double()
        return float(sizes.mean() if weights is None else (weights * sizes).sum() / weights.sum())

    return min(rules, key=size)


def value_scores(
    targets: Float[Tensor, " N"], mean: Float[Tensor, " N"], deviation: Float[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """Return `|target - mean| / deviation`, the conformal score of values (Lei et al. 2018, section 5.2)."""
    return (targets.to(mean) - mean).abs() / deviation


def interval_scores(prediction: ValuePrediction, targets: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Return how far targets lie outside, in what `intervals` widens by: deviations, or the unit beyond quantiles.

    Of a prediction with quantiles that is conformalised quantile regression (Romano, Patterson and Candes 2019,
    equation 6), of others `value_scores`.
    """
    if prediction.quantiles is None:
        return value_scores(targets, prediction.mean, prediction.standard_deviation)
    low, high = prediction.quantiles.unbind(1)
    return torch.maximum(low - targets.to(low), targets.to(high) - high)


def intervals(prediction: ValuePrediction, threshold: float) -> Float[Tensor, "N 2"]:
    """Return the ends of the intervals of all targets whose score is at most a threshold."""
    if prediction.quantiles is None:
        half = threshold * prediction.standard_deviation
        return torch.stack([prediction.mean - half, prediction.mean + half], 1)
    low, high = prediction.quantiles.unbind(1)
    middle = (low + high) / 2
    return torch.stack([torch.minimum(low - threshold, middle), torch.maximum(high + threshold, middle)], 1)
