"""The noise of a regression: what is left of an ensemble's error when its networks' disagreement is taken off."""

from collections.abc import Sequence

import torch
from torch import nn

from dampen.data import Rows
from dampen.uncertainty import ValuePrediction, predict

_LEAST = 0.01  # share of the squared error: where networks disagree by more than they err, no noise can be estimated


def noise(ensembles: Sequence[tuple[tuple[nn.Module, ...], Rows]]) -> float:
    """Return the variance of targets around what ensembles predict, beyond the variance over their networks.

    With it the mean of `epistemic + noise` over unseen rows is the mean squared error there, so that intervals are as
    wide as errors are. Rows are predicted as in cross-conformal prediction (Vovk 2015): by ensembles without them.

    Args:
        ensembles: networks, each with rows that none of them has seen.
    """
    squares, spread, weights = [], [], []
    for networks, rows in ensembles:
        prediction = predict(networks, rows.features, task="regression")
        assert isinstance(prediction, ValuePrediction)
        squares.append((rows.targets.double() - prediction.mean).square())
        spread.append(prediction.epistemic)
        weights.append(torch.ones(len(rows), dtype=torch.float64) if rows.weights is None else rows.weights.double())
    w = torch.cat(weights)
    error, over_networks = (float((w * torch.cat(parts)).sum() / w.sum()) for parts in (squares, spread))
    return max(error - over_networks, _LEAST * error)
