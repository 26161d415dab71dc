"""What is known about rows after many samples: class probabilities or values, and how uncertain they are and why."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from dampen._html import ROWS, lines, table
from dampen._io import counted
from dampen.errors import InputError
from dampen.uncertainty._weights import check_weights


@dataclass(frozen=True, eq=False)
class ClassPrediction:
    """Classes of N rows from T samples: of dropout masks, of networks, or of both; T is 1 for a single pass.

    Everything is in nats and float64. Names as in Gal (2016), "Uncertainty in deep learning", section 3.3.

    Args:
        probabilities: mean over samples of the softmax.
        expected_entropy: mean over samples of the entropy of the softmax: what no further training would remove.
        deviation: standard deviation of each class's probability over samples.
        votes: how many samples have each class as their most probable one.
        samples: T.
        draws: the samples' own probabilities, with `return_samples=True`.
    """

    probabilities: Float[Tensor, "N C"]
    expected_entropy: Float[Tensor, " N"]
    deviation: Float[Tensor, "N C"]
    votes: Int64[Tensor, "N C"]
    samples: int
    draws: Float[Tensor, "T N C"] | None = None

    def __len__(self) -> int:
        return len(self.probabilities)

    def __repr__(self) -> str:
        rows, classes = self.probabilities.shape
        return f"<ClassPrediction of {counted(rows, 'row')}: {classes} classes, {counted(self.samples, 'sample')}>"

    def _repr_html_(self) -> str:
        first = slice(ROWS)
        shown = {
            "class": self.classes[first],
            "probability": self.probabilities.amax(1)[first],
            "entropy": self.entropy[first],
            "mutual_information": self.mutual_information[first],
        }
        return lines(repr(self)[1:-1], ()) + table(shown, len(self))

    @property
    def classes(self) -> Int64[Tensor, " N"]:
        """The most probable class."""
        return self.probabilities.argmax(1)

    @property
    def max_probability(self) -> Float[Tensor, " N"]:
        """The probability of the most probable class."""
        return self.probabilities.amax(1)

    @property
    def entropy(self) -> Float[Tensor, " N"]:
        """Entropy of the mean probabilities: the whole uncertainty."""
        return -torch.special.xlogy(self.probabilities, self.probabilities).sum(1)

    @property
    def mutual_information(self) -> Float[Tensor, " N"]:
        """What the samples disagree on, `entropy - expected_entropy` (BALD, Houlsby et al. 2011), 0 or larger."""
        return (self.entropy - self.expected_entropy).clamp_min(0)  # rounding would go below

    @property
    def variation_ratio(self) -> Float[Tensor, " N"]:
        """Share of the samples whose most probable class is not the most frequent one."""
        return 1 - self.votes.amax(1).double() / self.samples

    @property
    def standard_deviation(self) -> Float[Tensor, " N"]:
        """Standard deviation over samples of the predicted class's probability."""
        return self.deviation.gather(1, self.classes.unsqueeze(1)).squeeze(1)

    def sets(self, threshold: float) -> Bool[Tensor, "N C"]:
        """Return which classes belong to each row's prediction set: those with a probability of `1 - threshold`."""
        return 1 - self.probabilities <= threshold  # as `class_scores` rounds


