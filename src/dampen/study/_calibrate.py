"""Fits what calibrates a study's predictions, on rows that took no part in training."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dampen._checks import integer, is_number
from dampen._io import counted
from dampen.data import Rows
from dampen.errors import InputError, NotSampled
from dampen.study._calibration_ensembles import Ensemble
from dampen.study._calibration_rows import FILE
from dampen.study._predictor import Predictor
from dampen.uncertainty import (
    CALIBRATORS,
    LEVEL,
    ROUNDING,
    Calibration,
    ClassPrediction,
    Prediction,
    SetRule,
    Temperature,
    TemperatureScaling,
    ValuePrediction,
    choose,
    class_scores,
    conformal,
    dropout_rates,
    effective_rows,
    find_temperature,
    fit_noise,
    fit_noise_factor,
    interval_scores,
    most_coverage,
    predict,
    rows_for,
    tuned_raps,
    uniforms_of,
)

ROWS = 4096  # that are predicted at a time: memory does not grow with the data, but for the columns themselves
_CERTAIN = float(torch.finfo(torch.float32).eps)  # an uncertainty below it is rounding: no reason to abstain from a row
_TUNING = 5  # of so many rows one chooses the penalty of RAPS, the others fit the threshold


@dataclass(frozen=True)
class Method:
    """How rows are predicted.

    Args:
        samples: dropout masks for each network; 0 for a single pass.
        ensemble: whether the networks of all seeds predict, or the first alone.
        seed: of the masks.

    Raises:
        InputError: samples or seed below 0.
    """

    samples: int = 100
    ensemble: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        integer("samples", self.samples, 0)
        integer("seed", self.seed, 0)

    @property
    def name(self) -> str:
        """What it is called."""
        once = "ensemble" if self.ensemble else "single pass"
        sampled = "ensemble with Monte-Carlo dropout" if self.ensemble else "Monte-Carlo dropout"
        return f"{sampled}, {counted(self.samples, 'sample')}" if self.samples else once

    def predict(
        self, networks: Sequence[nn.Module], x: Tensor, of: Predictor, first_row: int = 0, keep: bool = False
    ) -> Prediction:
        """Predict rows."""
        return predict(
            list(networks),
            x,
            self.samples or None,
            self.seed,
            task=of.description.task,
            loss=of.loss,
            scale=of.target_scale,
            first_row=first_row,
            return_samples=keep,
            dropout=of.setting.get("dropout") if self.samples else None,
        )


def single_pass_if_no_dropout(predictor: Predictor, method: Method) -> Method:
    """Return a method that the networks can follow: a single pass where they drop no units.

    Warns:
        NotSampled: they do not.
    """
    some, rates = predictor.unseen[0][1].features[:2], predictor.setting.get("dropout")
    if not method.samples or any(p > 0 for n in predictor.networks for p in dropout_rates(n, some, rates)):
        return method
    once = "one pass of each network" if method.ensemble else "a single pass"
    message = f"the recommended setting drops no units, so there is nothing to sample: {once} is used"
    warnings.warn(message, NotSampled, stacklevel=3)
    return replace(method, samples=0)


def calibrate(
    predictor: Predictor,
    method: Method,
    coverage: float,
    calibrator: str = "auto",
    sets: str = "lac",
    level: float = LEVEL,
) -> Calibration:
    """Fit what calibrates probabilities or the noise, the threshold of abstaining and the conformal one.

    Networks of the study's confirmation predict the rows that each has not seen. An ensemble's rows are predicted by
    networks that have not seen them: those of the confirmation where rows were held out; where there were folds, of
    classes a single one, of values as many as the ensemble has, which were trained for that.

    Raises:
        InputError: a coverage outside 0 to 1, no such calibrator or rule of sets, or networks that are gone.
    """
    if calibrator not in ("auto", *CALIBRATORS):
        raise InputError(f"calibrator must be auto, {', '.join(CALIBRATORS)}, got {calibrator!r}")
    rule = SetRule(sets)
    if not is_number(level) or not 0 < level < 1:
        raise InputError(f"level must be between 0 and 1, got {level!r}")
    if not is_number(coverage) or not 0 < coverage < 1:
        raise InputError(f"coverage must be between 0 and 1, got {coverage!r}")
    values = predictor.description.task == "regression"
    if not values and level != LEVEL:
        raise InputError("level is of a regression's intervals, and the study has classes: choose coverage")
    if values and (calibrator != "auto" or sets != "lac"):
        what = f"calibrator={calibrator!r}" if calibrator != "auto" else f"sets={sets!r}"
        raise InputError(f"{what} is for classes, and the study is a regression: leave it out")
    of = _predicted(predictor, method)
    rows = round(len(of.targets) / of.repeats)
    fitting = rows - math.ceil(rows / _TUNING) * (sets == "raps")
    notes = [*_of_older(predictor, method.ensemble), *_without_weights(predictor, of.weights)]
    notes += _too_few(fitting, level if values else coverage, values)
    if values:
        return _of_values(of, predictor.target_scale, coverage, level, notes)
    return _of_classes(of, calibrator, rule, coverage, method.seed, notes)


@dataclass(frozen=True)
class _Predicted:
    """Rows that networks have not seen, with what they predict.

    Args:
        parts: predictions, of some rows each.
        targets: of all.
        features: of classes, of some rows each.
        numbers: of classes, of each row in the data; none where that is not known.
        networks: of classes, which networks predicted each row.
        weights: of rows that do not count alike.
        repeats: how often each row is there.
    """

    parts: list[Prediction]
    targets: Tensor
    features: list[Tensor]
    numbers: np.ndarray
    networks: np.ndarray
    weights: Tensor | None
    repeats: float

    @property
    def rows(self) -> float:
        """As many different rows of even weight say as much."""
        return effective_rows(self.weights, len(self.targets)) / self.repeats


def _predicted(predictor: Predictor, method: Method) -> _Predicted:
    values = predictor.description.task == "regression"
    parts, targets, features, numbers, of_networks, of_rows = [], [], [], [], [], []
    for i, (networks, given) in enumerate(_unseen(predictor, method.ensemble)):
        rows = _that_count(given)
        if rows.weights_among_all is not None:
            of_rows.append(rows.weights_among_all)
        if rows.numbers is not None:
            numbers.append(rows.numbers.numpy())
        for start in range(0, len(rows), ROWS):
            part = slice(start, start + ROWS)
            prediction = method.predict(networks, rows.features[part], predictor, start, keep=values)
            parts.append(prediction)
            targets.append(rows.targets[part])
            if not values:
                features.append(rows.features[part])
                of_networks += [i] * len(prediction)
    weights, repeats = torch.cat(of_rows) if of_rows else None, _repeats(predictor, method.ensemble)
    known = np.concatenate(numbers) if numbers else np.empty(0, np.int64)
    return _Predicted(parts, torch.cat(targets), features, known, np.array(of_networks), weights, repeats)


def _of_classes(
    of: _Predicted, calibrator: str, rule: SetRule, coverage: float, seed: int, notes: list[str]
) -> Calibration:
    raw = torch.cat([part.probabilities for part in of.parts if isinstance(part, ClassPrediction)])
    numbers = _numbered(of)
    how: dict[str, Any] = {"repeats": of.repeats, "weights": of.weights}
    chosen = choose(raw, of.targets, calibrator, rows=numbers, networks=of.networks, **how)
    p = chosen.probabilities
    rule, threshold = _sets(rule, p, of, coverage, seed, numbers)
    if isinstance(chosen.calibrator, TemperatureScaling):
        logits = raw.log().clamp_min(-700)
        rows = round(len(of.targets) / of.repeats)
        notes = [*notes, *_of_temperature(find_temperature(logits, of.targets, **how), rows)]
    return Calibration(
        rows=len(of.targets),
        calibrator=chosen.calibrator,
        sets=rule,
        seed=seed,
        noise=None,
        abstain_above=max(_limit(1 - p.amax(1), coverage, of.weights), _CERTAIN),
        coverage=coverage,
        conformal=threshold,
        notes=tuple(notes),
        limit_rows=of.rows,
    )


def _of_values(
    of: _Predicted, scale: tuple[float, float], coverage: float, level: float, notes: list[str]
) -> Calibration:
    mean, deviation = scale
    y = of.targets.double() * deviation + mean
    predicted = _joined([part for part in of.parts if isinstance(part, ValuePrediction)])
    own = predicted.aleatoric is not None
    noise = None if own else fit_noise(predicted, y, of.weights)
    factor = fit_noise_factor(predicted, y, of.weights) if own else 1.0
    calibrated = predicted.with_noise_factor(factor) if noise is None else predicted.with_noise(noise)
    return Calibration(
        rows=len(y),
        calibrator=None,
        noise=noise,
        noise_factor=factor,
        level=level,
        abstain_above=_limit(calibrated.standard_deviation, coverage, of.weights) * (1 + ROUNDING),
        coverage=coverage,
        conformal=conformal(interval_scores(calibrated, y), level, repeats=of.repeats, weights=of.weights),
        notes=tuple(notes),
        limit_rows=of.rows,
    )


def _numbered(of: _Predicted) -> np.ndarray:
    """Return a number for each row, the same for equal ones: what several networks have predicted is one row.

    Each fold scales a row's inputs by its own training rows, so that a row is recognised by its number in the data, and
    its copies, which folds keep together, by the inputs of the fold that it is in first.
    """
    digests = [
        blake2b(row.tobytes(), digest_size=8).digest()
        for part in of.features
        for row in part.contiguous().cpu().numpy()
    ]
    keys = np.stack([np.frombuffer(b"".join(digests), np.uint64), of.targets.numpy().astype(np.uint64)])
    if len(of.numbers) == len(of.targets):
        _, first, place = np.unique(of.numbers, return_index=True, return_inverse=True)
        keys = keys[:, first[place]]
    return np.unique(keys, axis=1, return_inverse=True)[1].ravel()


def _sets(rule: SetRule, p: Tensor, of: _Predicted, level: float, seed: int, rows: np.ndarray) -> tuple[SetRule, float]:
    """Return the rule of prediction sets, with its penalty where it has one, and the threshold of its scores."""
    targets, weights, repeats = of.targets, of.weights, of.repeats
    if rule.name == "lac":
        return rule, conformal(class_scores(p, targets), level, repeats=repeats, weights=weights)
    uniforms = torch.cat([uniforms_of(part, seed) for part in of.features])
    kept = torch.ones(len(p), dtype=torch.bool)
    if rule.name == "raps":
        order = np.random.default_rng(0).permutation(int(rows.max()) + 1)
        tuning = torch.from_numpy(order[rows] % _TUNING == 0)
        if tuning.sum() and not tuning.all():
            of_tuning = None if weights is None else weights[tuning]
            rule, kept = tuned_raps(p[tuning], targets[tuning], level, uniforms[tuning], of_tuning), ~tuning
    scores = rule.scores(p[kept], uniforms[kept]).gather(1, targets[kept].unsqueeze(1)).squeeze(1)
    return rule, conformal(scores, level, repeats=repeats, weights=None if weights is None else weights[kept])


def _limit(uncertainty: Tensor, coverage: float, weights: Tensor | None) -> float:
    """Return the least uncertainty that a share `coverage` of the rows, or of their weights, does not exceed."""
    ranked, order = uncertainty.double().sort()
    w = torch.ones_like(ranked) if weights is None else weights[order]
    reached = w.cumsum(0) / w.sum()
    return float(ranked[int((reached < coverage - 1e-9).sum())])


def _that_count(rows: Rows) -> Rows:
    """Return the rows whose weight is above 0."""
    w = rows.weights
    if w is None or bool((w > 0).all()):
        return rows
    numbers = None if rows.numbers is None else rows.numbers[w > 0]
    kept = rows.features[w > 0], rows.targets[w > 0], w[w > 0]
    return Rows(*kept, numbers=numbers, mean_weight=rows.mean_weight)


def _unseen(predictor: Predictor, ensemble: bool) -> list[Ensemble]:
    """Return networks with rows that they have not seen."""
    return predictor.ensembles if ensemble else [((network,), rows) for network, rows in predictor.unseen]


def _repeats(predictor: Predictor, ensemble: bool) -> float:
    """Return how often each row is predicted: by every network where all share their rows, else once a repeat."""
    if ensemble and predictor.left_out:
        return 1.0
    sets = len({id(rows) for _, rows in predictor.unseen})
    if sets == 1:
        return 1.0 if ensemble else float(len(predictor.unseen))
    return max(1.0, sets / predictor.folds)


def _of_temperature(temperature: Temperature, rows: int) -> list[str]:
    if temperature.value != 1:
        return []
    if temperature.wrong == 0:
        return [
            f"none of the {rows} calibration rows is predicted wrongly, so that no temperature can be fitted to them: "
            "probabilities stay as they are (temperature 1)"
        ]
    return [
        f"the {rows} calibration rows show no significant miscalibration: probabilities stay as they are "
        "(temperature 1)"
    ]


def _too_few(rows: int, level: float, values: bool) -> list[str]:
    """Return why sets or intervals hold everything: too few rows for the level."""
    if rows >= rows_for(level):
        return []
    what = "prediction intervals of" if values else "prediction sets for"
    all_of_it = "every interval is infinite" if values else "every class is in every set"
    instead = "calibrate on more" if values else f"choose a coverage of {most_coverage(rows):g} or less"
    return [
        f"{what} {level:.4g} coverage take {rows_for(level)} calibration rows, ceil(1 / (1 - coverage)) - 1, and there "
        f"are {rows}: {all_of_it}; {instead}" + ("" if values else ", or tune on more rows")
    ]


def _of_older(predictor: Predictor, ensemble: bool) -> list[str]:
    of_classes = predictor.description.task == "classification"
    if not ensemble or of_classes or predictor.scheme != "folds" or predictor.left_out or len(predictor.networks) < 2:
        return []
    return [
        "the study is of an older version, whose folds were each left out by a single network: an ensemble is "
        "calibrated by those, and abstains from more rows than it should; make the study anew"
    ]


def _without_weights(predictor: Predictor, weights: Tensor | None) -> list[str]:
    if weights is not None or not predictor.description.weighted:
        return []
    return [
        "the study is of an older version, which kept no weights of the rows that predictions are calibrated on: they "
        f"count alike; delete {FILE} in its folder and finish the study again with resume, which trains nothing"
    ]


def _joined(parts: Sequence[ValuePrediction]) -> ValuePrediction:
    def of_all(name: str, axis: int = 0) -> Tensor | None:
        tensors = [getattr(part, name) for part in parts]
        return None if tensors[0] is None else torch.cat(tensors, axis)

    return replace(
        parts[0],
        mean=torch.cat([part.mean for part in parts]),
        epistemic=torch.cat([part.epistemic for part in parts]),
        aleatoric=of_all("aleatoric"),
        draws=of_all("draws", 1),
        draw_variances=of_all("draw_variances", 1),
        quantiles=of_all("quantiles"),
    )
