"""Metrics of a study: a cost for every row, lower is better, and the value of its mean in the metric's unit."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dampen.data import Rows
from dampen.errors import InputError
from dampen.statistics import Estimate, proportion_interval

_LOG_SHARPNESS = -7.0, 7.0  # ends of a temperature's logarithm: 0.0009 to 1100
_BISECTIONS = 24  # of that range: to five digits
_PRIOR = math.log(4)  # deviation of the logarithm before any row is seen: a factor of 4 is nothing unusual
_AT_ONCE = 1 << 24  # numbers of many networks that are taken together
CALIBRATED = "calibrated-nll"
SAMPLES = 20  # masks behind a sampled metric: their number biases all settings alike


@dataclass(frozen=True)
class Metric:
    """A cost of rows.

    Args:
        name: what users call it.
        task: `classification` or `regression`.
        cost: takes outputs `[..., N, C]` and targets `[N]`, returns the cost of each row `[..., N]`; where that depends
            on the other rows, too, it takes their weights `[N]` as well, None where all count alike.
        in_unit: turns a mean cost into the metric's own value; its second argument is the standard deviation by which a
            regression target was divided.
        rising: whether a larger value is better.
        samples: dropout masks that the outputs are averaged over; 0 for one pass in evaluation mode.
        of_rows_alone: whether a row's cost depends on that row alone.
        bounds: what a mean cost can be; an interval around it ends there.
        on_demand: whether it is measured only where it is what settings are compared by.
    """

    name: str
    task: str
    cost: Callable[..., Tensor]
    in_unit: Callable[[float, float], float] = lambda cost, _: cost
    rising: bool = False
    samples: int = 0
    of_rows_alone: bool = True
    bounds: tuple[float, float] = (0.0, math.inf)
    on_demand: bool = False

    @property
    def is_share(self) -> bool:
        """Whether a mean cost is a share of the rows, 0 to 1: the mean of costs that are 0 or 1, as accuracy's are."""
        return self.bounds == (0.0, 1.0)

    def interval_in_unit(self, ends: tuple[float, float], deviation: float) -> tuple[float, float]:
        """Return the ends of a mean cost's interval in the metric's unit, the smaller one first."""
        least, most = self.bounds
        low, high = sorted(self.in_unit(min(max(end, least), most), deviation) for end in ends)
        return low, high

    def costs(self, outputs: Float[Tensor, "... N C"], rows: Rows) -> Float[Tensor, "... units"]:
        """Return numbers whose mean is the rows' weighted mean cost R: one for each row, or for each group of rows.

        They vary as R does, whose denominator, the rows' weights or how many rows a group has, is drawn with the rows:
        `R + w (c - R)`, the linearised ratio (Cochran 1977, "Sampling techniques", equation 6.10; Liang and Zeger
        1986 for groups, whose rows are not independent).
        """
        others = () if self.of_rows_alone else (rows.weights,)
        costs = self.cost(outputs, rows.targets, *others)
        if rows.weights is None and rows.groups is None:
            return costs
        weights = costs.new_ones(costs.shape[-1]) if rows.weights is None else rows.weights
        mean = (weights * costs).mean(-1, keepdim=True)
        beyond = weights * (costs - mean)
        if rows.groups is None:
            return _around(mean, beyond)
        groups, members = rows.groups.unique(return_inverse=True)
        sums = beyond.new_zeros((*costs.shape[:-1], len(groups))).index_add_(-1, members, beyond)
        return _around(mean, sums * (len(groups) / len(members)))

    def difference_in_unit(self, one: float, other: float, ends: tuple[float, float], deviation: float) -> list[float]:
        """Return a difference of two mean costs, and the ends of its interval, in the metric's unit.

        Where the metric is no linear function of the cost, ends are scaled like the difference (the delta method).
        """
        a, b = self.in_unit(one, deviation), self.in_unit(other, deviation)
        near = math.isclose(one, other, rel_tol=1e-9)
        step = 1e-6 * max(abs(one), 1e-12)
        slope = (self.in_unit(one + step, deviation) - a) / step if near else (a - b) / (one - other)
        return [a - b, *sorted(slope * end for end in ends)]


def _around(mean: Tensor, deviations: Tensor) -> Tensor:
    """Return numbers that lie so around their mean, `[..., units]`; all of them the mean where that is not finite."""
    return torch.where(mean.isfinite(), mean + deviations, mean)