@dataclass(frozen=True, eq=False)
class ValuePrediction:
    """Values of N rows from T samples; the variances are those of the target's own unit, squared.

    Args:
        mean: mean over samples.
        epistemic: variance over samples: what more data would reduce.
        aleatoric: variance of the noise, fitted by `with_noise` or returned by the network; None before either.
        samples: T.
        draws: the samples' own means, with `return_samples=True`.
        draw_variances: the samples' own noise, where the network returns it.
        quantiles: the mean over samples of the quantiles of 5 and 95 %, where the network returns them.
    """

    mean: Float[Tensor, "N ..."]
    epistemic: Float[Tensor, "N ..."]
    aleatoric: Float[Tensor, "N ..."] | None
    samples: int
    draws: Float[Tensor, "T N ..."] | None = None
    draw_variances: Float[Tensor, "T N ..."] | None = None
    quantiles: Float[Tensor, "N 2"] | None = None

    def __len__(self) -> int:
        return len(self.mean)

    def __repr__(self) -> str:
        return f"<ValuePrediction of {counted(len(self), 'row')}: {counted(self.samples, 'sample')}>"

    def _repr_html_(self) -> str:
        shown = {"mean": self.mean, "standard_deviation": self.standard_deviation, "epistemic": self.epistemic}
        several = self.mean[:1].numel() > 1
        table_of = {
            name: values[:ROWS].tolist() if several else values[:ROWS].flatten() for name, values in shown.items()
        }
        return lines(repr(self)[1:-1], ()) + table(table_of, len(self))

    @property
    def variance(self) -> Float[Tensor, "N ..."]:
        """Epistemic and aleatoric variance together; the epistemic one alone where the noise is not known."""
        return self.epistemic if self.aleatoric is None else self.epistemic + self.aleatoric

    @property
    def standard_deviation(self) -> Float[Tensor, "N ..."]:
        """The root of `variance`."""
        return self.variance.sqrt()

    def interval(self, level: float = 0.95) -> tuple[Float[Tensor, "N ..."], Float[Tensor, "N ..."]]:
        """Return the ends of the central interval of a Gaussian with this mean and variance.

        Raises:
            InputError: the noise is not known, or a level outside 0 to 1.
        """
        if not isinstance(level, Real) or not 0 < level < 1:
            raise InputError(f"level must be between 0 and 1, got {level!r}")
        self._noise()
        half = math.sqrt(2) * torch.erfinv(torch.tensor(level, dtype=torch.float64)) * self.standard_deviation
        return self.mean - half, self.mean + half

    def log_likelihood(self, targets: Float[Tensor, "N ..."]) -> Float[Tensor, " N"]:
        """Return each row's predictive log likelihood under Gaussian noise (Gal and Ghahramani 2016, equation 8).

        `logsumexp_t(-(y - y_t)^2 / (2 v)) - log T - log(2 pi v) / 2` with the noise's variance `v`; rows with several
        values have the sum of theirs inside the exponential.

        Raises:
            InputError: the samples were not kept (`return_samples=True` keeps them), or the noise is not known.
        """
        v = self._noise() if self.draw_variances is None else self.draw_variances
        if self.draws is None:
            raise InputError("the log likelihood needs the samples themselves: predict with return_samples=True")
        if targets.shape != self.mean.shape:
            raise InputError(f"targets must have shape {list(self.mean.shape)}, got {list(targets.shape)}")
        y = targets.to(self.draws)
        each = -((y - self.draws).square() / v + (2 * math.pi * v).log()) / 2
        each = each.flatten(2).sum(2) if each.ndim > 2 else each
        return torch.logsumexp(each, 0) - math.log(len(each))

    def nll(self, targets: Float[Tensor, "N ..."]) -> Float[Tensor, " N"]:
        """Return each row's negative log likelihood under one Gaussian with this mean and variance."""
        self._noise()
        y = targets.to(self.mean)
        each = ((y - self.mean).square() / self.variance + (2 * math.pi * self.variance).log()) / 2
        return each.flatten(1).sum(1) if each.ndim > 1 else each

    def with_noise(self, variance: float | Tensor) -> "ValuePrediction":
        """Return the same with this variance of the noise."""
        noise = torch.as_tensor(variance, dtype=self.mean.dtype).expand(self.mean.shape)
        if not bool((noise > 0).all()):
            raise InputError("the variance of the noise must be larger than 0")
        return ValuePrediction(self.mean, self.epistemic, noise, self.samples, self.draws, self.draw_variances)

    def with_noise_factor(self, factor: float) -> "ValuePrediction":
        """Return the same with the noise that the network returns times a factor.

        Raises:
            InputError: the noise is not known, or a factor that is not above 0.
        """
        if not factor > 0:
            raise InputError(f"the factor of the noise must be larger than 0, got {factor!r}")
        variances = None if self.draw_variances is None else self.draw_variances * factor
        return replace(self, aleatoric=self._noise() * factor, draw_variances=variances)

    def _noise(self) -> Tensor:
        if self.aleatoric is None:
            raise InputError("the noise is not known: fit_noise on validation rows finds it, with_noise sets it")
        return self.aleatoric


Prediction = ClassPrediction | ValuePrediction


