"""The study's ensemble of several settings, beside a selection that is written by hand."""

from unittest import mock

import jaxtyping
import numpy as np
import pytest
import torch
from scipy import stats

import dampen
from dampen.errors import InputError
from dampen.search import select_ensemble
from dampen.study._runner import Runner

pytestmark = pytest.mark.usefixtures("without_shape_checks")


@pytest.fixture(scope="module")
def study(_checks_of_a_room):
    jaxtyping.config.update("jaxtyping_disable", True)  # checking would take most of the trainings' time
    space = {"weight_decay": [0.0, 0.1], "dropout": [0.0, 0.5], "lr": 0.02}
    how = {"n_settings": 4, "n_seeds": 1, "n_confirm_seeds": 2, "epochs": 6, "search": "grid"}
    return dampen.tune(dampen.mlp(8, dropout=0.1), dampen.load("wine"), space, **how)


def nll(probabilities, targets):
    picked = np.take_along_axis(probabilities, np.broadcast_to(targets, probabilities.shape[:-1])[..., None], -1)
    return -np.log(picked[..., 0]).mean(-1)


def by_hand(predictions, targets, n, first, most):
    """Draw one candidate after another, each time the one whose mean with those before has the least loss."""
    drawn = [first]
    while len(drawn) < n:
        losses = {
            i: nll(np.mean([predictions[j] for j in (*drawn, i)], axis=0), targets)
            for i in range(len(predictions))
            if drawn.count(i) < most
        }
        drawn.append(min(losses, key=lambda i: losses[i]))
    return [drawn.count(i) for i in range(len(predictions))]


@pytest.mark.parametrize("most", [2, 9])
@pytest.mark.parametrize("seed", range(5))
def test_the_selection_is_the_greedy_one_written_by_hand(seed, most):
    rng = np.random.default_rng(seed)
    targets = rng.integers(3, size=40)
    predictions = rng.dirichlet(np.ones(3), (6, 40)) * 0.6 + 0.4 * np.eye(3)[targets]
    cost = lambda p: torch.from_numpy(nll(p.numpy(), targets))  # noqa: E731
    counts = select_ensemble(torch.from_numpy(predictions), cost, 9, first=2, most=most)
    assert counts == by_hand(predictions, targets, 9, 2, most)
    assert max(counts) <= most


