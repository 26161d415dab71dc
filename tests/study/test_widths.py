"""Regressions whose noise differs from row to row: likelihood and intervals beside the truth's, every way in."""

import json
from typing import Any, cast

import jaxtyping
import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import dampen
from dampen import InputError
from dampen.metrics import find, mean_probabilities
from dampen.study._phases import split
from dampen.uncertainty import (
    CalibratedValues,
    ValuePrediction,
    conformal,
    fit_noise_factor,
    interval_scores,
    intervals,
    of_quantiles,
)

pytestmark = pytest.mark.usefixtures("without_shape_checks")

ROWS, EPOCHS = 1000, 10
HOW: dict[str, Any] = {"n_seeds": 2, "epochs": EPOCHS, "batch_size": 64, "validation": "folds"}
SETTINGS = [dampen.Setting(lr=0.03), dampen.Setting(lr=1e-5)]
NORMAL: Any = stats.norm
RANKS: Any = stats.spearmanr
HEADS = ("gaussian_nll", "pinball")  # beta_nll differs in its gradient alone


def made(n, seed, hard=False):
    """Rows, targets, and the mean and deviation that these were drawn with."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, 4))
    mean = np.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2] if hard else x[:, 0] + x[:, 1]
    deviation = np.exp(-1 + 1.2 * x[:, 3])
    return x.astype(np.float32), (mean + deviation * rng.normal(size=n)).astype(np.float32), mean, deviation


def in_fifths(inside, deviation):
    """The share of rows inside, in each fifth of the noise."""
    fifth = np.argsort(np.argsort(deviation)) * 5 // len(deviation)
    return [float(inside[fifth == k].mean()) for k in range(5)]


@pytest.fixture(scope="module")
def studies(tmp_path_factory, _checks_of_a_room):
    """A study for each loss, in a folder, of the same rows in a file."""
    jaxtyping.config.update("jaxtyping_disable", True)  # checking would take most of the trainings' time
    folder = tmp_path_factory.mktemp("widths")
    x, y, _, _ = made(ROWS, 0)
    np.savez(folder / "rows.npz", x=x, y=7 * y + 100)
    data = dampen.load(folder / "rows.npz", task="regression")
    for loss in HEADS:
        dampen.compare(dampen.mlp(16, activation="silu"), data, SETTINGS, loss=loss, out=folder / loss, **HOW)
    return folder


@pytest.mark.parametrize("loss", HEADS)
def test_intervals_cover_in_every_fifth_of_the_noise_from_the_folder_too(studies, loss):
    study = dampen.load_study(studies / loss)
    assert study.loss == loss
    x, y, _, deviation = made(5000, 1)
    found = cast(CalibratedValues, study.calibrated(0, level=0.9, ensemble=True).predict(x))
    inside = (found.intervals[:, 0] <= 7 * y + 100) & (7 * y + 100 <= found.intervals[:, 1])
    shares = in_fifths(inside, deviation)
    # one width for all: 0.65 to 1; quantiles widen by one distance for all, which is little help where noise is small
    least = {"gaussian_nll": 0.84, "pinball": 0.7}[loss]
    assert least < min(shares) <= max(shares) < 0.97, shares
    widths = found.intervals[:, 1] - found.intervals[:, 0]
    assert RANKS(widths, deviation)[0] > 0.8
    assert RANKS(found.deviation, deviation)[0] > 0.8
    assert np.median(found.deviation / (7 * deviation)) == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("loss", HEADS)
def test_the_command_predicts_what_the_study_predicts(run, studies, loss):
    words = (studies / "rows.npz", "--samples", 0, "--level", "0.8", "--rows", "all", "--json")
    code, out, err = run("predict", studies / loss, *words)
    assert code == 0, err
    document = json.loads(out)
    assert document["calibration"]["level"] == 0.8
    assert 0.5 < document["calibration"]["noise_factor"] < 2
    assert document["abstention"]["conformal_coverage"] == pytest.approx(0.8, abs=0.08)
    kept = dampen.load_study(studies / loss)
    found = cast(CalibratedValues, kept.calibrated(0, level=0.8).predict(made(ROWS, 0)[0]))
    np.testing.assert_allclose([row["low"] for row in document["predictions"]], found.intervals[:, 0], rtol=1e-5)
    _, y, mean, deviation = made(ROWS, 0)
    truth = NORMAL(mean, deviation).logpdf(y).mean() - np.log(7)
    assert document["summary"]["log_likelihood"] == pytest.approx(truth, abs=0.2)


def test_predict_takes_a_study_with_heads(studies):
    x = torch.from_numpy(made(20, 2)[0])
    for loss in HEADS:
        study = dampen.load_study(studies / loss)
        found = cast(ValuePrediction, dampen.predict(study, x))
        assert found.aleatoric is not None
        assert found.mean.shape == found.aleatoric.shape == (20,)
        assert (found.quantiles is None) == (loss != "pinball")


def test_a_study_with_heads_resumes_and_refuses_another_loss(studies):
    data = dampen.load(studies / "rows.npz", task="regression")
    network, how = dampen.mlp(16, activation="silu"), {**HOW, "resume": True}
    again = dampen.compare(network, data, SETTINGS, loss="pinball", out=studies / "pinball", **how)
    assert again.verdict.recommended == dampen.load_study(studies / "pinball").setting
    with pytest.raises(InputError, match="holds another study"):
        dampen.compare(network, data, SETTINGS, loss="beta_nll", out=studies / "pinball", **how)


def test_the_metric_is_the_likelihood_of_each_row_s_own_variance():
    _, y, mean, deviation = made(300, 3)
    outputs = torch.tensor(np.stack([mean, 2 * np.log(deviation)], 1))
    y = torch.from_numpy(y).double()
    costs = find("nll", "regression").cost(outputs, y)
    np.testing.assert_allclose(costs, -NORMAL(mean, deviation).logpdf(y), rtol=1e-6)
    np.testing.assert_allclose(find("mse", "regression").cost(outputs, y), (mean - y.numpy()) ** 2, rtol=1e-9)
    pair = torch.stack([outputs, outputs + 1])
    whole = mean_probabilities(pair, "regression")
    variances = deviation**2 * (1 + np.e) / 2 + 0.25
    np.testing.assert_allclose(whole[:, 0], mean + 0.5, rtol=1e-9)
    np.testing.assert_allclose(whole[:, 1].exp(), variances, rtol=1e-9)


def test_the_noise_factor_undoes_a_variance_that_is_too_small():
    _, y, mean, deviation = made(20_000, 4)
    draws = torch.from_numpy(mean)[None]
    variances = torch.from_numpy(deviation**2 / 4)[None]
    found = ValuePrediction(draws[0], torch.zeros(20_000).double(), variances[0], 1, draws, variances)
    factor = fit_noise_factor(found, torch.from_numpy(y))
    assert factor == pytest.approx(float((((y - mean) / deviation) ** 2).mean() * 4), rel=1e-4)  # its closed form
    assert found.with_noise_factor(factor).nll(torch.from_numpy(y)).mean() == pytest.approx(
        -float(NORMAL(mean, deviation).logpdf(y).mean()), abs=1e-3
    )


def test_conformalised_quantiles_are_those_of_romano_et_al():
    """Scores and ends as equations 5 to 7 have them, on crossing quantiles, too."""
    rng = np.random.default_rng(0)
    ends = np.sort(rng.normal(size=(200, 2)), 1)
    y = rng.normal(size=200)
    outputs = np.c_[ends.mean(1), ends]
    outputs[:50] = outputs[:50, [0, 2, 1]]  # crossed
    prediction = of_quantiles(ValuePrediction(torch.from_numpy(outputs), torch.zeros(200, 3).double(), None, 1))
    scores = interval_scores(prediction, torch.from_numpy(y)).numpy()
    np.testing.assert_allclose(scores, np.maximum(ends[:, 0] - y, y - ends[:, 1]))
    threshold = conformal(torch.from_numpy(scores), 0.9)
    assert threshold == np.sort(scores)[int(np.ceil(0.9 * 201)) - 1]
    low, high = intervals(prediction, threshold).numpy().T
    np.testing.assert_allclose(low, ends[:, 0] - threshold)
    assert ((low <= y) & (y <= high)).mean() == pytest.approx(181 / 200)
    assert prediction.aleatoric is not None
    np.testing.assert_allclose(prediction.aleatoric.sqrt(), (ends[:, 1] - ends[:, 0]) / (2 * stats.norm.ppf(0.95)))


@pytest.mark.parametrize("loss", HEADS)
def test_the_estimator_s_intervals_follow_the_noise(loss):
    x, y, _, deviation = made(400, 5)
    words: dict[str, Any] = {"n_settings": 2, "n_seeds": 1, "n_confirm_seeds": 2, "epochs": 12, "random_state": 0}
    words |= {"batch_size": 64, "space": {"lr": [0.03], "weight_decay": [0.0, 0.01]}}
    model = dampen.DampenRegressor((16,), loss=loss, **words).fit(x, 1000 * y)
    assert model.noise_ is None
    fresh, targets, _, deviation = made(4000, 6)
    low, high = model.predict_interval(fresh, 0.9)
    assert np.mean((low <= 1000 * targets) & (1000 * targets <= high)) == pytest.approx(0.9, abs=0.04)
    assert RANKS(high - low, deviation)[0] > 0.7
    found = model.predict_uncertainty(fresh)
    np.testing.assert_allclose(found.mean, model.predict(fresh), rtol=1e-4, atol=1)
    low, high = found.interval(0.9)
    assert np.mean((low <= 1000 * targets) & (1000 * targets <= high)) == pytest.approx(0.9, abs=0.05)


def two(inputs):
    return nn.Linear(inputs, 2)


def test_a_network_of_one_s_own_returns_what_the_loss_takes():
    x, y, _, _ = made(200, 7)
    data = dampen.from_arrays(x, y)
    settings = [dampen.Setting(lr=0.01), dampen.Setting(lr=0.1)]
    study = dampen.compare(two, data, settings, n_seeds=2, epochs=2, loss="gaussian_nll")
    assert study.plan.metric.name == "nll"
    for loss, message in (("pinball", r"takes 3 outputs.*\[rows, 3\]"), (None, "loss='gaussian_nll'")):
        with pytest.raises(InputError, match=message):
            dampen.compare(two, data, settings, n_seeds=2, epochs=2, loss=loss)


@pytest.mark.parametrize("varies", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_loss_is_chosen_by_the_likelihood_of_rows_that_are_not_trained_on(varies, tmp_path):
    rng = np.random.default_rng(8)
    x = rng.uniform(-1, 1, (600, 2)).astype(np.float32)
    deviation = np.exp(2 * x[:, 1]) if varies else 1.0
    y = (x[:, 0] + deviation * rng.normal(size=600)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=x, y=y)
    data = dampen.load(tmp_path / "rows.npz", task="regression")
    how: dict[str, Any] = {"n_settings": 2, "n_seeds": 2, "epochs": EPOCHS, "confirmed": 1, "n_confirm_seeds": 2}
    how |= {"validation": "held-out", "batch_size": 64}
    space = {"lr": [0.03], "weight_decay": [0.0, 0.01]}
    network = dampen.mlp(8, activation="silu")
    study = dampen.tune(network, data, space, loss="auto", out=tmp_path / "study", **how)
    kept = json.loads((tmp_path / "study" / "loss.json").read_text())["nll"]
    assert study.loss == ("gaussian_nll" if varies else None)
    assert study.plan.metric.name == ("nll" if varies else "mse")
    (note,) = study.plan.notes
    assert note.startswith(f"the loss is {study.loss or 'squared_error'}: the negative log likelihood")
    if varies:
        assert dampen.load_study(tmp_path / "study").loss == "gaussian_nll"
        again = dampen.tune(network, data, space, loss="auto", out=tmp_path / "study", resume=True, **how)
        assert again.loss == study.loss
        with pytest.raises(InputError, match="holds a study already"):
            dampen.tune(network, data, space, loss="auto", out=tmp_path / "study", **how)
    settings = [dampen.Setting(lr=0.03, weight_decay=w) for w in (0.0, 0.01)]
    rows = split(study.plan, (0, 1), again=False)  # by hand: the same trainings, and the rows' likelihood
    population = dampen.Population(network, settings, [0, 1])
    population.fit(rows.sets, study.plan.training, epochs=EPOCHS, loss="squared_error")
    squares = torch.stack([(o[..., 0] - rows.selection.targets).square() for o in population.outputs(rows.selection)])
    costs = torch.empty_like(squares)
    n = squares.shape[-1]
    one = torch.randperm(n, generator=torch.Generator().manual_seed(n)) % 2 == 0
    for half in (one, ~one):
        deviation = squares[..., ~half].mean(-1, keepdim=True).sqrt()
        costs[..., half] = -torch.distributions.Normal(0.0, deviation).log_prob(squares[..., half].sqrt())
    expected = float(costs.mean((0, 2)).min()) + np.log(study.target_scale[1])
    assert kept["squared_error"] == pytest.approx(expected, rel=1e-4)


def test_mistakes_are_one_line(run, studies, tmp_path):
    classes = dampen.load("iris")
    with pytest.raises(InputError, match="'pinball' is for numbers"):
        dampen.tune(dampen.mlp(4), classes, loss="pinball")
    with pytest.raises(InputError, match="loss 'auto' is for numbers, and the data has classes"):
        dampen.tune(dampen.mlp(4), classes, loss="auto")
    with pytest.raises(InputError, match="loss must be one of squared_error"):
        dampen.DampenRegressor(loss="huber").fit(*made(60, 0)[:2])
    with pytest.raises(InputError, match="level must be between 0 and 1"):
        dampen.load_study(studies / "pinball").calibrated(0, level=1.0)
    for words in (
        ("tune", "iris", "--loss", "pinball", "--out", tmp_path / "study"),
        ("predict", studies / "pinball", studies / "rows.npz", "--level", "1.5"),
    ):
        code, out, err = run(*words)
        assert (code, out) == (2, ""), err
        assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("loss", ["gaussian_nll", "beta_nll"])
def test_the_likelihood_is_that_of_the_truth_and_every_fifth_is_covered(loss, seed):
    x, y, _, _ = made(8000, seed, hard=True)
    how: dict[str, Any] = {
        "n_settings": 8,
        "n_seeds": 1,
        "n_confirm_seeds": 5,
        "epochs": 60,
        "confirmed": 1,
        "batch_size": 64,
    }
    study = dampen.tune(
        dampen.mlp(32, 32, activation="silu"), dampen.from_arrays(x, y), loss=loss, seed=seed, validation="folds", **how
    )
    fresh, targets, mean, deviation = made(20_000, 1000 + seed, hard=True)
    calibrated = study.calibrated(0, level=0.9, ensemble=True)
    inputs = study.results.predictor.inputs(calibrated.read(fresh), torch.arange(len(fresh)))
    prediction = dampen.predict(study, inputs, return_samples=True)
    found = calibrated.calibration.values(cast(ValuePrediction, prediction)).log_likelihood(torch.from_numpy(targets))
    assert float(found.mean()) > NORMAL(mean, deviation).logpdf(targets).mean() - 0.02
    low, high = cast(CalibratedValues, calibrated.predict(fresh)).intervals.T
    shares = in_fifths((low <= targets) & (targets <= high), deviation)
    assert all(0.86 < share < 0.94 for share in shares)
