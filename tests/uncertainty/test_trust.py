"""Predictions, calibration and trust against closed forms, scikit-learn, SciPy and simulation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import logsumexp
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score
from torch import nn

from dampen import InputError, mc_dropout, predict
from dampen.uncertainty import (
    ClassPrediction,
    SetRule,
    ValuePrediction,
    brier,
    class_scores,
    conformal,
    ece,
    find_temperature,
    fit_noise,
    fit_noise_factor,
    fit_temperature,
    nll,
    out_of_distribution,
    reliability,
    reliability_of,
    rows_for,
    selective,
    tempered,
    value_scores,
)


def forecasts(n=4000, classes=4, sharpness=1.0, seed=0):
    """Calibrated logits, then sharpened: classes drawn from the softmax of the unsharpened ones."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    targets = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    return sharpness * logits, targets


@pytest.fixture(scope="module")
def sampled():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Dropout(0.4), nn.Linear(20, 5)).double()
    return mc_dropout(network, 3 * torch.randn(40, 6, dtype=torch.float64), samples=200, return_samples=True)


def test_quantities_are_those_of_the_samples(sampled):
    draws = sampled.draws.double().numpy()
    np.testing.assert_allclose(sampled.probabilities, draws.mean(0), atol=1e-6)
    np.testing.assert_allclose(sampled.deviation, draws.std(0), atol=1e-6)
    np.testing.assert_allclose(sampled.entropy, stats.entropy(draws.mean(0), axis=1), atol=1e-5)
    np.testing.assert_allclose(sampled.expected_entropy, stats.entropy(draws, axis=2).mean(0), atol=1e-5)
    votes = draws.argmax(2)
    modes = [np.bincount(column, minlength=5).max() for column in votes.T]
    np.testing.assert_allclose(sampled.variation_ratio, 1 - np.array(modes) / 200)
    np.testing.assert_allclose(sampled.standard_deviation, draws.std(0)[range(40), draws.mean(0).argmax(1)], atol=1e-6)


def test_entropy_is_expected_entropy_plus_mutual_information(sampled):
    total = sampled.expected_entropy + sampled.mutual_information
    torch.testing.assert_close(sampled.entropy, total, rtol=1e-14, atol=1e-14)
    assert (sampled.mutual_information >= 0).all()
    assert sampled.mutual_information.max() > 0.01


def test_samples_that_tie_vote_for_the_first_class():
    network = nn.Sequential(nn.Dropout(1.0), nn.Linear(3, 4, bias=False))
    votes = mc_dropout(network, torch.ones(2, 3), samples=9).votes
    assert votes.tolist() == [[9, 0, 0, 0]] * 2


def gaussians(seed=0, n=500, T=30):
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=n)
    draws = centre + 0.3 * rng.normal(size=(T, n))
    return torch.from_numpy(draws), torch.from_numpy(centre + 0.5 * rng.normal(size=n))


def of_draws(draws):
    return ValuePrediction(draws.mean(0), draws.var(0, correction=0), None, len(draws), draws)


def test_the_log_likelihood_is_that_of_the_mixture():
    draws, targets = gaussians()
    found = of_draws(draws).with_noise(0.25).log_likelihood(targets)
    tau, T = 1 / 0.25, len(draws)  # equation 8 as it is printed
    squares = (targets.numpy() - draws.numpy()) ** 2
    printed = logsumexp(-tau / 2 * squares, axis=0) - math.log(T) - math.log(2 * math.pi) / 2 + math.log(tau) / 2
    np.testing.assert_allclose(found, printed, rtol=1e-10)
    mixture = np.log(stats.norm(draws.numpy(), 0.5).pdf(targets.numpy()).mean(0))
    np.testing.assert_allclose(found, mixture, rtol=1e-8)


def test_the_noise_is_the_one_of_greatest_likelihood():
    draws, targets = gaussians(n=3000)
    prediction = of_draws(draws)
    noise = fit_noise(prediction, targets)
    grid = np.geomspace(noise / 2, noise * 2, 41)
    likelihood = [float(prediction.with_noise(v).log_likelihood(targets).mean()) for v in grid]
    assert np.argmax(likelihood) == 20
    assert noise == pytest.approx(0.25 - 0.09, rel=0.15)  # what the samples' own spread leaves
    one = of_draws(draws[:1])
    assert fit_noise(one, targets) == pytest.approx(float((targets - draws[0]).square().mean()), rel=1e-4)
    small = fit_noise(of_draws(1e-9 * draws), 1e-9 * targets)  # in any unit
    assert small == pytest.approx(1e-18 * noise, rel=1e-3)


