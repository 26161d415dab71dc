"""A study's predictions for new rows, calibrated on rows that took no part in training, and their metrics."""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dampen._checks import integer, is_number
from dampen._io import counted
from dampen.data import Data, Incoming, Rows
from dampen.errors import DataWarning, InputError, NotSampled
from dampen.study._calibration_ensembles import Ensemble
from dampen.study._calibration_rows import FILE
from dampen.study._fresh import FreshResults
from dampen.study._new_rows import read_new_rows
from dampen.study._predictor import Predictor
from dampen.study._saved import SavedResults
from dampen.uncertainty import (
    CALIBRATORS,
    LEVEL,
    ROUNDING,
    CalibratedClasses,
    CalibratedValues,
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
    find_temperature,
    fit_noise,
    fit_noise_factor,
    interval_scores,
    joined,
    most_coverage,
    predict,
    rows_for,
    tuned_raps,
    uniforms_of,
)

ROWS = 4096  # that are predicted at a time: memory does not grow with the data, but for the columns themselves
_CERTAIN = float(torch.finfo(torch.float32).eps)  # an uncertainty below it is rounding: no reason to abstain from a row


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
    keys: list[Tensor] = []
    networks_of: list[int] = []
    predictions: list[tuple[Prediction, Tensor]] = []
    of_rows: list[Tensor] = []
    for i, (networks, given) in enumerate(_unseen(predictor, method.ensemble)):
        rows = _that_count(given)
        if rows.weights is not None:
            of_rows.append(rows.weights.double())
        for start in range(0, len(rows), ROWS):
            part = slice(start, start + ROWS)
            prediction = method.predict(networks, rows.features[part], predictor, start, keep=values)
            predictions.append((prediction, rows.targets[part]))
            if not values:
                keys.append(rows.features[part])
                networks_of += [i] * len(prediction)
    targets, repeats = torch.cat([t for _, t in predictions]), _repeats(predictor, method.ensemble)
    weights = torch.cat(of_rows) if of_rows else None
    rows = round(len(targets) / repeats)
    fitting = rows - math.ceil(rows / _TUNING) * (sets == "raps")
    notes = [*_of_older(predictor, method.ensemble), *_without_weights(predictor, weights)]
    notes += [*_too_few(fitting, level if values else coverage, values)]
    if not values:
        p = torch.cat(
            [
                values_of_all.probabilities
                for values_of_all, _ in predictions
                if isinstance(values_of_all, ClassPrediction)
            ]
        )
        numbers = _numbered(keys, targets)
        chosen = choose(
            p, targets, calibrator, rows=numbers, networks=np.array(networks_of), repeats=repeats, weights=weights
        )
        p = chosen.probabilities
        limit = max(_limit(1 - p.amax(1), coverage, weights), _CERTAIN)
        rule, threshold = _sets(rule, p, targets, coverage, keys, method.seed, numbers, repeats, weights)
        if isinstance(chosen.calibrator, TemperatureScaling):
            raw = torch.cat([each.probabilities for each, _ in predictions if isinstance(each, ClassPrediction)])
            logits = raw.log().clamp_min(-700)
            notes += _of_temperature(find_temperature(logits, targets, repeats=repeats, weights=weights), rows)
        return Calibration(
            rows=len(targets),
            calibrator=chosen.calibrator,
            sets=rule,
            seed=method.seed,
            noise=None,
            abstain_above=limit,
            coverage=coverage,
            conformal=threshold,
            notes=tuple(notes),
        )
    mean, deviation = predictor.target_scale
    y = targets.double() * deviation + mean
    values_of_all = _joined(
        [values_of_all for values_of_all, _ in predictions if isinstance(values_of_all, ValuePrediction)]
    )
    own = values_of_all.aleatoric is not None
    noise = None if own else fit_noise(values_of_all, y, weights)
    factor = fit_noise_factor(values_of_all, y, weights) if own else 1.0
    calibrated = values_of_all.with_noise_factor(factor) if noise is None else values_of_all.with_noise(noise)
    spread = calibrated.standard_deviation
    threshold = conformal(interval_scores(calibrated, y), level, repeats=repeats, weights=weights)
    return Calibration(
        rows=len(y),
        calibrator=None,
        noise=noise,
        noise_factor=factor,
        level=level,
        abstain_above=_limit(spread, coverage, weights) * (1 + ROUNDING),
        coverage=coverage,
        conformal=threshold,
        notes=tuple(notes),
    )


_TUNING = 5  # of so many rows one chooses the penalty of RAPS, the others fit the threshold


def _numbered(features: Sequence[Tensor], targets: Tensor) -> np.ndarray:
    """Return a number for each row, the same for equal ones: what several networks have predicted is one row."""
    digests = [
        blake2b(row.tobytes(), digest_size=8).digest() for part in features for row in part.contiguous().cpu().numpy()
    ]
    keys = np.frombuffer(b"".join(digests), np.uint64)
    return np.unique(np.stack([keys, targets.numpy().astype(np.uint64)]), axis=1, return_inverse=True)[1].ravel()


