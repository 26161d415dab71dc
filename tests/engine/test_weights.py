"""Rows that count more than others, and rows that belong together."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error, r2_score

import dampen
from dampen import SGD, InputError, Population, Setting, from_arrays, solo
from dampen.metrics import find
from dampen.statistics import over_rows

SETTINGS = [Setting(weight_decay=0.1, dropout=0.3), Setting(weight_decay=0.0, dropout=0.0)]


@pytest.fixture(scope="module", params=["classification", "regression"])
def data(request):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    y = x[:, 0] + rng.normal(size=60)
    targets = (y > 0).astype(int) if request.param == "classification" else y
    weights = rng.integers(0, 4, 60).astype(float)
    return from_arrays(x, targets, weights=weights, test_fraction=0.2).with_validation(0.25)


def network():
    return dampen.mlp(5, dropout=0.2)


def test_weighted_members_follow_their_solo_runs(data):
    options = {"epochs": 8, "batch_size": 7, "precision": "float64"}
    population = Population(network(), SETTINGS, [0, 1])
    history = population.fit(data, **options)
    for setting in SETTINGS:
        alone = solo(network(), setting, 1, data, **options)
        for name, theirs in alone.network.state_dict().items():
            torch.testing.assert_close(population.member(setting, 1).state_dict()[name], theirs, rtol=1e-9, atol=1e-12)
        m = population.settings.index(setting)
        np.testing.assert_allclose(history.metrics["train_loss"][:, 1, m], alone.train_loss, rtol=1e-9)


@pytest.mark.parametrize("knob", [{"mixup": 1.0}], ids=str)
def test_a_knob_that_mixes_the_losses_of_rows_is_refused_beside_weights(knob):
    weighted = from_arrays(np.eye(40), np.arange(40) % 2, weights=np.arange(40.0), test_fraction=0.0)
    for train in (
        Population(network(), [Setting(**knob)], [0]).fit,
        lambda *a, **k: solo(network(), Setting(**knob), 0, *a, **k),
    ):
        with pytest.raises(InputError, match=f"{next(iter(knob))} changes losses, which rows with weights don't allow"):
            train(weighted, epochs=1)


def test_smoothed_labels_go_with_weights_as_rows_given_twice():
    """Members with and without smoothing in one population, beside solo runs and beside repeated rows."""
    rng = np.random.default_rng(0)
    x, times = rng.normal(size=(30, 3)), rng.integers(1, 4, 30)
    y = (x[:, 0] + rng.normal(size=30) > 0).astype(int)
    settings = [Setting(label_smoothing=0.3), Setting(label_smoothing=0.0)]
    options = {"epochs": 10, "batch_size": 1000, "precision": "float64", "optimizer": SGD(), "lr": 0.1}
    weighted = from_arrays(x, y, weights=times.astype(float), test_fraction=0.0, scaling=None)
    repeated = from_arrays(x.repeat(times, 0), y.repeat(times), test_fraction=0.0, scaling=None)
    of_weights, of_rows = (Population(dampen.mlp(5), settings, [0]) for _ in range(2))
    of_weights.fit(weighted, **options)
    of_rows.fit(repeated, **options)
    for setting in settings:
        alone = solo(dampen.mlp(5), setting, 0, weighted, **options).network.state_dict()
        for name, theirs in of_weights.member(setting, 0).state_dict().items():
            torch.testing.assert_close(theirs, alone[name], rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(theirs, of_rows.member(setting, 0).state_dict()[name], rtol=1e-9, atol=1e-12)


def test_a_knob_that_changes_inputs_goes_with_weights(data):
    setting, options = Setting(input_noise=0.5), {"epochs": 3, "batch_size": 7, "precision": "float64"}
    population = Population(network(), [setting], [0])
    population.fit(data, **options)
    for name, theirs in solo(network(), setting, 0, data, **options).network.state_dict().items():
        torch.testing.assert_close(population.member(setting, 0).state_dict()[name], theirs, rtol=1e-9, atol=1e-12)


def test_a_row_of_weight_two_counts_as_two_rows(data):
    rows = data.train_rows[data.weights[data.train_rows] > 0]
    times = data.weights[rows].long()
    repeated = rows.repeat_interleave(times)
    x, y = data.features.double(), data.targets
    options = {"epochs": 20, "batch_size": 1000, "precision": "float64", "optimizer": SGD(), "lr": 0.1}
    setting = [Setting(weight_decay=0.01)]
    weighted = from_arrays(x[rows], y[rows], weights=times.double(), test_fraction=0.0, scaling=None)
    plain = from_arrays(x[repeated], y[repeated], test_fraction=0.0, scaling=None)
    members = []
    for one in (weighted, plain):
        population = Population(dampen.mlp(5), setting, [0])
        population.fit(one, **options)
        members.append(population.member(setting[0], 0).state_dict())
    for name in members[0]:
        torch.testing.assert_close(members[0][name], members[1][name], rtol=1e-9, atol=1e-12)


def test_measures_weigh_rows_as_scikit_learn_does(data):
    population = Population(network(), SETTINGS, [0])
    population.fit(data, epochs=2)
    outputs = population.outputs(data.validation)[0][0]
    truth, weights = data.validation.targets.numpy(), data.weights[data.validation_rows].numpy()
    loss = population.evaluate(data.validation)
    if data.task == "classification":
        expected = log_loss(truth, outputs.double().softmax(-1).numpy(), sample_weight=weights)
        right = accuracy_score(truth, outputs.argmax(-1), sample_weight=weights)
        assert loss["accuracy"][0, 0] == pytest.approx(right)
        assert find("nll", data.task).costs(outputs, data.validation).mean().item() == pytest.approx(expected, rel=1e-5)
        assert find("accuracy", data.task).costs(outputs, data.validation).mean() == pytest.approx(1 - right, rel=1e-5)
    else:
        expected = mean_squared_error(truth, outputs.squeeze(-1), sample_weight=weights)
        assert find("mse", data.task).costs(outputs, data.validation).mean().item() == pytest.approx(expected, rel=1e-5)
    assert loss["loss"][0, 0] == pytest.approx(expected, rel=1e-5)


def test_a_study_of_weighted_rows_ranks_and_tests_by_weight(data, tmp_path):
    small = {"n_settings": 2, "n_seeds": 1, "epochs": 1, "confirmed": 1, "n_confirm_seeds": 2}
    study = dampen.tune(network(), data, out=tmp_path / "weighted", **small)
    both = torch.cat([data.train_rows, data.validation_rows])  # the last training's, by which test rows are scaled
    rows = replace(data, train_rows=both, validation_rows=both[:0]).test
    truth, weights = data.test.targets.numpy(), data.weights[data.test_rows].numpy()
    outputs = [model(rows.features).detach() for model in study.ensemble()]
    if data.task == "classification":
        each = [accuracy_score(truth, o.argmax(-1), sample_weight=weights) for o in outputs]
        told = study.test["recommended"]["accuracy"]["mean"]
    else:
        mean, deviation = study.plan.target_scale
        each = [mean_squared_error(truth, o.squeeze(-1) * deviation + mean, sample_weight=weights) for o in outputs]
        told = study.test["recommended"]["mse"]["mean"]
        r2 = [r2_score(truth, o.squeeze(-1) * deviation + mean, sample_weight=weights) for o in outputs]
        assert study.test["recommended"]["r2"]["mean"] == pytest.approx(np.mean(r2), rel=1e-4)
        assert dampen.tune(network(), data, metric="r2", **small).verdict.metric.name == "r2"
    assert told == pytest.approx(np.mean(each), rel=1e-4)


def test_rows_of_a_group_give_one_cost_and_the_same_mean():
    generator = torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(2, 30, 3, generator=generator), torch.randint(0, 3, (30,), generator=generator)
    groups = torch.randint(0, 7, (30,), generator=generator)
    metric = find("nll", "classification")
    plain, grouped = (
        metric.costs(outputs, dampen.data.Rows(torch.zeros(30, 1), targets, groups=g)) for g in (None, groups)
    )
    assert grouped.shape == (2, len(groups.unique()))
    torch.testing.assert_close(grouped.mean(-1), plain.mean(-1))


def test_intervals_over_groups_are_those_of_the_groups():
    """Twenty copies of each row tell no more than the row itself."""
    rng = np.random.default_rng(0)
    costs = rng.normal(size=(3, 40))
    targets, copies = torch.zeros(800, dtype=torch.int64), torch.arange(40).repeat_interleave(20)
    metric = find("nll", "classification")
    rows = dampen.data.Rows(torch.zeros(800, 1), targets, groups=copies)
    logits = torch.tensor(costs).repeat_interleave(20, 1)
    outputs = torch.stack([logits, torch.zeros_like(logits)], -1)
    every = metric.cost(torch.stack([torch.tensor(costs), torch.zeros(3, 40)], -1), targets[:40])
    found = over_rows(metric.costs(outputs, rows)[0].double().numpy()).interval(0.95)
    np.testing.assert_allclose(found, over_rows(every[0].double().numpy()).interval(0.95), rtol=1e-5)


def weighted_mean(costs, counts, weights):
    """Of rows drawn so often."""
    drawn = counts * weights
    return (drawn * costs).sum(1) / drawn.sum(1)


@pytest.mark.parametrize("case", ["weights", "weights, costs fall with them", "groups", "groups, small ones cost more"])
def test_intervals_over_weighted_rows_and_groups_are_a_bootstrap_s(case):
    """Weights, and sizes of groups, are drawn with the rows: rows that cost the same have no interval at all."""
    rng = np.random.default_rng(0)
    n = 300
    sizes = rng.integers(1, 30, n)
    owner = np.repeat(np.arange(n), sizes) if case.startswith("groups") else np.arange(n)
    weights = rng.uniform(0.5, 3, n) if case.startswith("weights") else np.ones(len(owner))
    scale = 1 / weights if "fall" in case else 10 / sizes[owner] if "small" in case else 1.0
    costs = scale * np.abs(rng.normal(1, 0.2, len(owner)))
    counts = rng.multinomial(n, np.full(n, 1 / n), size=2000)
    drawn = weighted_mean(costs, counts[:, owner], weights)

    def found(costs):
        told = {"weights": torch.tensor(weights / weights.mean()), "groups": torch.tensor(owner)}
        kept = {name: t for name, t in told.items() if case.startswith(name)}
        rows = dampen.data.Rows(torch.zeros(len(costs), 1), torch.zeros(len(costs)).double(), **kept)
        return over_rows(find("mae", "regression").costs(torch.tensor(costs)[:, None], rows).numpy())

    assert found(costs).mean == pytest.approx(np.average(costs, weights=weights))
    np.testing.assert_allclose(np.diff(found(costs).interval()), np.diff(np.quantile(drawn, [0.025, 0.975])), rtol=0.1)
    assert found(np.full(len(owner), 0.7)).interval() == pytest.approx((0.7, 0.7))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_interval_of_r2_counts_that_its_variance_is_estimated_too(weighted):
    rng = np.random.default_rng(0)
    targets = rng.standard_t(5, size=150)
    weights = rng.uniform(0.2, 3, 150) if weighted else np.ones(150)
    told = {"weights": torch.tensor(weights / weights.mean())} if weighted else {}
    rows = dampen.data.Rows(torch.zeros(150, 1), torch.tensor(targets), **told)
    for predicted in (np.full(150, 0.1), targets + rng.normal(0, 0.7, 150)):
        costs = find("r2", "regression").costs(torch.tensor(predicted)[:, None], rows)
        drawn = rng.integers(0, 150, (4000, 150))
        of_draws = [1 - r2_score(targets[d], predicted[d], sample_weight=weights[d]) for d in drawn]
        low, high = over_rows(costs.numpy()).interval()
        assert float(costs.mean()) == pytest.approx(1 - r2_score(targets, predicted, sample_weight=weights))
        np.testing.assert_allclose(high - low, np.diff(np.quantile(of_draws, [0.025, 0.975]))[0], rtol=0.15, atol=0.01)


def test_the_noise_of_one_half_counts_the_other_by_its_weights():
    rng = np.random.default_rng(1)
    errors, weights = rng.normal(0, 2, 40), rng.uniform(0, 3, 40)
    rows = dampen.data.Rows(torch.zeros(40, 1), torch.zeros(40).double(), torch.tensor(weights / weights.mean()))
    found = find("nll", "regression").costs(torch.tensor(errors)[:, None], rows)
    one = torch.randperm(40, generator=torch.Generator().manual_seed(40)).numpy() % 2 == 0
    expected = np.empty(40)
    for half in (one, ~one):
        noise = np.average(errors[~half] ** 2, weights=weights[~half])
        expected[half] = -scipy.stats.norm.logpdf(errors[half], scale=np.sqrt(noise))
    assert found.mean().item() == pytest.approx(np.average(expected, weights=weights))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.full(60, -1.0), "weights must be finite numbers, 0 or larger"),
        (np.zeros(60), "every training row has weight 0"),
        (np.ones(59), "weights must be one value for each of 60 rows, got shape \\[59\\]"),
        (np.full(60, np.nan), "weights must be finite numbers"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights, message):
    with pytest.raises(InputError, match=message):
        from_arrays(np.eye(60), np.arange(60) % 2, weights=weights)