def test_intervals_cover_what_they_say():
    draws, targets = gaussians(n=20_000)
    low, high = of_draws(draws).with_noise(0.16).interval(0.9)
    assert ((targets >= low) & (targets <= high)).double().mean() == pytest.approx(0.9, abs=0.02)
    normal = ValuePrediction(torch.zeros(1), torch.zeros(1), torch.ones(1), 1).interval(0.95)
    assert normal[1].item() == pytest.approx(stats.norm.ppf(0.975), rel=1e-6)


def test_a_variance_head_says_the_noise_itself():
    network = nn.Linear(2, 2).double()
    x = torch.randn(5, 2, dtype=torch.float64)
    found = predict(network, x, variance_head=True, scale=(10.0, 3.0), return_samples=True)
    mean, log_variance = network(x).detach().T
    torch.testing.assert_close(found.mean, mean * 3 + 10)
    torch.testing.assert_close(found.aleatoric, log_variance.exp() * 9)
    assert (found.epistemic == 0).all()
    targets = torch.randn(5, dtype=torch.float64)
    expected = stats.norm(found.mean, found.aleatoric.sqrt()).logpdf(targets)
    np.testing.assert_allclose(found.log_likelihood(targets), expected)
    np.testing.assert_allclose(found.nll(targets), -expected)


def test_regression_says_what_it_lacks():
    found = predict(nn.Linear(2, 1), torch.randn(5, 2))
    for ask in (found.interval, lambda: found.log_likelihood(torch.zeros(5))):
        with pytest.raises(InputError, match="the noise is not known"):
            ask()
    with pytest.raises(InputError, match="return_samples=True"):
        found.with_noise(1.0).log_likelihood(torch.zeros(5))
    with pytest.raises(InputError, match="larger than 0"):
        found.with_noise(0.0)
    with pytest.raises(InputError, match="level must be between"):
        found.with_noise(1.0).interval(95.0)


def test_scores_are_scikit_learn_s():
    logits, targets = forecasts(500)
    p = logits.softmax(1)
    assert nll(p, targets) == pytest.approx(log_loss(targets, p))
    two, binary = forecasts(500, classes=2)
    p = two.softmax(1)
    found = brier(p, binary)
    assert found.score == pytest.approx(2 * brier_score_loss(binary, p[:, 1]))
    assert found.score == pytest.approx(found.reliability - found.resolution + found.uncertainty + found.within)
    for strategy, adaptive in (("uniform", False), ("quantile", True)):
        confidence, indices = p.max(1)
        right = (indices == binary).numpy()
        mine = reliability(p, binary, 10, adaptive=adaptive)
        if strategy == "uniform":
            theirs = calibration_curve(right, confidence, n_bins=10, strategy=strategy)
            np.testing.assert_allclose((mine.accuracy, mine.confidence), theirs)
        else:
            assert mine.count.max() - mine.count.min() <= 1


def test_the_decomposition_is_exact_where_forecasts_are_few():
    p = torch.tensor([[0.7, 0.3]] * 10 + [[0.2, 0.8]] * 10, dtype=torch.float64)
    targets = torch.tensor([0] * 6 + [1] * 4 + [0] * 3 + [1] * 7)
    found = brier(p, targets, bins=20)
    assert found.within == pytest.approx(0, abs=1e-15)
    assert found.reliability == pytest.approx(2 * (0.5 * 0.1**2 + 0.5 * 0.1**2))
    assert found.resolution == pytest.approx(2 * 0.15**2)
    assert found.uncertainty == pytest.approx(2 * 0.45 * 0.55)


def test_calibrated_forecasts_have_little_error_and_sharpened_ones_the_expected_one():
    logits, targets = forecasts(40_000)
    assert ece(logits.softmax(1), targets) < 0.01
    assert ece(logits.softmax(1), targets, adaptive=True) < 0.01
    sharp = (3 * logits).softmax(1)
    gap = sharp.amax(1).mean() - (sharp.argmax(1) == targets).double().mean()
    assert ece(sharp, targets) == pytest.approx(float(gap), rel=0.02)  # overconfident in every bin


