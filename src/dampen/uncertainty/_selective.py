"""Selective prediction: what abstaining from the least certain rows gains."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from dampen.errors import InputError


@dataclass(frozen=True)
class Selective:
    """Risk against coverage: rows in the order of their uncertainty, the most certain first.

    Args:
        coverage: share of the rows that are predicted, `1 / N` to 1.
        risk: mean loss of those.
        aurc: area under the curve, the mean of `risk` (Geifman and El-Yaniv 2017).
        augrc: area under the generalised curve, of `risk * coverage`: the mean loss that goes undetected (Traub et al.
            2024). Of wrong rows it is `(1 - AUROC) * accuracy * error + error^2 / 2`.
    """

    coverage: Float[np.ndarray, " N"]
    risk: Float[np.ndarray, " N"]
    aurc: float
    augrc: float

    def at(self, coverage: float) -> float:
        """Return the risk where this share of the rows is predicted, rounded up to whole rows.

        Raises:
            InputError: a coverage outside 0 to 1.
        """
        if not 0 < coverage <= 1:
            raise InputError(f"coverage must be larger than 0 and at most 1, got {coverage!r}")
        return float(self.risk[math.ceil(coverage * len(self.risk) - 1e-9) - 1])


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
    undetected = np.cumsum(loss) / len(loss)
    risk = np.cumsum(loss) / n
    augrc = float(undetected.mean() - undetected[-1] / (2 * len(loss)))  # trapezoids from 0
    return Selective(n / len(n), risk, float(risk.mean()), augrc)
