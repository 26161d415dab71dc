"""Studies of weighted rows: what is calibrated on rows, and what rows are worth, count them by their weights."""

import json
import shutil
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from torch import nn

import dampen
from dampen import InputError
from dampen.study import _calibration_rows
from dampen.uncertainty import CalibratedValues, summary

pytestmark = pytest.mark.usefixtures("without_shape_checks")

HOW: dict[str, Any] = {"n_seeds": 2, "epochs": 5, "batch_size": 64, "validation": "held-out"}
SETTINGS = [dampen.Setting(lr=0.03), dampen.Setting(lr=1e-4)]


def rows(n, seed):
    """Rows of which half weigh 20 times the others'."""
    rng = np.random.default_rng(seed)
    heavy = rng.random(n) < 0.5
    return rng.normal(size=(n, 3)).astype(np.float32), heavy, np.where(heavy, 20.0, 1.0), rng


def of_values(n, seed):
    x, heavy, w, rng = rows(n, seed)
    return x, (x[:, 0] + np.where(heavy, 0.3, 2.0) * rng.normal(size=n)).astype(np.float32), w


def of_classes(n, seed):
    x, heavy, w, rng = rows(n, seed)
    y = np.where(rng.random(n) < np.where(heavy, 0.3, 0.02), 1 - (x[:, 0] > 0), x[:, 0] > 0)
    return x, y.astype(np.int64), w


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "study"
    return folder, compared(folder)


def compared(folder, **how):
    x, y, w = of_values(600, 0)
    data = dampen.from_arrays(x, y, weights=w, test_fraction=0.25)
    return dampen.compare(dampen.mlp(8, dropout=0.0), data, SETTINGS, out=folder, **HOW, **how)


def test_intervals_cover_the_share_of_weight_that_they_promise_from_the_folder_too(values):
    folder, study = values
    x, y, w = of_values(20_000, 1)
    for level in (0.5, 0.9):
        calibrated = study.calibrated(0, level=level, ensemble=True)
        low, high = cast(CalibratedValues, calibrated.predict(x)).intervals.T
        assert np.average((low <= y) & (y <= high), weights=w) == pytest.approx(level, abs=0.1)
    kept = dampen.load_study(folder).calibrated(0, level=0.9, ensemble=True)
    assert kept.calibration == calibrated.calibration


def test_the_noise_is_the_weighted_mean_of_squares(values):
    _, study = values
    predictor = study.results.predictor
    squares, weights = [], []
    for network, seen in predictor.unseen:
        with torch.no_grad():
            squares.append((network(seen.features)[:, 0] - seen.targets).square().numpy())
        weights.append(seen.weights.numpy())
    squares, weights = np.concatenate(squares), np.concatenate(weights)
    expected, alike = (np.average(squares, weights=w) * predictor.target_scale[1] ** 2 for w in (weights, None))
    assert study.calibrated(0).calibration.noise == pytest.approx(expected, rel=1e-4)
    assert alike > 2 * expected


def test_figures_of_test_rows_are_weighted_means(values):
    _, study = values
    calibrated = study.calibrated(0, ensemble=True)
    data = study.plan.data
    (columns,) = calibrated.columns(data, torch.as_tensor(data.test_rows))
    w = data.weights[data.test_rows].numpy()
    squares = (columns["prediction"] - columns["target"]) ** 2
    assert summary(columns)["rmse"] == pytest.approx(np.sqrt(np.average(squares, weights=w)), rel=1e-6)
    assert summary(columns)["rmse"] < 0.7 * np.sqrt(np.mean(squares))