def test_the_temperature_undoes_sharpening_and_is_logistic_regression_s():
    logits, targets = forecasts(20_000, sharpness=2.5)
    found = fit_temperature(logits, targets)
    assert found == pytest.approx(2.5, rel=0.03)
    two, binary = forecasts(5_000, classes=2, sharpness=2.5)
    difference = (two[:, 1] - two[:, 0]).unsqueeze(1).numpy()
    slope = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(difference, binary.numpy()).coef_
    assert fit_temperature(two, binary) == pytest.approx(1 / slope.item(), rel=1e-4)
    torch.testing.assert_close(tempered(logits.softmax(1), found), (logits / found).softmax(1))
    assert fit_temperature(logits.softmax(1).log(), targets) == pytest.approx(found, rel=1e-6)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=30))
def test_risk_at_a_coverage_is_the_mean_over_all_orders_of_ties(rows):
    wrong = torch.tensor([float(w) for w, _ in rows])
    uncertainty = torch.tensor([float(u) for _, u in rows])
    found = selective(wrong, uncertainty)
    assert found.risk[-1] == pytest.approx(wrong.mean().item())
    assert found.at(1.0) == found.risk[-1]
    rng = np.random.default_rng(0)
    curves = []
    for _ in range(300):
        order = np.lexsort((rng.random(len(rows)), uncertainty.numpy()))
        curves.append(np.cumsum(wrong.numpy()[order]) / np.arange(1, len(rows) + 1))
    np.testing.assert_allclose(found.risk, np.mean(curves, 0), atol=0.15)


def test_a_perfect_order_answers_without_risk_until_only_wrong_rows_are_left():
    wrong = torch.tensor([0.0] * 9 + [1.0])
    found = selective(wrong, torch.arange(10.0))
    assert found.at(0.9) == 0
    assert found.at(1.0) == pytest.approx(0.1)
    assert found.aurc == pytest.approx(0.01)
    with pytest.raises(InputError, match="coverage must be"):
        found.at(90.0)


def test_rows_out_of_distribution_are_told_as_two_gaussians_are():
    generator = torch.Generator().manual_seed(0)
    own, other = torch.randn(20_000, generator=generator), torch.randn(20_000, generator=generator) + 1.5
    found = out_of_distribution(own, other)
    assert found.auroc == pytest.approx(stats.norm.cdf(1.5 / math.sqrt(2)), abs=0.01)
    assert found.fpr95 == pytest.approx(stats.norm.sf(1.5 + stats.norm.ppf(0.05)), abs=0.02)
    assert found.auroc == pytest.approx(roc_auc_score([0] * 20_000 + [1] * 20_000, torch.cat([own, other])))
    same = out_of_distribution(own, own)
    assert (same.auroc, same.aupr) == (pytest.approx(0.5), pytest.approx(0.5, abs=0.01))
    assert found.auroc_interval[0] > 0.5
    assert same.auroc_interval[0] <= 0.5


def test_an_area_under_a_curve_has_an_interval_that_holds_the_truth():
    generator = torch.Generator().manual_seed(0)
    inside, widths = [], []
    for _ in range(400):
        own, other = torch.randn(60, generator=generator), torch.randn(25, generator=generator) + 1
        low, high = out_of_distribution(own, other).auroc_interval
        inside.append(low <= stats.norm.cdf(1 / math.sqrt(2)) <= high)
        widths.append(high - low)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)
    assert np.mean(widths) < 0.3
    few = out_of_distribution(torch.zeros(20), torch.ones(3))
    assert few.auroc == 1
    assert few.auroc_interval[0] < 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_class_on_the_threshold_belongs_to_the_set(dtype):
    p, targets = torch.tensor([[0.5, 0.3, 0.2]], dtype=dtype).repeat(200, 1), torch.arange(200) // 100
    threshold = conformal(class_scores(p, targets), 0.79)  # 1 - 0.3, from which 1 - 0.7 may differ
    sets = SetRule("lac").sets(p, threshold)
    assert sets.gather(1, targets.unsqueeze(1)).double().mean() >= 0.79
    none = torch.zeros(200)
    prediction = ClassPrediction(p.double(), none, p.double(), torch.ones(200, 3, dtype=torch.int64), 1)
    assert torch.equal(prediction.sets(conformal(class_scores(p.double(), targets), 0.79)), sets)


