"""Out-of-distribution detection: how well an uncertainty separates rows of other data."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dampen.errors import InputError


@dataclass(frozen=True)
class OutOfDistribution:
    """How well a score separates rows of another distribution.

    Args:
        auroc: probability that an out-of-distribution row scores higher than an own one.
        aupr: average precision for finding out-of-distribution rows.
        fpr95: false positive rate at a true positive rate of 95 %; out-of-distribution rows are the positives.
        auroc_interval: of 95 % (Hanley and McNeil 1982, "The meaning and use of the area under a ROC curve").
    """

    auroc: float
    aupr: float
    fpr95: float
    auroc_interval: tuple[float, float]


def out_of_distribution(own: Float[Tensor, " N"], other: Float[Tensor, " M"]) -> OutOfDistribution:
    """Return how well an uncertainty separates out-of-distribution rows.

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
    area = float(roc_auc_score(truth, score))
    return OutOfDistribution(
        area,
        float(average_precision_score(truth, score)),
        float(fpr[tpr >= 0.95].min()),
        _interval(area, len(own), len(other)),
    )


def _interval(area: float, n_own: int, n_other: int) -> tuple[float, float]:
    """Return a 95 % interval; the area itself is drawn half a pair of rows towards 1/2, so that 1 has a width, too."""
    a = (area * n_own * n_other + 0.5) / (n_own * n_other + 1)
    two_others, two_own = a / (2 - a) - a**2, 2 * a**2 / (1 + a) - a**2
    variance = (a * (1 - a) + (n_other - 1) * two_others + (n_own - 1) * two_own) / (n_own * n_other)
    reach = 1.96 * max(variance, 0.0) ** 0.5
    return max(0.0, min(area, a - reach)), min(1.0, max(area, a + reach))
