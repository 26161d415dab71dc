"""Classes told apart, whatever the temperature: the metric, and the networks that a study by it hands out."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.metrics import log_loss
from torch import nn

import dampen
from dampen.metrics import find
from dampen.study._tempering import of_networks, tempered

pytestmark = pytest.mark.usefixtures("without_shape_checks")


def drawn(n, sharpness, seed=0):
    """Logits of probabilities that are right, multiplied by a number, and classes drawn from them."""
    rng = np.random.default_rng(seed)
    logits = log_softmax(2 * rng.normal(size=(n, 3)), 1)
    targets = np.array([rng.choice(3, p=np.exp(row)) for row in logits])
    return torch.from_numpy(sharpness * logits), torch.from_numpy(targets)


def by_hand(logits, targets, weights=None):
    """Fit `1 / T` on one half of the rows for the other and the other way round, with its prior, by scipy."""
    costs, weights = np.empty(len(targets)), np.ones(len(targets)) if weights is None else weights
    one = torch.randperm(len(targets), generator=torch.Generator().manual_seed(len(targets))).numpy() % 2 == 0
    assert abs(one.sum() - len(targets) / 2) <= 0.5
    for half in (one, ~one):
        z, y, w = logits[~half], targets[~half], weights[~half]

        def lost(log_b, z=z, y=y, w=w):
            nll = log_loss(y, np.exp(log_softmax(np.exp(log_b) * z, 1)), labels=[0, 1, 2], sample_weight=w)
            return w.sum() * nll + log_b**2 / (2 * np.log(4) ** 2)

        b = np.exp(minimize_scalar(lost, bounds=(-4, 4), method="bounded", options={"xatol": 1e-8}).x)
        costs[half] = -log_softmax(b * logits[half], 1)[np.arange(half.sum()), targets[half]]
    return costs


@pytest.mark.parametrize("n", [9, 200])
def test_a_cost_is_that_under_the_temperature_of_the_other_half(n):
    logits, targets = drawn(n, 3.0)
    found = find("calibrated-nll", "classification").cost(logits, targets)
    np.testing.assert_allclose(found, by_hand(logits.numpy(), targets.numpy()), rtol=2e-4, atol=1e-5)


def test_the_temperature_of_the_other_half_counts_its_rows_by_their_weights():
    logits, targets = drawn(60, 3.0)
    weights = np.random.default_rng(0).uniform(0, 3, 60)
    weights /= weights.mean()
    rows = dampen.data.Rows(logits, targets, torch.from_numpy(weights))
    found = find("calibrated-nll", "classification").costs(logits, rows)
    expected = by_hand(logits.numpy(), targets.numpy(), weights)
    assert found.mean().item() == pytest.approx(np.average(expected, weights=weights), rel=1e-4)


@pytest.mark.parametrize("times", [4.0, 12.0, 100.0])
def test_few_rows_find_the_temperature_of_networks_that_are_much_too_sure(times):
    """Of targets that nobody knows: no row should cost clearly more than log 3, as it does near temperature 1."""
    generator = torch.Generator().manual_seed(0)
    logits = times * torch.randn(100, 200, 3, generator=generator)
    costs = [
        find("calibrated-nll", "classification").cost(one, torch.randint(0, 3, (200,), generator=generator))
        for one in logits
    ]
    assert torch.stack(costs).mean().item() == pytest.approx(np.log(3) + 1 / 200, abs=0.015)


def test_the_metric_does_not_depend_on_how_sure_a_network_is():
    metric = find("calibrated-nll", "classification")
    costs = [metric.cost(*drawn(2000, sharpness)).mean().item() for sharpness in (0.4, 1.0, 3.0)]
    right = find("nll", "classification").cost(*drawn(2000, 1.0)).mean().item()
    assert costs == pytest.approx([right] * 3, rel=0.01)


def test_each_network_has_a_temperature_of_its_own():
    metric, (logits, targets) = find("calibrated-nll", "classification"), drawn(50, 1.0)
    stacked = torch.stack([logits, 3 * logits, -logits])
    alone = torch.stack([metric.cost(one, targets) for one in stacked])
    torch.testing.assert_close(metric.cost(stacked, targets), alone)


def test_rows_whose_classes_alternate_have_temperatures_of_both():
    """Of alternating rows every other one would be of one class, and fit a temperature that is wrong for the other."""
    targets = torch.arange(1000) % 2
    logits = torch.tensor([0.6, 0.4]).log().expand(1000, 2)
    assert find("calibrated-nll", "classification").cost(logits, targets).mean() < 0.72


def test_many_networks_are_taken_some_at_a_time(monkeypatch):
    metric, (logits, targets) = find("calibrated-nll", "classification"), drawn(50, 1.0)
    stacked = torch.stack([logits, 3 * logits])
    at_once = metric.cost(stacked, targets)
    monkeypatch.setattr("dampen.metrics._AT_ONCE", 100)
    torch.testing.assert_close(metric.cost(stacked, targets), at_once)


def test_rows_without_an_error_leave_probabilities_nearly_as_they_are():
    logits = 4 * torch.eye(3).repeat(4, 1)
    costs = find("calibrated-nll", "classification").cost(logits, torch.arange(3).repeat(4))
    assert costs.exp().reciprocal().mean() < 0.999


def test_a_single_network_is_tempered_either_way_and_one_of_several_only_sharpened():
    for sharpness in (0.4, 3.0):
        logits, targets = drawn(3000, sharpness)
        network = nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False).double())
        with torch.no_grad():
            network[1].weight.copy_(torch.eye(3))
        rows = dampen.data.Rows(logits, targets)
        assert of_networks([(network, rows)], averaged=False) == pytest.approx(sharpness, rel=0.08)
        assert of_networks([(network, rows)], averaged=True) == pytest.approx(min(1.0, sharpness), rel=0.08)


def test_a_temperature_counts_rows_by_their_weights():
    (often, of_often), (rare, of_rare) = drawn(1500, 3.0), drawn(1500, 0.4, seed=1)
    logits, targets = torch.cat([often, rare]), torch.cat([of_often, of_rare])
    weights = torch.cat([torch.full((1500,), 1.9), torch.full((1500,), 0.1)])

    def lost(log_t):
        p = np.exp(log_softmax(logits.numpy() / np.exp(log_t), 1))
        return log_loss(targets, p, labels=[0, 1, 2], sample_weight=weights)

    likeliest = np.exp(minimize_scalar(lost, bounds=(-4, 4), method="bounded", options={"xatol": 1e-8}).x)
    halves = [
        dampen.data.Rows(*part) for part in zip(*(t.split(1500) for t in (logits, targets, weights)), strict=True)
    ]
    for rows in ([dampen.data.Rows(logits, targets, weights)], halves):
        found = of_networks([(nn.Identity(), part) for part in rows], averaged=False)
        assert found == pytest.approx(likeliest, rel=1e-4)
    unweighted = [(nn.Identity(), dampen.data.Rows(logits, targets))]
    assert of_networks(unweighted, averaged=False) < 0.8 * likeliest


def test_a_network_without_a_linear_last_layer_is_divided_as_a_whole():
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh()).eval()
    rows = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(tempered(network, 0.5)(rows), network(rows) / 0.5)


def test_a_network_whose_last_weights_follow_from_others_is_divided_as_a_whole():
    normed = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4))
    network = nn.Sequential(nn.Flatten(), normed).eval()
    rows = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(tempered(network, 0.5)(rows), network(rows) / 0.5)


def test_a_network_that_looks_whole_numbers_up_gets_them_as_they_are():
    network = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(8, 3)).eval()
    rows = dampen.data.Rows(torch.randint(0, 7, (40, 2)), torch.randint(0, 3, (40,)))
    assert of_networks([(network, rows)], averaged=False) > 0


@pytest.mark.parametrize("n", [None, 1, 3])
def test_a_study_by_it_hands_out_networks_whose_outputs_are_divided(n):
    settings = {"label_smoothing": dampen.Fixed(0.4), "lr": dampen.Fixed(0.01)}
    how = {"n_settings": 1, "n_seeds": 1, "n_confirm_seeds": 2, "epochs": 40, "batch_size": 128, "confirmed": 1}
    study = dampen.tune(dampen.mlp(16), dampen.load("wine"), settings, metric="calibrated-nll", **how)
    assert set(study.test["recommended"]) == {"calibrated-nll", "nll", "accuracy", "brier"}
    rows, plain = study.data.test.features, study.results.population
    seen = [network(rows) for network in study.ensemble(n)]
    if n is None:
        ratios = [plain.member(study.setting, s)(rows) / out for s, out in zip(plain.seeds, seen, strict=True)]
        torch.testing.assert_close(ratios[0], ratios[0][:1, :1].expand_as(ratios[0]), rtol=1e-3, atol=1e-3)
    assert len(seen) == (2 if n is None else n)