def _nll(outputs: Float[Tensor, "... N C"], targets: Tensor) -> Float[Tensor, "... N"]:
    picked = F.log_softmax(outputs.float(), -1).gather(-1, targets.expand(outputs.shape[:-1]).unsqueeze(-1))
    return -picked.squeeze(-1)


def _calibrated_nll(
    outputs: Float[Tensor, "... N C"], targets: Tensor, weights: Tensor | None = None
) -> Float[Tensor, "... N"]:
    """Return the cost of rows under the temperature that the other half of the rows is most likely under.

    What it measures is how well classes are told apart; how sure a network is of that, one number mends after training
    (Berta, Holzmüller, Jordan and Bach 2025, "Rethinking early stopping: refine, then calibrate", arXiv 2501.19195).
    """
    if outputs.ndim > 2 and outputs.numel() > _AT_ONCE:  # of many networks, whose numbers are copied in float64
        return torch.stack([_calibrated_nll(each, targets, weights) for each in outputs])
    z = outputs.double().log_softmax(-1).clamp_min(-1e4)
    costs = z.new_empty(z.shape[:-1])
    for half in _halves(z.shape[-2], z.device):
        sharpness = _sharpness(z[..., ~half, :], targets[~half], None if weights is None else weights[~half])
        costs[..., half] = _nll(z[..., half, :] * sharpness[..., None, None], targets[half]).double()
    return costs