def _sets(
    rule: SetRule,
    p: Tensor,
    targets: Tensor,
    level: float,
    features: Sequence[Tensor],
    seed: int,
    rows: np.ndarray,
    repeats: float,
    weights: Tensor | None,
) -> tuple[SetRule, float]:
    """Return the rule of prediction sets, with its penalty where it has one, and the threshold of its scores."""
    at = targets.unsqueeze(1)
    if rule.name == "lac":
        return rule, conformal(class_scores(p, targets), level, repeats=repeats, weights=weights)
    uniforms = torch.cat([uniforms_of(part, seed) for part in features])
    kept = torch.ones(len(p), dtype=torch.bool)
    if rule.name == "raps":
        order = np.random.default_rng(0).permutation(int(rows.max()) + 1)
        tuning = torch.from_numpy(order[rows] % _TUNING == 0)
        if tuning.sum() and not tuning.all():
            of_tuning = None if weights is None else weights[tuning]
            rule, kept = tuned_raps(p[tuning], targets[tuning], level, uniforms[tuning], of_tuning), ~tuning
    scores = rule.scores(p[kept], uniforms[kept]).gather(1, at[kept]).squeeze(1)
    return rule, conformal(scores, level, repeats=repeats, weights=None if weights is None else weights[kept])


def _limit(uncertainty: Tensor, coverage: float, weights: Tensor | None) -> float:
    """Return the least uncertainty that a share `coverage` of the rows, or of their weights, does not exceed."""
    u = uncertainty.double()
    if weights is None or bool((weights == weights[0]).all()):
        return float(torch.quantile(u, coverage, interpolation="higher"))
    ranked, order = u.sort()
    reached = weights[order].cumsum(0) / weights.sum()
    return float(ranked[int((reached < coverage - 1e-9).sum())])


def _that_count(rows: Rows) -> Rows:
    """Return the rows whose weight is above 0."""
    w = rows.weights
    return rows if w is None or bool((w > 0).all()) else Rows(rows.features[w > 0], rows.targets[w > 0], w[w > 0])


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


@dataclass(frozen=True, eq=False)
class CalibratedStudy:
    """A study's networks, calibrated: what `Study.calibrated` returns.

    Args:
        results: the study's.
        method: how rows are predicted.
        calibration: what was fitted for it on rows that took no part in training.
    """

    results: FreshResults | SavedResults
    method: Method
    calibration: Calibration

    def predict(self, rows: Any) -> CalibratedClasses | CalibratedValues:
        """Return calibrated predictions of new rows.

        Args:
            rows: raw rows, as the study's data had them: a frame or a file with the columns of its table, the target's
                or not; an array, a tensor or lists; a file or folder of images. Of `Data` the test rows if it has any,
                else all.

        Returns:
            For classes `prediction` (their names), `probabilities`, `entropy`, `mutual_information`, `abstain` and
            `prediction_sets`; for values, in the target's own unit, `mean`, `deviation`, `epistemic`, `intervals` and
            `abstain`; as NumPy arrays. `columns()` has what `dampen predict` writes.

        Raises:
            InputError: rows that the study's preprocessing can't read, of another shape, or none.

        Warns:
            DataWarning: values that the training rows did not have, and what was made of them.
        """
        data = self.read(rows)
        for note in data.notes if isinstance(data, Incoming) else ():
            warnings.warn(note, DataWarning, stacklevel=2)
        parts = [part for _, _, part in self._parts(data, rows_of(data))]
        if not parts:
            raise InputError("there are no rows to predict")
        return joined(parts)

    def read(self, rows: Any, *, data_dir: str | Path | None = None, progress: bool = False) -> Data | Incoming:
        """Return new rows as the study's preprocessing reads them.

        Args:
            rows: as for `predict`.
            data_dir: where data is looked for that has to be loaded.
            progress: whether to show a bar while it is.

        Raises:
            InputError: as for `predict`.
        """
        return read_new_rows(self.results, rows, data_dir, progress=progress)

    def columns(self, data: Data | Incoming, rows: Tensor) -> Iterator[dict[str, np.ndarray]]:
        """Yield the columns of predictions, some rows at a time, so that memory does not grow with their number.

        Columns of classes: `row`, `prediction`, `probability` (both of tempered probabilities), `entropy` and
        `mutual_information` (of the samples), `abstain`, `set_size`; of values `row`, `prediction`,
        `standard_deviation`, `epistemic`, `low`, `high`, `abstain`. Where there are targets also `target` and what
        `summary` needs, whose names begin with an underscore: of rows whose target is known, flagged by `_known`.

        Args:
            data: as `read` returns it.
            rows: numbers of the rows.
        """
        every = data.targets if labelled(self.results.predictor, data) else None
        own, (mean, deviation) = self.results.made_on(data), self.results.target_scale
        for part, prediction, calibrated in self._parts(data, rows):
            columns = {"row": part.numpy(), **calibrated.columns()}
            if every is not None and isinstance(prediction, ClassPrediction):
                assert isinstance(calibrated, CalibratedClasses)
                columns |= _worth_of_classes(prediction, calibrated, every[part])
            elif every is not None and isinstance(prediction, ValuePrediction):
                targets = every[part].double()
                targets = targets * deviation + mean if own else targets
                columns |= _worth_of_values(prediction, self.calibration, columns, targets)
                columns["target"] = _as_written(columns["target"], mean if own else 0.0)
            if every is not None and isinstance(data, Data) and data.weights is not None:
                columns["_weight"] = data.weights[part].double().numpy()
            yield columns

    def _parts(
        self, data: Data | Incoming, rows: Tensor
    ) -> Iterator[tuple[Tensor, Prediction, CalibratedClasses | CalibratedValues]]:
        """Yield numbers of rows with their predictions, before and after calibration."""
        predictor, calibration = self.results.predictor, self.calibration
        networks = predictor.networks if self.method.ensemble else predictor.networks[:1]
        values = predictor.description.task == "regression"
        for start in range(0, len(rows), ROWS):
            part = rows[start : start + ROWS]
            inputs = predictor.inputs(data, part)
            prediction = self.method.predict(networks, inputs, predictor, start, keep=values)
            if isinstance(prediction, ClassPrediction):
                yield (
                    part,
                    prediction,
                    CalibratedClasses.of(prediction, calibration, predictor.description.classes or (), inputs),
                )
            else:
                yield part, prediction, CalibratedValues.of(prediction, calibration)


