"""What `tune` and `compare` begin with alike: checked data and network, and the part of the plan that follows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dampen import metrics
from dampen._checks import integer
from dampen.data import Data, with_unit_targets
from dampen.engine import VARIANCE_HEADS, Model, TrainConfig, initial_weights_repeat, with_heads
from dampen.errors import InputError
from dampen.study import _defaults, _protocol
from dampen.study._checks import check_margin, check_network, check_whole
from dampen.study._config import config_of_study, rows_a_step
from dampen.study._defaults import Lengths, Sizes
from dampen.study._embedded import with_ids


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Data and network made ready, and what a plan needs of them.

    Args:
        model: what makes the network.
        data: with targets of unit deviation.
        target_scale: mean and deviation of a regression target before that.
        metric: for selection and evaluation.
        scheme: `folds` or `held-out`.
        sizes: usual for so many rows.
        lengths: of trainings.
        margin: share of the loss below which a difference is negligible.
        seed: of draws, splits and members.
        training: how members train, except for the lengths.
        notes: on the network.
    """

    model: Model
    data: Data
    target_scale: tuple[float, float]
    metric: metrics.Metric
    scheme: str
    sizes: Sizes
    lengths: Lengths
    margin: float | None
    seed: int
    training: TrainConfig
    notes: tuple[str, ...]

    def seeds(self, n: int) -> tuple[int, ...]:
        """Return n seeds, from the study's own one on."""
        return tuple(range(self.seed, self.seed + n))

    def plan(self, **rest: Any) -> _protocol.Plan:
        """Return the study's plan; `rest` has the fields that these do not decide."""
        common: dict[str, Any] = {
            "model": _protocol.name_of(self.model),
            "data": self.data,
            "target_scale": self.target_scale,
            "metric": self.metric,
            "lengths": self.lengths,
            "margin": self.margin,
            "scheme": self.scheme,
            "seed": self.seed,
            "training": self.training,
            "same_start": initial_weights_repeat(self.model, self.data.inputs, self.data.outputs),
            "notes": self.notes,
        }
        return _protocol.Plan(**common | rest)


def prepare(
    model: Model,
    data: Data,
    config: TrainConfig,
    *,
    metric: str | None,
    validation: str | None,
    margin: float | None,
    seed: int,
    cocktail: bool = False,
    **counts: tuple[int | None, int],
) -> Preparation:
    """Check what `tune` and `compare` take, and make it ready.

    Args:
        model: as for `tune`, and so is all that follows.
        data: see there.
        config: see there.
        metric: see there.
        validation: see there.
        margin: see there.
        seed: see there.
        cocktail: whether every regulariser is searched.
        counts: other whole numbers by name, each with the least that is allowed.

    Raises:
        InputError: an argument outside its range, or unfit data.
    """
    integer("seed", seed, 0)
    check_whole(counts)
    check_margin(margin)
    model = with_heads(model, config.loss)
    data, mean, deviation = with_unit_targets(with_ids(model, data))
    training = config_of_study(config, data)
    scheme = _protocol.scheme_of(data, validation)
    chosen = _usual_metric(training, data, cocktail, scheme) if metric is None else metric
    sizes = _defaults.usual_sizes(len(data.train_rows))
    if data.given_folds is not None:  # all of them confirm
        _check_confirming(counts, len(data.given_folds))
        n = len(data.given_folds)
        sizes = replace(sizes, confirm_seeds=n * math.ceil(sizes.confirm_seeds / n))  # each as often as the others
    elif scheme == "folds" and len(data.train_rows) >= _defaults.SMALL:  # each evaluates
        sizes = replace(sizes, confirm_seeds=_protocol.FOLDS)
    return Preparation(
        model=model,
        notes=check_network(model, data),
        data=data,
        target_scale=(mean, deviation),
        metric=metrics.find(chosen, data.task),
        scheme=scheme,
        sizes=sizes,
        lengths=_defaults.usual_lengths(data, rows_a_step(training), config.epochs),
        margin=margin,
        seed=seed,
        training=training,
    )


def _check_confirming(counts: Mapping[str, tuple[int | None, int]], n_folds: int) -> None:
    """Refuse fewer seeds in the verdict than there are folds that were given.

    Raises:
        InputError: some would evaluate nothing.
    """
    name = "n_confirm_seeds" if "n_confirm_seeds" in counts else "n_seeds"
    given = counts[name][0]
    if given is not None and given < n_folds:
        raise InputError(
            f"{name} must be at least the number of folds that were given, {n_folds}, so that each evaluates, got "
            f"{given}"
        )


def _usual_metric(training: TrainConfig, data: Data, cocktail: bool, scheme: str) -> str | None:
    """Return the metric by which networks with a variance, and cocktails, are compared; None for the usual one.

    What smoothed labels, mixtures and long trainings make of a network's certainty, one number mends after training.
    """
    if cocktail and data.task == "classification" and _protocol.fits_temperatures(data, scheme):
        return metrics.CALIBRATED
    return "nll" if training.loss in VARIANCE_HEADS else None
