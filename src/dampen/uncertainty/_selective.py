"""Selective prediction: what abstaining from the least certain rows gains."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from dampen.errors import InputError
from dampen.uncertainty._weights import check_weights


@dataclass(frozen=True)
class Selective:
    """Risk against coverage: rows in the order of their uncertainty, the most certain first.

    Args:
        coverage: share of the rows that are predicted, `1 / N` to 1; of their weights, where they have some.
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
        at = int(np.searchsorted(self.coverage, coverage - 1e-9 / len(self.risk)))
        return float(self.risk[min(at, len(self.risk) - 1)])


def selective(
    losses: Float[Tensor, " _"] | Bool[Tensor, " _"],
    uncertainty: Float[Tensor, " _"],
    weights: Float[np.ndarray, " _"] | None = None,
) -> Selective:
    """Return the risk-coverage curve; rows that are equally uncertain count with their mean loss.

    Args:
        losses: of each row; for accuracy whether it is wrong.
        uncertainty: more is less certain.
        weights: how much each row counts; None where all count alike. A row of weight 0 is none.

    Raises:
        InputError: no rows, not equally many, or weights that can't be.
    """
    if len(losses) != len(uncertainty) or len(losses) == 0:
        raise InputError(f"losses and uncertainty must have equally many rows, got {len(losses)}, {len(uncertainty)}")
    check_weights(weights, len(losses))
    loss, score = losses.double().numpy(), uncertainty.double().numpy()
    w = np.ones(len(loss)) if weights is None else weights
    order = np.argsort(score, kind="stable")
    order = order[w[order] > 0]
    loss, score, w = loss[order], score[order], w[order]
    _, group = np.unique(score, return_inverse=True)
    loss = (np.bincount(group, w * loss) / np.bincount(group, w))[group]  # no order among equals: their mean
    reached, lost = np.cumsum(w), np.cumsum(w * loss)
    risk, share = lost / reached, w / reached[-1]
    augrc = float(share @ (lost - w * loss / 2)) / reached[-1]  # trapezoids from 0
    return Selective(reached / reached[-1], risk, float(share @ risk), augrc)
