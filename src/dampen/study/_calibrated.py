"""What a kept study says of rows, how that is calibrated on rows that nobody trained on, and what it was worth."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dampen._io import counted
from dampen.data import Data, Incoming
from dampen.errors import InputError
from dampen.study._calibration_ensembles import Ensemble
from dampen.study._kept import Kept, inputs_of
from dampen.study._metric_summaries import ROUNDING
from dampen.study._protocol import FOLDS
from dampen.uncertainty import (
    ClassPrediction,
    Prediction,
    Temperature,
    ValuePrediction,
    class_scores,
    conformal,
    find_temperature,
    fit_noise,
    predict,
    rows_for,
    tempered,
    value_scores,
)

ROWS = 4096  # that are predicted at a time: memory does not grow with the data, but for the columns themselves
LEVEL = 0.95  # of intervals
_CERTAIN = float(torch.finfo(torch.float32).eps)  # an uncertainty below it is rounding: no reason to refuse a row


@dataclass(frozen=True)
class Method:
    """How a study is asked.

    Args:
        samples: dropout masks for each network; 0 for a single pass.
        ensemble: whether all seeds' networks answer, or the first alone.
        seed: of the masks.
    """

    samples: int = 100
    ensemble: bool = False
    seed: int = 0

    @property
    def name(self) -> str:
        """What it is called."""
        once = "ensemble" if self.ensemble else "single pass"
        sampled = "ensemble with Monte-Carlo dropout" if self.ensemble else "Monte-Carlo dropout"
        return f"{sampled}, {counted(self.samples, 'sample')}" if self.samples else once

    def ask(
        self, networks: Sequence[nn.Module], x: Tensor, kept: Kept, first_row: int = 0, keep: bool = False
    ) -> Prediction:
        """Predict rows."""
        return predict(
            list(networks),
            x,
            self.samples or None,
            self.seed,
            task=kept.description.task,
            scale=kept.target_scale,
            first_row=first_row,
            return_samples=keep,
            dropout=kept.setting.get("dropout") if self.samples else None,
        )


@dataclass(frozen=True)
class Calibration:
    """What rows that took no part in training say about a study's predictions.

    Args:
        rows: how many there were.
        temperature: for class probabilities; 1 for values.
        noise: variance of a regression's noise in the target's own unit; None for classes.
        refuse_above: uncertainty above which a row is refused, so that a share `coverage` of those rows is answered.
        coverage: that share.
        conformal: threshold of the conformal score, at the level `coverage` for classes, `LEVEL` for values.
        notes: what the rows could not tell, and what to do about it.
    """

    rows: int
    temperature: float
    noise: float | None
    refuse_above: float
    coverage: float
    conformal: float
    notes: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "rows": self.rows,
            "temperature": self.temperature if self.noise is None else None,
            "noise_variance": self.noise,
            "coverage": self.coverage,
            "refuse_above": self.refuse_above if math.isfinite(self.refuse_above) else None,
            "conformal_threshold": self.conformal if math.isfinite(self.conformal) else None,
        }


def calibrate(kept: Kept, method: Method, coverage: float) -> Calibration:
    """Fit temperature or noise, the threshold of refusal and the conformal one.

    Networks of the study's confirmation predict the rows that each has not seen. An ensemble's rows are predicted by
    networks that have not seen them: those of the confirmation where rows were held out; where there were folds, of
    classes a single one, of values as many as the ensemble has, which were trained for that.

    Raises:
        InputError: a coverage outside 0 to 1, or networks that are gone.
    """
    if not 0 < coverage < 1:
        raise InputError(f"coverage must be between 0 and 1, got {coverage!r}")
    values = kept.description.task == "regression"
    found: list[tuple[Prediction, Tensor]] = []
    for networks, rows in _unseen(kept, method.ensemble):
        for start in range(0, len(rows), ROWS):
            part = slice(start, start + ROWS)
            prediction = method.ask(networks, rows.features[part], kept, start, keep=values)
            found.append((prediction, rows.targets[part]))
    targets, repeats = torch.cat([t for _, t in found]), _repeats(kept, method.ensemble)
    rows = round(len(targets) / repeats)
    notes = [*_of_older(kept, method.ensemble), *_too_few(rows, LEVEL if values else coverage, values)]
    if not values:
        p = torch.cat([one.probabilities for one, _ in found if isinstance(one, ClassPrediction)])
        temperature = find_temperature(p.log().clamp_min(-700), targets, repeats=repeats)
        p = tempered(p, temperature.value)
        limit = max(_limit(1 - p.amax(1), coverage), _CERTAIN)
        threshold = conformal(class_scores(p, targets), coverage, repeats=repeats)
        notes += _of_temperature(temperature, rows)
        return Calibration(len(targets), temperature.value, None, limit, coverage, threshold, tuple(notes))
    mean, deviation = kept.target_scale
    y = targets.double() * deviation + mean
    one = _joined([one for one, _ in found if isinstance(one, ValuePrediction)])
    noise = fit_noise(one, y)
    spread = one.with_noise(noise).standard_deviation
    threshold = conformal(value_scores(y, one.mean, spread), LEVEL, repeats=repeats)
    return Calibration(len(y), 1.0, noise, _limit(spread, coverage) * (1 + ROUNDING), coverage, threshold, tuple(notes))


def _limit(uncertainty: Tensor, coverage: float) -> float:
    return float(torch.quantile(uncertainty.double(), coverage, interpolation="higher"))


def _unseen(kept: Kept, ensemble: bool) -> list[Ensemble]:
    """Return networks with rows that they have not seen."""
    return kept.ensembles if ensemble else [((network,), rows) for network, rows in kept.unseen]


def _repeats(kept: Kept, ensemble: bool) -> float:
    """Return how often each row is predicted: by every network where all share their rows, else once a repeat."""
    if ensemble and kept.rows_of_ensembles:
        return 1.0
    sets = len({id(rows) for _, rows in kept.unseen})
    if sets == 1:
        return 1.0 if ensemble else float(len(kept.unseen))
    return max(1.0, sets / FOLDS)


def _of_temperature(found: Temperature, rows: int) -> list[str]:
    if found.value != 1:
        return []
    if found.wrong == 0:
        return [
            f"none of the {rows} calibration rows is predicted wrongly, so that they can't tell how certain the "
            "network should be: its probabilities stay as they are (temperature 1)"
        ]
    return [
        f"the {rows} calibration rows can't tell its probabilities from right ones: they stay as they are "
        "(temperature 1)"
    ]


def _too_few(rows: int, level: float, values: bool) -> list[str]:
    """Say why sets or intervals hold everything: too few rows for the level."""
    if rows >= rows_for(level):
        return []
    what = "prediction intervals of" if values else "prediction sets for"
    all_of_it = "every interval is infinite" if values else "every class is in every set"
    most = rows / (rows + 1)
    instead = "calibrate on more" if values else f"ask for a coverage of {math.floor(1000 * most) / 1000:g} or less"
    return [
        f"{what} {level:.4g} coverage take {rows_for(level)} calibration rows, ceil(1 / (1 - coverage)) - 1, and there "
        f"are {rows}: {all_of_it}; {instead}" + ("" if values else ", or tune on more rows")
    ]


def _of_older(kept: Kept, ensemble: bool) -> list[str]:
    of_classes = kept.description.task == "classification"
    if not ensemble or of_classes or kept.scheme != "folds" or kept.rows_of_ensembles or len(kept.networks) < 2:
        return []
    return [
        "the study is of an older version, whose folds were each left out by a single network: an ensemble is "
        "calibrated by those, and refuses more rows than it should; make the study anew"
    ]


def _joined(parts: Sequence[ValuePrediction]) -> ValuePrediction:
    draws = [part.draws for part in parts if part.draws is not None]
    return ValuePrediction(
        torch.cat([part.mean for part in parts]),
        torch.cat([part.epistemic for part in parts]),
        None,
        parts[0].samples,
        torch.cat(draws, 1),
    )


def labelled(kept: Kept, data: Data | Incoming) -> bool:
    """Say whether data has the targets that the study predicts: its own data, or other data with the same classes."""
    if isinstance(data, Incoming):
        return data.targets is not None
    return data.task == kept.description.task and data.classes == kept.description.classes


def answer(
    kept: Kept,
    data: Data | Incoming,
    rows: Tensor,
    method: Method,
    calibration: Calibration,
    take: Callable[[dict[str, np.ndarray]], object],
) -> None:
    """Predict rows, some at a time, and hand over their columns.

    Columns of classes: `row`, `prediction`, `probability` (both of tempered probabilities), `entropy` and
    `mutual_information` (of the samples), `refuse`, `set_size`; of values `row`, `prediction`, `standard_deviation`,
    `epistemic`, `low`, `high`, `refuse`. Where there are targets also `target` and what `summary` needs, whose names
    begin with an underscore: of rows whose target is known, which `_known` says.

    Args:
        kept: the study.
        data: any, with rows of the same shape.
        rows: numbers of the rows.
        method: how.
        calibration: of the same method.
        take: is called with the columns of some rows.
    """
    every = data.targets if labelled(kept, data) else None
    own = kept.made_on(data)
    values = kept.description.task == "regression"
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        networks = kept.networks if method.ensemble else kept.networks[:1]
        found = method.ask(networks, inputs_of(kept, data, part), kept, start, keep=values)
        targets = None if every is None else every[part]
        if isinstance(found, ClassPrediction):
            columns = _of_classes(found, calibration, targets, kept.description.classes or ())
        else:
            if targets is not None:
                mean, deviation = kept.target_scale
                targets = targets.double() * deviation + mean if own else targets.double()
            columns = _of_values(found, calibration, targets)
        take({"row": part.numpy(), **columns})


def _of_classes(
    found: ClassPrediction, calibration: Calibration, targets: Tensor | None, names: Sequence[str]
) -> dict[str, np.ndarray]:
    p, q = found.probabilities, tempered(found.probabilities, calibration.temperature)
    probability, classes = q.max(1)
    words = np.array(names, dtype=object)
    columns: dict[str, np.ndarray] = {
        "prediction": words[classes.numpy()],
        "probability": probability.numpy(),
        "entropy": found.entropy.numpy(),
        "mutual_information": found.mutual_information.numpy(),
        "refuse": (1 - probability > calibration.refuse_above).numpy(),
        "set_size": (q >= 1 - calibration.conformal).sum(1).numpy(),
    }
    if targets is not None:
        columns["_known"] = (targets >= 0).numpy()
        columns["target"] = words[targets.numpy()]
        columns["target"][~columns["_known"]] = None
        targets = targets.clamp_min(0)
        at = targets.unsqueeze(1)
        hot = torch.nn.functional.one_hot(targets, p.shape[1])
        columns["_right"] = (classes == targets).numpy()
        columns["_raw"] = p.amax(1).numpy()
        columns["_nll"] = -p.gather(1, at).clamp_min(1e-300).log().squeeze(1).numpy()
        columns["_nll_calibrated"] = -q.gather(1, at).clamp_min(1e-300).log().squeeze(1).numpy()
        columns["_brier"] = (p - hot).square().sum(1).numpy()
        columns["_covered"] = (q.gather(1, at).squeeze(1) >= 1 - calibration.conformal).numpy()
    return columns


def _of_values(found: ValuePrediction, calibration: Calibration, targets: Tensor | None) -> dict[str, np.ndarray]:
    assert calibration.noise is not None
    found = found.with_noise(calibration.noise)
    deviation = found.standard_deviation
    columns: dict[str, np.ndarray] = {
        "prediction": found.mean.numpy(),
        "standard_deviation": deviation.numpy(),
        "epistemic": found.epistemic.sqrt().numpy(),
        "low": (found.mean - calibration.conformal * deviation).numpy(),
        "high": (found.mean + calibration.conformal * deviation).numpy(),
        "refuse": (deviation > calibration.refuse_above).numpy(),
    }
    if targets is not None:
        low, high = found.interval(LEVEL)
        columns["_known"] = (~targets.isnan()).numpy()
        columns["target"] = targets.numpy()
        columns["_square"] = (targets - found.mean).square().numpy()
        columns["_nll"] = found.nll(targets).numpy()
        columns["_log_likelihood"] = found.log_likelihood(targets).numpy()
        columns["_inside"] = ((targets >= low) & (targets <= high)).numpy()
        columns["_covered"] = ((targets.numpy() >= columns["low"]) & (targets.numpy() <= columns["high"])).astype(bool)
    return columns