def _halves(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return which rows are of one half and of the other: at random, as rows may alternate, but the same each time."""
    one = (torch.randperm(n, generator=torch.Generator().manual_seed(n)) % 2 == 0).to(device)
    return one, ~one


def _sharpness(logits: Float[Tensor, "... N C"], targets: Tensor, weights: Tensor | None) -> Float[Tensor, "..."]:
    """Return the number by which logits are multiplied, `1 / T`, that rows and a prior make most probable.

    The prior, a normal distribution of its logarithm, is what few rows or rows without an error leave it near to 1 by.
    The slope of the log posterior along that logarithm falls through zero, which is found by bisection.
    """
    n = logits.shape[-2]
    w = logits.new_ones(n) if weights is None else weights.to(logits)
    own = (logits.gather(-1, targets.expand(logits.shape[:-1]).unsqueeze(-1)).squeeze(-1) * w).sum(-1)
    low, high = (logits.new_full(logits.shape[:-2], end) for end in _LOG_SHARPNESS)
    for _ in range(_BISECTIONS if n else 0):
        middle = (low + high) / 2
        b = middle.exp()
        expected = (((logits * b[..., None, None]).softmax(-1) * logits).sum(-1) * w).sum(-1)
        rising = b * (own - expected) - middle / _PRIOR**2 > 0
        low, high = torch.where(rising, middle, low), torch.where(rising, high, middle)
    return ((low + high) / 2).exp()


def _wrong(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(-1) != targets).float()


def _brier(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.float().softmax(-1) - F.one_hot(targets, outputs.shape[-1])).square().sum(-1)


def _predicted(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the first of a row's outputs, which is its prediction: the others are its variance or quantiles."""
    return outputs[..., 0] if _has_heads(outputs, targets) else outputs.squeeze(-1)


def _has_heads(outputs: Tensor, targets: Tensor) -> bool:
    return outputs.ndim > 1 and outputs.shape[-1] in (2, 3) and outputs.shape[-2:-1] == targets.shape[:1]


def _squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (_predicted(outputs, targets) - targets).square()


def _absolute(outputs: Tensor, targets: Tensor) -> Tensor:
    return (_predicted(outputs, targets) - targets).abs()


def _weighted_mean(values: Float[Tensor, "... N"], weights: Tensor | None) -> Float[Tensor, "... 1"]:
    if weights is None or not weights.any():
        return values.mean(-1, keepdim=True)
    return (values * weights.to(values)).sum(-1, keepdim=True) / weights.to(values).sum()


def _unexplained(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return numbers whose mean is the share of the variance that is left, and that vary as this ratio does.

    The variance is estimated on the same rows, so that a row's own part of it counts (Cochran 1977, equation 6.10).
    """
    squares, around = _squared(outputs, targets), (targets - _weighted_mean(targets, weights)).square()
    variance = _weighted_mean(around, weights).clamp_min(1e-12)
    share = _weighted_mean(squares, weights) / variance
    return _around(share, (squares - share * around) / variance)


def _gaussian_nll(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the cost under Gaussian noise: of the network's own variance, or one fitted on the other half of rows."""
    squares = _squared(outputs, targets)
    if _has_heads(outputs, targets) and outputs.shape[-1] == 2:
        log_variance = outputs[..., 1]
        return 0.5 * (math.log(2 * math.pi) + log_variance + squares * (-log_variance).exp())
    costs = torch.empty_like(squares)
    for half in _halves(squares.shape[-1], squares.device):
        noise = _weighted_mean(squares[..., ~half], None if weights is None else weights[~half]).clamp_min(1e-12)
        costs[..., half] = 0.5 * (math.log(2 * math.pi) + noise.log() + squares[..., half] / noise)
    return costs


METRICS = {
    (metric.task, metric.name): metric
    for metric in (
        Metric("nll", "classification", _nll),
        Metric("accuracy", "classification", _wrong, lambda cost, _: 1 - cost, rising=True, bounds=(0.0, 1.0)),
        Metric("brier", "classification", _brier),
        Metric("mc-nll", "classification", _nll, samples=SAMPLES),
        Metric(CALIBRATED, "classification", _calibrated_nll, of_rows_alone=False, on_demand=True),
        Metric("mse", "regression", _squared, lambda cost, deviation: cost * deviation**2),
        Metric("rmse", "regression", _squared, lambda cost, deviation: math.sqrt(max(cost, 0.0)) * deviation),
        Metric("mae", "regression", _absolute, lambda cost, deviation: cost * deviation),
        Metric("r2", "regression", _unexplained, lambda cost, _: 1 - cost, rising=True, of_rows_alone=False),
        Metric(
            *("nll", "regression", _gaussian_nll, lambda cost, deviation: cost + math.log(deviation)),
            of_rows_alone=False,
            bounds=(-math.inf, math.inf),
        ),
    )
}


def interval_of(
    metric: Metric, estimate: Estimate, n: int, level: float = 0.95, deviation: float = 1.0
) -> tuple[float, float]:
    """Return the ends of an interval in a metric's unit, the smaller one first.

    Shares have Wilson's interval, which is never a single point; all else Student's, cut at what a cost can be.

    Args:
        metric: what the costs were.
        estimate: of the mean cost.
        n: independent rows behind it: groups where rows belong together.
        level: coverage, between 0 and 1.
        deviation: by which a regression's target was divided; 1 for classes.

    Raises:
        InputError: n is below 1, for a share.

    Example:
        >>> [round(end, 3) for end in interval_of(find("accuracy", "classification"), Estimate(0.0, 0.0, 4.0), 38)]
        [0.908, 1.0]
    """
    if metric.is_share and math.isfinite(estimate.mean):
        ends = proportion_interval(estimate.mean, estimate.error, n, estimate.df, level)
    else:
        ends = estimate.interval(level)
    return metric.interval_in_unit(ends, deviation)


def find(name: str | None, task: str) -> Metric:
    """Return a metric of a task; None means nll for classes and mse for numbers.

    Raises:
        InputError: there is none of that name for the task.
    """
    if name is None:
        name = "nll" if task == "classification" else "mse"
    known = {metric.name: metric for metric in METRICS.values() if metric.task == task}
    if not isinstance(name, str) or name not in known:
        raise InputError(f"the metric must be one of {', '.join(known)} for {task}, got {name!r}")
    return known[name]


def of(task: str) -> list[Metric]:
    """Return the metrics of a task that every network is measured by, in one pass in evaluation mode."""
    return [m for m in METRICS.values() if m.task == task and not m.samples and not m.on_demand]


def once_calibrated(metric: Metric) -> Metric | None:
    """Return what an nll of classes is under a temperature of each network's own; None for another metric."""
    of_classes = metric.task == "classification" and metric.name in ("nll", "mc-nll")
    return METRICS[metric.task, CALIBRATED] if of_classes else None


def mean_probabilities(outputs: Float[Tensor, "K N C"], task: str) -> Float[Tensor, "N C"]:
    """Return the outputs of an ensemble: the logarithm of the members' mean probabilities, or their mean number.

    Of means and log variances those of the mixture's first two moments (Lakshminarayanan et al. 2017, section 2.4).
    """
    if task == "classification":
        return torch.logsumexp(outputs.float().log_softmax(-1), 0) - math.log(len(outputs))
    if outputs.ndim == 3 and outputs.shape[-1] == 2:
        mean, variance = outputs[..., 0].mean(0), outputs[..., 1].exp().mean(0)
        return torch.stack([mean, (variance + outputs[..., 0].var(0, correction=0)).log()], -1)
    return outputs.mean(0)