def test_a_bagged_selection_is_as_large_as_asked_for_and_depends_on_its_seed_alone():
    values = torch.randn(7, 30, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    cost = lambda mean: mean.square().mean((-1, -2))  # noqa: E731
    for n in (1, 4, 11, 14):
        counts = select_ensemble(values, cost, n, most=2, bagged=True, seed=3)
        assert sum(counts) == n
        assert max(counts) <= 2
        assert counts == select_ensemble(values, cost, n, most=2, bagged=True, seed=3)


def test_an_ensemble_begins_with_the_recommended_network_and_has_as_many_as_asked_for(study):
    only, pair, four = (study.ensemble(n) for n in (1, 2, 4))
    recommended = study.model().state_dict()
    assert all(torch.equal(t, recommended[name]) for name, t in only[0].state_dict().items())
    assert (len(only), len(pair), len(four), len(study.ensemble())) == (1, 2, 4, 2)
    weights = {tuple(network.state_dict()["1.weight"].flatten().tolist()) for network in four}
    assert len(weights) == 4  # no network is there twice: a training's further draws are of other seeds
    counts = study.results.selected(4)
    assert sum(count for _, count in counts) == 4
    assert counts[0][0] == study.recommended


def test_networks_of_an_ensemble_are_those_that_the_study_trains_with_a_setting_alone(study):
    (training, count), *_ = [*reversed(study.results.selected(4))]
    plan, data = study.plan, study.results._final_data
    seeds = [2_000_000 + seed for seed in plan.confirm_seeds][:count]
    alone = dampen.Population(dampen.mlp(8, dropout=0.1), [training.setting], seeds)
    alone.fit(data, plan.training, epochs=training.epochs)
    x = data.test.features
    for network, seed in zip(study.ensemble(4)[-count:], seeds, strict=True):
        torch.testing.assert_close(network(x), alone.member(training.setting, seed)(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("asks", "within"), [({"out": "s"}, True), ({"budget": 60.0}, True), ({}, False)])
def test_what_is_recommended_trains_on_all_rows_when_it_is_asked_for_or_in_a_study_that_keeps_or_times_it(
    asks, within, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    data = dampen.load("wine", test_fraction=0.0)
    space = {"weight_decay": [0.0, 0.1], "dropout": [0.0, 0.5], "lr": 0.02}
    how = {"n_settings": 4, "n_seeds": 1, "n_confirm_seeds": 2, "epochs": 6, "search": "grid"}
    phases, train = [], Runner.train
    monkeypatch.setattr(
        Runner, "train", lambda self, phase, *rest, **of: phases.append(phase) or train(self, phase, *rest, **of)
    )
    told = []
    study = dampen.tune(dampen.mlp(8, dropout=0.1), data, space, callback=told.append, **how, **asks)
    assert ("test" in phases) == within
    phases.clear()
    told.clear()
    few = study.ensemble(3)
    assert set(phases) == {"ensemble"}
    assert study.description.name == "wine"
    assert study.loss is None
    assert "test" not in phases
    with torch.no_grad():  # in which whoever asks may be predicting
        model = study.model()
    assert ("test" in phases) == (not within)
    assert not told  # of what trains after the study
    x = data.train.features
    torch.testing.assert_close(few[0](x), model(x), rtol=1e-4, atol=1e-5)
    assert len(study.ensemble()) == 2
    assert phases.count("test") == (not within)
    assert "test" not in set(study.frame()["phase"]) or within


def test_an_ensemble_that_can_t_be_is_refused_in_one_line(study):
    with pytest.raises(InputError, match="n must be a whole number, 1 or larger, got 0"):
        study.ensemble(0)
    with pytest.raises(InputError, match=r"at most \d+ networks, 2 seeds of \d confirmed settings; got 99: ask for"):
        study.ensemble(99)


def test_networks_with_a_variance_are_selected_by_the_likelihood_of_their_mixture():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (90, 2))
    y = x[:, 0] + np.exp(x[:, 1] - 1) * rng.normal(size=90)
    data = dampen.load(x.astype(np.float32), target=y.astype(np.float32), task="regression")
    space = {"weight_decay": [0.0, 0.1], "lr": [0.02, 0.002]}
    how = {"n_settings": 4, "n_seeds": 1, "n_confirm_seeds": 2, "epochs": 4, "search": "grid", "loss": "gaussian_nll"}
    study = dampen.tune(dampen.mlp(6), data, space, validation="held-out", **how)
    confirmed, n = study.results.calibration.confirmed, 4
    rows = confirmed.evaluation.rows.evaluation
    seen = []

    def spy(predictions, cost, n, **options):
        seen.append((predictions, cost))
        return select_ensemble(predictions, cost, n, **options)

    with mock.patch("dampen.study._selected_ensemble.select_ensemble", spy):
        chosen = study.results.selected(n)
    assert sum(count for _, count in chosen) == n
    ((predictions, cost),) = seen
    first = confirmed.trained.population(chosen[0][0])
    outputs = [of_seed[first.settings.index(chosen[0][0].setting)].double() for of_seed in first.outputs(rows)]
    target = torch.cat([rows.targets.double()] * 2)
    mean, variance = (part.numpy() for part in (lambda o: (o[:, 0], o[:, 1].exp()))(torch.cat(outputs)))
    expected = -stats.norm(mean, variance**0.5).logpdf(target.numpy()).mean()
    assert float(cost(predictions[0])) == pytest.approx(expected, rel=1e-6)
    other, theirs = predictions[1].numpy(), predictions[0].numpy()
    mean = (theirs[:, 0] + other[:, 0]) / 2  # a mixture of two normal distributions: its first two moments
    variance = (theirs[:, 1] + other[:, 1]) / 2 - mean**2
    expected = -stats.norm(mean, variance**0.5).logpdf(target.numpy()).mean()
    assert float(cost((predictions[0] + predictions[1]) / 2)) == pytest.approx(expected, rel=1e-6)