def test_a_folder_without_weights_has_a_note_and_one_with_other_numbers_is_refused(values, tmp_path):
    folder, study = values
    shutil.copytree(folder, tmp_path / "study")
    file = tmp_path / "study" / _calibration_rows.FILE
    with safe_open(file, "pt") as opened:
        about = json.loads(opened.metadata()["dampen"])
    tensors = load_file(file)

    def written(changed):
        head = {name: value for name, value in about.items() if name != "digest"}
        head["digest"] = _calibration_rows._digest(head, changed)
        save_file(changed, file, {"dampen": json.dumps(head)})
        return dampen.load_study(tmp_path / "study")

    older = {name: t for name, t in tensors.items() if "weights" not in name}
    assert len(older) < len(tensors)
    with pytest.warns(dampen.errors.DataWarning, match="kept no weights of the rows"):
        written(older).calibrated(0)
    with pytest.raises(InputError, match="its weights are not those of its rows"):
        written(tensors | {"weights/0": -tensors["weights/0"]}).calibrated(0)
    file.unlink()  # as the note has it
    again = compared(tmp_path / "study", resume=True)
    kept = dampen.load_study(tmp_path / "study").calibrated(0, ensemble=True).calibration
    assert kept == again.calibrated(0, ensemble=True).calibration == study.calibrated(0, ensemble=True).calibration


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """A study whose folds are two places, the rows of one weighing as much as ten of the other's."""
    x, y, _ = of_values(200, 0)
    place = np.arange(200) % 2
    data = dampen.from_arrays(x, y, weights=np.where(place, 10.0, 1.0), test_fraction=0.0)
    folds = [(np.flatnonzero(place != held), np.flatnonzero(place == held)) for held in (0, 1)]
    folder = tmp_path_factory.mktemp("sites") / "study"
    how = {"n_seeds": 4, "epochs": 5, "batch_size": 64}
    return dampen.compare(dampen.mlp(8, dropout=0.0), data.with_folds(folds), SETTINGS, out=folder, **how)


def test_a_fold_counts_by_the_weight_of_its_rows_in_what_is_calibrated(sites):
    errors, weights = [], []
    for network, seen in sites.results.predictor.unseen:
        with torch.no_grad():
            errors.append((network(seen.features)[:, 0] - seen.targets).numpy())
        weights.append(sites.data.weights[seen.numbers].numpy())
    errors, weights = np.concatenate(errors), np.concatenate(weights)
    assert sorted(set(weights.tolist())) == [1.0, 10.0]
    expected = np.average(errors**2, weights=weights) * sites.target_scale[1] ** 2
    found = sites.calibrated(0).calibration
    assert found.noise == pytest.approx(expected, rel=1e-4)
    kept = dampen.load_study(sites.folder).calibrated(0).calibration
    assert (kept.noise, kept.conformal, kept.limit_rows) == pytest.approx(
        (found.noise, found.conformal, found.limit_rows)
    )
    assert found.limit_rows == pytest.approx(200 * 5.5**2 / 50.5)  # each is there twice
    assert sites.verdict.value == pytest.approx(expected, rel=1e-4)


def test_a_fold_of_groups_counts_by_its_rows_and_their_weight(tmp_path):
    """Not by its groups: a large one is as many rows as it is."""
    x, y, _ = of_values(200, 0)
    place = np.where(np.arange(200) < 90, 0, 1)
    groups = np.where(place == 0, np.arange(200) // 10, 100 + np.arange(200) // 60)
    weights = np.where(place == 0, 3.0, 1.0)
    folds = [(np.flatnonzero(place != held), np.flatnonzero(place == held)) for held in (0, 1)]
    data = dampen.from_arrays(x, y, weights=weights, groups=groups, test_fraction=0.0)
    study = dampen.compare(dampen.mlp(8), data.with_folds(folds), SETTINGS, n_seeds=2, epochs=2, batch_size=64)
    errors, of = [], []
    for network, seen in study.results.predictor.unseen:
        with torch.no_grad():
            errors.append(((network(seen.features)[:, 0] - seen.targets) ** 2).numpy() * study.target_scale[1] ** 2)
        of.append(weights[seen.numbers.numpy()])
    expected = np.average(np.concatenate(errors), weights=np.concatenate(of))
    assert study.verdict.value == pytest.approx(expected, rel=1e-4)
    found = study.distilled()
    assert np.isfinite([end for three in found.against.values() for end in three]).all()


class Sure(nn.Module):
    """Logits of 6 and -6 by the sign of the first column, whatever it is trained on."""

    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return 6 * torch.stack([-x[:, 0], x[:, 0]], 1).sign() + 0 * self.nothing


def test_the_temperature_is_that_of_weighted_logistic_regression():
    x, y, w = of_classes(800, 2)
    study = dampen.compare(Sure, dampen.from_arrays(x, y, weights=w, test_fraction=0.25), SETTINGS, **HOW)
    calibration = study.calibrated(0, calibrator="temperature", ensemble=True).calibration
    (_, seen), *_ = study.results.predictor.unseen
    difference, targets = 12 * np.sign(seen.features[:, :1].numpy()), seen.targets.numpy()
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10)
    slope = model.fit(difference, targets, sample_weight=seen.weights.numpy()).coef_.item()
    assert calibration.temperature == pytest.approx(1 / slope, rel=1e-3)
    assert calibration.temperature > 1.3 / model.fit(difference, targets).coef_.item()