def rows_of(data: Data | Incoming) -> Tensor:
    """Return the numbers of the rows that are predicted: the test rows where there are any, else all."""
    test_rows = () if isinstance(data, Incoming) else data.test_rows
    return torch.arange(len(data.features)) if not len(test_rows) else torch.as_tensor(test_rows)


def labelled(predictor: Predictor, data: Data | Incoming) -> bool:
    """Return whether data has the targets that the study predicts: its own, or other data with the same classes."""
    if isinstance(data, Incoming):
        return data.targets is not None
    about = predictor.description
    return data.task == about.task and data.classes == about.classes


def _worth_of_classes(
    prediction: ClassPrediction, calibrated: CalibratedClasses, targets: Tensor
) -> dict[str, np.ndarray]:
    p, q = prediction.probabilities, torch.from_numpy(calibrated.probabilities)
    names = np.array(calibrated.classes, dtype=object)
    known = (targets >= 0).numpy()
    target = names[targets.numpy()]
    target[~known] = None
    targets = targets.clamp_min(0)
    at = targets.unsqueeze(1)
    hot = torch.nn.functional.one_hot(targets, p.shape[1])
    sets = torch.from_numpy(calibrated.in_prediction_set)
    return {
        "_known": known,
        "target": target,
        "_right": calibrated.probabilities.argmax(1) == targets.numpy(),
        "_right_raw": (p.argmax(1) == targets).numpy(),
        "_raw": p.amax(1).numpy(),
        "_class": targets.numpy(),
        "_probabilities": p.float().numpy(),
        "_probabilities_calibrated": q.float().numpy(),
        "_nll": -p.gather(1, at).clamp_min(1e-300).log().squeeze(1).numpy(),
        "_nll_calibrated": -q.gather(1, at).clamp_min(1e-300).log().squeeze(1).numpy(),
        "_brier": (p - hot).square().sum(1).numpy(),
        "_covered": sets.gather(1, at).squeeze(1).numpy(),
    }


def _worth_of_values(
    prediction: ValuePrediction, calibration: Calibration, columns: dict[str, np.ndarray], targets: Tensor
) -> dict[str, np.ndarray]:
    prediction, y = calibration.values(prediction), targets.numpy()
    low, high = prediction.interval(LEVEL)
    return {
        "_known": (~targets.isnan()).numpy(),
        "target": y,
        "_square": (targets - prediction.mean).square().numpy(),
        "_nll": prediction.nll(targets).numpy(),
        "_log_likelihood": prediction.log_likelihood(targets).numpy(),
        "_inside": ((targets >= low) & (targets <= high)).numpy(),
        "_covered": ((y >= columns["low"]) & (y <= columns["high"])).astype(bool),
    }


def _as_written(values: np.ndarray, mean: float) -> np.ndarray:
    """Return decimal numbers without the digits that float32 has added, of values or of what they are beyond a mean."""
    error = np.finfo(np.float32).eps * (np.abs(values) + np.abs(values - mean))
    with np.errstate(divide="ignore", invalid="ignore"):
        power = 10.0 ** np.floor(-np.log10(error)).clip(0, 15)
        return np.where(error > 0, np.round(values * power) / power, values)