def fit_noise(
    prediction: ValuePrediction, targets: Float[Tensor, "N ..."], weights: Float[Tensor, " N"] | None = None
) -> float:
    """Return the variance of Gaussian noise under which validation rows are most likely.

    The maximum of the mean of equation 8 of Gal and Ghahramani (2016) over `v`, for which that paper searched a grid.

    Args:
        prediction: of rows that no training has seen, with its samples (`return_samples=True`).
        targets: of these rows.
        weights: how much each row counts; None where all count alike.

    Raises:
        InputError: fewer than two rows, no samples, or weights that can't be.
    """
    if len(prediction) < 2:
        raise InputError(f"fitting the noise needs at least 2 rows, got {len(prediction)}")
    check_weights(weights, len(prediction))
    from scipy.optimize import minimize_scalar

    mean = _weighted_mean(weights)
    targets = targets.to(prediction.mean)
    least = 1e-12 * (float(mean(targets.square())) or 1.0)  # of predictions without an error
    residual = mean((targets - prediction.mean).square()).clamp_min(least)

    def cost(log_variance: float) -> float:
        return -float(mean(prediction.with_noise(math.exp(log_variance)).log_likelihood(targets)))

    centre = math.log(float(residual))  # of the maximum: at most the residuals' own variance, but for rounding
    optimum: Any = minimize_scalar(cost, bounds=(centre - 20, centre + 2), method="bounded", options={"xatol": 1e-6})
    return math.exp(float(optimum.x))


def fit_noise_factor(
    prediction: ValuePrediction, targets: Float[Tensor, " N"], weights: Float[Tensor, " N"] | None = None
) -> float:
    """Return the factor of a network's own noise under which rows are most likely.

    A variance that was trained on rows is too small for others, as a network's probabilities are too sharp (Levi et al.
    2022, "Evaluating and calibrating uncertainty prediction in regression tasks"): a temperature for values.

    Args:
        prediction: of rows that no training has seen, with its samples (`return_samples=True`) and its noise.
        targets: of these rows.
        weights: how much each row counts; None where all count alike.

    Raises:
        InputError: fewer than two rows, no samples, no noise, or weights that can't be.
    """
    if len(prediction) < 2:
        raise InputError(f"fitting the noise needs at least 2 rows, got {len(prediction)}")
    check_weights(weights, len(prediction))
    from scipy.optimize import minimize_scalar

    mean = _weighted_mean(weights)

    def cost(log_factor: float) -> float:
        return -float(mean(prediction.with_noise_factor(math.exp(log_factor)).log_likelihood(targets)))

    optimum: Any = minimize_scalar(cost, bounds=(-10, 10), method="bounded", options={"xatol": 1e-6})
    return math.exp(float(optimum.x))


def _weighted_mean(weights: Tensor | None) -> Callable[[Tensor], Tensor]:
    """Return what takes a mean over rows, the first axis, and what else there is, in which rows have these weights."""
    if weights is None or bool((weights == weights[0]).all()):
        return torch.Tensor.mean
    shares = weights.double() / weights.double().sum()
    return lambda values: shares @ values.double().reshape(len(shares), -1).mean(1)


def of_quantiles(prediction: ValuePrediction) -> ValuePrediction:
    """Return a prediction of median and quantiles of 5 and 95 % `[N, 3]` as one of values.

    The median is its mean, and the noise that of the Gaussian with such a distance between the quantiles; those that
    cross change places.
    """
    middle, *ends = prediction.mean.unbind(-1)
    low, high = torch.minimum(*ends), torch.maximum(*ends)
    variances = None
    if prediction.draws is not None:
        variances = _variance(*prediction.draws[..., 1:].unbind(-1))
    return ValuePrediction(
        mean=middle,
        epistemic=prediction.epistemic[..., 0],
        aleatoric=_variance(low, high),
        samples=prediction.samples,
        draws=None if prediction.draws is None else prediction.draws[..., 0],
        draw_variances=variances,
        quantiles=torch.stack([low, high], 1),
    )


_BETWEEN = 2 * 1.6448536269514722  # deviations of a Gaussian from its quantile of 5 % to that of 95 %
_LEAST_VARIANCE = 1e-12  # of quantiles that meet


def _variance(low: Tensor, high: Tensor) -> Tensor:
    return ((high - low) / _BETWEEN).square().clamp_min(_LEAST_VARIANCE)