def test_conformal_sets_cover_what_they_promise_on_average():
    covered, sizes = [], []
    for seed in range(200):
        logits, targets = forecasts(140, sharpness=3.0, seed=seed)  # overconfident: sets must repair that
        p = logits.softmax(1)
        threshold = conformal(class_scores(p[:100], targets[:100]), 0.9)
        sets = p[100:] >= 1 - threshold
        covered.append(sets.gather(1, targets[100:, None]).double().mean().item())
        sizes.append(sets.sum(1).double().mean().item())
    assert np.mean(covered) == pytest.approx(91 / 101, abs=4 * np.std(covered) / math.sqrt(200))
    assert np.mean(sizes) < 4


def test_conformal_intervals_cover_whatever_the_noise_and_say_when_rows_are_too_few():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        y = torch.from_numpy(rng.standard_cauchy(59))
        scores = value_scores(y, torch.zeros(59, dtype=torch.float64), torch.full((59,), 2.0, dtype=torch.float64))
        covered.append((scores[19:] <= conformal(scores[:19], 0.9)).double().mean().item())
    assert np.mean(covered) == pytest.approx(0.9, abs=4 * np.std(covered) / math.sqrt(300))
    assert conformal(torch.zeros(8), 0.9) == math.inf
    assert conformal(torch.arange(9.0), 0.9) == 8
    with pytest.raises(InputError, match="a level between 0 and 1"):
        conformal(torch.zeros(8), 90.0)


