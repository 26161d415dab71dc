"""The noise of a regression and its conformal scores, by ensembles on rows that none of their networks has seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dampen.data import Rows, repeated
from dampen.uncertainty import ValuePrediction, fit_noise_factor, interval_scores, predict

_LEAST = 0.01  # share of the squared error: where networks disagree by more than they err, no noise can be estimated


@dataclass(frozen=True, eq=False)
class Noise:
    """What rows show about how far targets are from predictions, in the unit of the networks' outputs.

    Args:
        variance: of all rows' noise; None where the networks return each row's own.
        factor: by which that is multiplied.
        scores: how far targets lie outside, as `dampen.uncertainty.interval_scores` has it.
        weights: how much each of these counts: how often its row was there, times its weight; None where all count
            alike.
        repeats: how often each row is there, predicted by several ensembles.
    """

    variance: float | None
    factor: float
    scores: Float[Tensor, " N"]
    weights: Float[Tensor, " N"] | None = None
    repeats: float = 1.0

    def of(self, prediction: ValuePrediction, unit: float = 1.0) -> ValuePrediction:
        """Return a prediction with its noise; `unit` is that of the prediction in the networks'."""
        if self.variance is None:
            return prediction.with_noise_factor(self.factor)
        return prediction if self.variance <= 0 else prediction.with_noise(self.variance * unit**2)


def noise(ensembles: Sequence[tuple[tuple[nn.Module, ...], Rows]], loss: str | None = None) -> Noise:
    """Return the variance of targets around what ensembles predict, beyond the variance over their networks.

    With it the mean of `epistemic + noise` over unseen rows is the mean squared error there, so that intervals are as
    wide as errors are. Rows are predicted as in cross-conformal prediction (Vovk 2015): by ensembles without them.

    Args:
        ensembles: networks, each with rows that none of them has seen.
        loss: by which they were trained, by name. Of one whose networks return each row's noise, that is multiplied by
            the factor under which the rows are most likely.
    """
    squares, spread, weights = [], [], []
    predictions: list[ValuePrediction] = []
    for networks, rows in ensembles:
        prediction = predict(networks, rows.features, task="regression", loss=loss, return_samples=True)
        assert isinstance(prediction, ValuePrediction)
        predictions.append(prediction)
        squares.append((rows.targets.double() - prediction.mean).square())
        spread.append(prediction.epistemic)
        among_all = rows.weights_among_all
        weights.append(torch.ones(len(rows), dtype=torch.float64) if among_all is None else among_all)
    w = torch.cat(weights)
    error, over_networks = (float((w * torch.cat(parts)).sum() / w.sum()) for parts in (squares, spread))
    targets = [rows.targets.double() for _, rows in ensembles]
    factor, variance = 1.0, None
    if predictions[0].aleatoric is None:
        variance = max(error - over_networks, _LEAST * error)
    else:
        factor = fit_noise_factor(_joined(predictions), torch.cat(targets), w)
    found = Noise(variance, factor, torch.empty(0))
    of_all = zip(predictions, targets, strict=True)
    scores = torch.cat([interval_scores(found.of(part), y) for part, y in of_all])
    return Noise(variance, factor, scores, w, repeated([rows for _, rows in ensembles]))


def _joined(parts: Sequence[ValuePrediction]) -> ValuePrediction:
    """Return predictions of several ensembles, of equally many networks, as one."""

    def of_all(name: str, axis: int = 0) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts], axis)

    return ValuePrediction(
        mean=of_all("mean"),
        epistemic=of_all("epistemic"),
        aleatoric=of_all("aleatoric"),
        samples=parts[0].samples,
        draws=of_all("draws", 1),
        draw_variances=of_all("draw_variances", 1),
    )
