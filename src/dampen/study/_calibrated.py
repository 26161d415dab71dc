"""A study's predictions for new rows, calibrated, and their metrics."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dampen.data import Data, Incoming
from dampen.errors import DataWarning, InputError
from dampen.study._calibrate import ROWS, Method
from dampen.study._fresh import FreshResults
from dampen.study._new_rows import read_new_rows
from dampen.study._predictor import Predictor
from dampen.study._saved import SavedResults
from dampen.uncertainty import (
    LEVEL,
    CalibratedClasses,
    CalibratedValues,
    Calibration,
    ClassPrediction,
    Prediction,
    ValuePrediction,
    joined,
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