@pytest.mark.parametrize("call", [nll, ece, brier])
def test_rows_and_classes_must_fit(call):
    with pytest.raises(InputError, match="equally many rows"):
        call(torch.ones(3, 2) / 2, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(InputError, match="classes from 0 to 1"):
        call(torch.ones(3, 2) / 2, torch.tensor([0, 1, 2]))


def separable(n, seed=0, gap=3.0):
    """Logits of rows that are all right, as certain as a network trained on separable rows is."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(2, (n,), generator=generator)
    margin = gap + torch.rand(n, generator=generator, dtype=torch.float64)
    return torch.stack([torch.where(targets == 0, margin, 0), torch.where(targets == 1, margin, 0)], 1), targets


@pytest.mark.parametrize("n", [2, 20, 80, 400])
def test_rows_without_an_error_leave_probabilities_as_they_are(n):
    found = find_temperature(*separable(n))
    assert (found.value, found.wrong) == (1.0, 0.0)
    assert found.likeliest < 0.1  # what it would sharpen to: nothing holds it


@pytest.mark.parametrize(("classes", "scale"), [(2, 2.0), (2, 8.0), (10, 3.0), (10, 30.0)])
@pytest.mark.parametrize("sharpness", [0.4, 1.0, 2.5])
def test_a_temperature_never_costs_more_than_chance_and_finds_what_enough_rows_show(classes, scale, sharpness):
    generator = torch.Generator().manual_seed(0)

    def drawn(n):
        logits = scale * torch.randn(n, classes, generator=generator, dtype=torch.float64)
        return sharpness * logits, torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)

    fresh, targets = drawn(4000)
    before = nll(fresh.softmax(1), targets)
    best = nll((fresh / sharpness).softmax(1), targets)
    for n, repetitions in ((20, 15), (40, 15), (400, 6), (3000, 3)):
        after = [nll((fresh / fit_temperature(*drawn(n))).softmax(1), targets) for _ in range(repetitions)]
        assert np.mean(after) <= before + 0.01
        if n == 3000:
            assert np.mean(after) == pytest.approx(best, abs=0.1 * (before - best) + 0.002)


def test_predictions_of_a_row_by_several_networks_are_one_row():
    logits, targets = forecasts(60, sharpness=1.6, seed=3)
    once = find_temperature(logits, targets)
    often = find_temperature(logits.repeat(10, 1), targets.repeat(10), repeats=10)
    assert often.value == pytest.approx(once.value, rel=1e-6)
    assert often.evidence == pytest.approx(once.evidence, rel=1e-6)
    assert find_temperature(logits.repeat(10, 1), targets.repeat(10)).evidence == pytest.approx(10 * once.evidence)
    scores = torch.arange(30.0)
    assert conformal(scores.repeat_interleave(4), 0.9, repeats=4) == conformal(scores, 0.9) == 27


def test_a_conformal_threshold_takes_as_many_rows_as_are_told():
    for level in (0.5, 0.9, 0.95, 0.975, 0.999):
        n = rows_for(level)
        assert conformal(torch.zeros(n), level) == 0
        assert n == 1 or conformal(torch.zeros(n - 1), level) == math.inf


@given(st.lists(st.tuples(st.integers(5, 10), st.booleans()), min_size=1, max_size=60), st.integers(1, 20))
def test_equally_confident_rows_share_an_adaptive_bin_whatever_their_order(rows, bins):
    confidence = np.array([c / 10 for c, _ in rows])
    right = np.array([r for _, r in rows])
    found = reliability_of(confidence, right, bins, adaptive=True)
    order = np.random.default_rng(0).permutation(len(rows))
    again = reliability_of(confidence[order], right[order], bins, adaptive=True)
    assert again.error == pytest.approx(found.error, abs=1e-12)
    each = [
        confidence == c for c in np.unique(confidence)
    ]  # bins hold whole groups: their error is at most the groups'
    most = sum(g.sum() * abs(confidence[g].mean() - right[g].mean()) for g in each) / len(rows)
    assert found.error <= most + 1e-12
    assert found.count.sum() == len(rows)
    if bins >= len(rows):
        assert found.error == pytest.approx(most, abs=1e-12)


def test_one_confidence_for_all_has_the_error_of_a_single_bin():
    p = torch.tensor([[0.75, 0.25]], dtype=torch.float64).expand(100, 2)
    targets = (torch.arange(100) >= 75).long()
    for order in (torch.arange(100), torch.arange(100).flip(0), torch.randperm(100)):
        assert ece(p, targets[order], adaptive=True) == pytest.approx(0, abs=1e-12)


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 6)), min_size=1, max_size=40),
    st.sampled_from([0.3, 0.5, 0.9, 0.95]),
    st.sampled_from([0.125, 0.3, 1.0]),
)
def test_a_conformal_threshold_of_weighted_rows_is_that_of_rows_given_so_often(rows, level, unit):
    scores, often = (torch.tensor(values) for values in zip(*rows, strict=True))
    kept = int((often > 0).sum())
    if not kept:
        with pytest.raises(InputError, match="some of them above it"):
            conformal(scores.double(), level, weights=unit * often)
        return
    copies = scores.double().repeat_interleave(often)
    expected = conformal(copies, level, repeats=len(copies) / kept)
    assert conformal(scores.double(), level, weights=unit * often) == expected
    alike = torch.full((len(scores),), unit)
    assert conformal(scores.double(), level, weights=alike) == conformal(scores.double(), level)


def test_the_noise_of_weighted_rows_is_that_of_rows_given_so_often():
    rng = np.random.default_rng(0)
    often = torch.from_numpy(rng.integers(0, 5, 60))
    draws = torch.from_numpy(rng.normal(size=(3, 60)))
    own = torch.from_numpy(rng.uniform(0.5, 2, (3, 60)))
    y = torch.from_numpy(rng.normal(scale=2, size=60))

    def prediction(draws, variances=None):
        aleatoric = None if variances is None else variances.mean(0)
        return ValuePrediction(draws.mean(0), draws.var(0, correction=0), aleatoric, 3, draws, variances)

    copied, copied_own = draws.repeat_interleave(often, 1), own.repeat_interleave(often, 1)
    copies = y.repeat_interleave(often)
    assert fit_noise(prediction(draws), y, often.double()) == pytest.approx(
        fit_noise(prediction(copied), copies), rel=1e-5
    )
    factor = fit_noise_factor(prediction(draws, own), y, often.double())
    assert factor == pytest.approx(fit_noise_factor(prediction(copied, copied_own), copies), rel=1e-5)
    assert factor != pytest.approx(fit_noise_factor(prediction(draws, own), y), rel=1e-2)
