"""What to do with uncertainty: selective prediction, out-of-distribution detection, conformal prediction."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from dampen.errors import InputError


@dataclass(frozen=True)
class Selective:
    """Risk against coverage: rows in the order of their uncertainty, the most certain first.

    Args:
        coverage: share of the rows that are answered, `1 / N` to 1.
        risk: mean loss of those.
        aurc: area under the curve, the mean of `risk` (Geifman and El-Yaniv 2017).
    """

    coverage: Float[np.ndarray, " N"]
    risk: Float[np.ndarray, " N"]
    aurc: float

    def at(self, coverage: float) -> float:
        """Return the risk where this share of the rows is answered, rounded up to whole rows.

        Raises:
            InputError: a coverage outside 0 to 1.
        """
        if not 0 < coverage <= 1:
            raise InputError(f"coverage must be larger than 0 and at most 1, got {coverage!r}")
        return float(self.risk[math.ceil(coverage * len(self.risk) - 1e-9) - 1])


@dataclass(frozen=True)
class OutOfDistribution:
    """How well a score tells rows of another distribution from those of the own.

    Args:
        auroc: probability that an out-of-distribution row scores higher than an own one.
        aupr: average precision for finding out-of-distribution rows.
        fpr95: false positive rate at a true positive rate of 95 %; out-of-distribution rows are the positives.
    """

    auroc: float
    aupr: float
    fpr95: float


def selective(losses: Float[Tensor, " _"] | Bool[Tensor, " _"], uncertainty: Float[Tensor, " _"]) -> Selective:
    """Return the risk-coverage curve; rows that are equally uncertain count with their mean loss.

    Args:
        losses: of each row; for accuracy whether it is wrong.
        uncertainty: more is less certain.

    Raises:
        InputError: no rows, or not equally many.
    """
    if len(losses) != len(uncertainty) or len(losses) == 0:
        raise InputError(f"losses and uncertainty must have equally many rows, got {len(losses)}, {len(uncertainty)}")
    loss, score = losses.double().numpy(), uncertainty.double().numpy()
    order = np.argsort(score, kind="stable")
    loss, score = loss[order], score[order]
    _, group = np.unique(score, return_inverse=True)
    loss = (np.bincount(group, loss) / np.bincount(group))[group]  # no order among equals: their mean
    n = np.arange(1, len(loss) + 1)
    risk = np.cumsum(loss) / n
    return Selective(n / len(n), risk, float(risk.mean()))


def out_of_distribution(own: Float[Tensor, " N"], other: Float[Tensor, " M"]) -> OutOfDistribution:
    """Return how well an uncertainty tells out-of-distribution rows from own ones.

    Args:
        own: uncertainty of rows such as those of the training.
        other: of the other data.

    Raises:
        InputError: one of them has no rows.
    """
    if not len(own) or not len(other):
        raise InputError(f"both data sets need rows, got {len(own)} and {len(other)}")
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    truth = np.r_[np.zeros(len(own)), np.ones(len(other))]
    score = np.r_[own.double().numpy(), other.double().numpy()]
    fpr, tpr, _ = roc_curve(truth, score, drop_intermediate=False)
    return OutOfDistribution(
        float(roc_auc_score(truth, score)), float(average_precision_score(truth, score)), float(fpr[tpr >= 0.95].min())
    )


def rows_for(level: float) -> int:
    """Return how many calibration rows a finite conformal threshold takes: `ceil(1 / (1 - level)) - 1`.

    Example:
        >>> rows_for(0.9), rows_for(0.95), rows_for(0.999)
        (9, 19, 999)
    """
    if not 0 < level < 1:
        raise InputError(f"a level lies between 0 and 1, got {level!r}")
    return math.ceil(1 / (1 - level) - 1e-9) - 1


def conformal(scores: Float[Tensor, " N"], level: float = 0.9, *, repeats: float | int = 1) -> float:
    """Return the threshold that a new row's score does not exceed with probability `level` or more.

    Split conformal prediction (Papadopoulos et al. 2002; Angelopoulos and Bates 2023, equation 1): the
    `ceil((N + 1) level)`-th smallest score, infinite where N is too small for the level. It holds for any network and
    any distribution, as long as the rows are exchangeable. `rows_for` gives the least number of rows.

    Args:
        scores: of rows that took no part in training: `1 - probability of the right class`, or
            `|target - mean| / deviation`.
        level: of the coverage.
        repeats: how often each row is among them, predicted by one network after the other.

    Raises:
        InputError: no rows, or a level outside 0 to 1.
    """
    N = len(scores)
    if not 0 < level < 1 or N == 0:
        raise InputError(f"conformal prediction needs rows and a level between 0 and 1, got {N} rows and {level!r}")
    k = math.ceil((N + repeats) * level - 1e-9)
    return math.inf if k > N else float(scores.double().sort().values[k - 1])


def class_scores(probabilities: Float[Tensor, "N C"], targets: Int64[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Return `1 - probability of the right class`, the conformal score of classes (Sadinle, Lei and Wasserman 2019)."""
    return 1 - probabilities.gather(1, targets.unsqueeze(1)).squeeze(1)


def value_scores(
    targets: Float[Tensor, " N"], mean: Float[Tensor, " N"], deviation: Float[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """Return `|target - mean| / deviation`, the conformal score of values (Lei et al. 2018, section 5.2)."""
    return (targets.to(mean) - mean).abs() / deviation
