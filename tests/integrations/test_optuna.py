"""Trials of an Optuna study that train as one population: each is worth what it is alone, and is told so."""

import math

import numpy as np
import optuna
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

import dampen
from dampen.errors import InputError

HOW = {"epochs": 3, "batch_size": 16, "precision": "float64", "lr": 0.02}
optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 3)).astype(np.float32)
    classes = (rows[:, 0] + 0.3 * rng.normal(size=60) > 0).astype(int)
    return dampen.from_arrays(rows, classes, test_fraction=0.2).with_validation(0.3)


def suggest(trial):
    return {
        "weight_decay": trial.suggest_float("decay", 1e-4, 1, log=True),
        "dropout": trial.suggest_float("p", 0, 0.7),
        "lr": trial.suggest_float("lr", 1e-3, 1e-1, log=True),
    }


def study(seed=0, pruner=None, **more):
    sampler = optuna.samplers.RandomSampler(seed=seed)
    return optuna.create_study(sampler=sampler, pruner=pruner or optuna.pruners.NopPruner(), **more)


def test_many_trials_at_once_are_worth_what_plain_loops_and_single_trials_are(data):
    model = dampen.mlp(8, dropout=0.5)
    objective = dampen.objective(model, data, suggest, **HOW)
    at_once, one_by_one = study(), study()
    told = objective.optimize(at_once, 4)
    one_by_one.optimize(objective, n_trials=4)
    assert [trial.state for trial in told] == [TrialState.COMPLETE] * 4
    assert [trial.params for trial in told] == [trial.params for trial in one_by_one.trials]
    np.testing.assert_allclose([t.value for t in told], [t.value for t in one_by_one.trials], rtol=1e-9)
    for trial in told[:2]:
        knobs = {"weight_decay": trial.params["decay"], "dropout": trial.params["p"], "lr": trial.params["lr"]}
        alone = dampen.solo(model, dampen.Setting(**knobs), 0, data, **HOW)
        rows = data.validation
        with torch.no_grad():
            loss = torch.nn.functional.cross_entropy(alone.network(rows.features.double()), rows.targets)
        np.testing.assert_allclose(trial.value, loss.item(), rtol=1e-9)
        assert trial.intermediate_values.keys() == {1, 2, 3}


def test_seeds_are_averaged_and_accuracy_is_maximized(data):
    model = dampen.mlp(4)
    settings = [dampen.Setting(dropout=p) for p in (0.0, 0.5)]
    objective = dampen.objective(
        model, data, {"dropout": CategoricalDistribution((0.0, 0.5))}, metric="validation_accuracy", n_seeds=2, **HOW
    )
    grid = optuna.samplers.GridSampler({"dropout": [0.0, 0.5]})
    own = optuna.create_study(sampler=grid, pruner=optuna.pruners.NopPruner(), direction="maximize")
    objective.optimize(own, 2)
    history = dampen.Population(model, settings, seeds=[0, 1]).fit(data, **HOW)
    expected = dict(zip((0.0, 0.5), history.final("validation_accuracy").mean(axis=0), strict=True))
    assert {trial.params["dropout"]: trial.value for trial in own.trials} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n", [1, 3])
def test_a_pruner_ends_the_trials_that_it_would_end_one_by_one(data, n):
    class Worst(optuna.pruners.BasePruner):
        """Prunes by the trial alone, so that the order of trials does not matter."""

        def prune(self, study, trial):
            return trial.params["decay"] > 0.01 and trial.last_step == 2

    objective = dampen.objective(dampen.mlp(4), data, suggest, **HOW)
    at_once, one_by_one = study(pruner=Worst()), study(pruner=Worst())
    objective.optimize(at_once, 4, at_once=n)
    one_by_one.optimize(objective, n_trials=4)
    assert [t.state for t in at_once.trials] == [t.state for t in one_by_one.trials]
    assert {t.state for t in at_once.trials} == {TrialState.PRUNED, TrialState.COMPLETE}
    for one, other in zip(at_once.trials, one_by_one.trials, strict=True):
        assert one.intermediate_values == pytest.approx(other.intermediate_values, rel=1e-9)
        assert max(one.intermediate_values) == (2 if one.state is TrialState.PRUNED else 3)


def test_equal_settings_train_once_and_all_are_told(data):
    objective = dampen.objective(dampen.mlp(4), data, {"dropout": CategoricalDistribution((0.5,))}, **HOW)
    own, told = study(), []
    objective.optimize(own, 4, callbacks=[lambda study, trial: told.append(trial.number)])
    assert told == [0, 1, 2, 3]
    assert len({trial.value for trial in own.trials}) == 1


def test_optunas_distributions_and_dampens_dimensions_are_taken(data):
    space = {
        "dropout": dampen.Uniform(0, 0.7),
        "weight_decay": dampen.LogUniform(1e-4, 1, zero=0.1),
        "lr": FloatDistribution(1e-3, 1e-1, log=True),
        "patience": IntDistribution(1, 3),
    }
    own = study()
    dampen.objective(dampen.mlp(4), data, space, **HOW).optimize(own, 2)
    assert {"dropout", "lr", "patience", "weight_decay.zero"} <= own.trials[0].params.keys()


def test_a_trial_that_diverges_fails_alone(data):
    objective = dampen.objective(
        dampen.mlp(4), data, {"lr": CategoricalDistribution((0.01, 1e12))}, optimizer="sgd", epochs=3
    )
    grid = optuna.samplers.GridSampler({"lr": [0.01, 1e12]})
    own = optuna.create_study(sampler=grid, pruner=optuna.pruners.NopPruner())
    objective.optimize(own, 2)
    states = {trial.params["lr"]: trial.state for trial in own.trials}
    assert states == {0.01: TrialState.COMPLETE, 1e12: TrialState.FAIL}
    assert math.isfinite(own.best_value)


def test_what_goes_wrong_leaves_no_trial_running(data):
    def stop(event):
        raise KeyboardInterrupt

    own = study()
    with pytest.raises(KeyboardInterrupt):
        dampen.objective(dampen.mlp(4), data, suggest, callback=stop, **HOW).optimize(own, 3)
    with pytest.raises(InputError, match="dropout must be"):
        dampen.objective(dampen.mlp(4), data, lambda trial: {"dropout": 2.0}, **HOW).optimize(own, 1)
    assert [trial.state for trial in own.trials] == [TrialState.FAIL] * 4


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_trial_that_can_t_be_told_fails_as_those_after_it_do(data, monkeypatch, error):
    own, tell, told = study(), optuna.Study.tell, []

    def interrupted(self, trial, *value, **how):
        told.append(trial.number)
        if told == [0, 1]:
            raise error
        return tell(self, trial, *value, **how)

    monkeypatch.setattr(optuna.Study, "tell", interrupted)
    with pytest.raises(error):
        dampen.objective(dampen.mlp(4), data, suggest, **HOW).optimize(own, 3)
    assert [trial.state for trial in own.trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"metric": "loss"}, "metric must be one of a history's"),
        ({"metric": "validation_brier"}, "metric must be one of train_loss"),
        ({"metric": "validation_accuracy"}, "the study is to minimize, and validation_accuracy is to be maximized"),
        ({"suggest": 3}, "suggest takes a function"),
        ({"suggest": {"dropout": (0, 1)}}, "must be a distribution of Optuna's"),
        ({"suggest": lambda trial: 0.3}, "suggest must return a value for each knob"),
        ({"suggest": {3: CategoricalDistribution((0.5,))}}, "each knob by its name, .* got the name 3"),
        ({"suggest": lambda trial: {None: 0.3}}, "each knob by its name, .* got the name None"),
        ({"suggest": {"droput": CategoricalDistribution((0.5,))}}, "there is no knob named 'droput'"),
        *(({"metric": value}, "metric must be one of a history's") for value in (None, 3, ["validation_loss"])),
        *(({"seed": value}, "seed must be a whole number, 0 or larger") for value in ("3", 1.5, None, True, -1)),
        ({"callback": 3}, "callback must be a function of an Event, .* got 3"),
        ({"n_seeds": 0}, "n_seeds must be"),
        ({"epochs": None}, "how long to train"),
        ({"n_trials": 0}, "n_trials must be"),
        ({"directions": ["minimize", "minimize"]}, "the study has 2 objectives"),
    ],
)
def test_a_mistake_is_one_line(data, change, line):
    change = {"suggest": suggest, "n_trials": 1, "directions": ["minimize"], **change}
    chosen, n, directions = change.pop("suggest"), change.pop("n_trials"), change.pop("directions")
    with pytest.raises(InputError, match=line):
        dampen.objective(dampen.mlp(4), data, chosen, **{**HOW, **change}).optimize(study(directions=directions), n)


def test_data_without_validation_rows_is_refused_before_anything_trains(data):
    with pytest.raises(InputError, match="needs validation rows"):
        dampen.objective(dampen.mlp(4), dampen.load("iris"), suggest, **HOW)


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ({"study": None}, "study must be one that optuna.create_study makes, got NoneType"),
        ({"study": optuna.create_study}, "study must be one that optuna.create_study makes, got function"),
        ({"n_trials": None}, "n_trials must be a whole number"),
        ({"callbacks": 3}, "callbacks must be a list of functions of a study and a trial, got 3"),
        ({"callbacks": [3]}, r"callbacks must be a list of functions .* got \[3\]"),
        ({"callbacks": print}, "callbacks must be a list of functions"),
    ],
)
def test_a_mistake_in_optimize_is_one_line_before_a_trial_is_asked_for(data, how, line):
    own = study()
    objective = dampen.objective(dampen.mlp(4), data, suggest, **HOW)
    with pytest.raises(InputError, match=line):
        objective.optimize(**{"study": own, "n_trials": 1} | how)
    with pytest.raises(InputError, match="an objective is called with a trial"):
        objective(own)
    assert not own.trials


def test_a_trial_that_suggest_prunes_is_told_so_and_the_others_train(data):
    def odd(trial):
        found = suggest(trial)
        if trial.number % 2:
            raise optuna.TrialPruned("too little decay")
        return found

    objective = dampen.objective(dampen.mlp(4), data, odd, seed=np.int64(0), **HOW)
    at_once, one_by_one = study(), study()
    told = objective.optimize(at_once, 4, callbacks=None)
    one_by_one.optimize(objective, n_trials=4)
    assert [trial.number for trial in told] == [0, 1, 2, 3]
    assert [t.state for t in at_once.trials] == [t.state for t in one_by_one.trials]
    assert [t.state for t in told] == [TrialState.COMPLETE, TrialState.PRUNED] * 2
    np.testing.assert_allclose([t.value for t in told[::2]], [t.value for t in one_by_one.trials[::2]], rtol=1e-9)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("sampler", ["grid", "brute force"])
@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_grid_that_is_used_up_ends_it_as_it_ends_optunas_own(data, sampler, before):
    def studies():
        grid = optuna.samplers.GridSampler({"dropout": [0.0, 0.5]}, seed=0)
        chosen = grid if sampler == "grid" else optuna.samplers.BruteForceSampler(seed=0)
        own = optuna.create_study(sampler=chosen, pruner=optuna.pruners.NopPruner())
        if before:
            own.optimize(objective, n_trials=before)
        return own

    space = {"dropout": CategoricalDistribution((0.0, 0.5))}
    objective = dampen.objective(dampen.mlp(4), data, space, epochs=1)
    at_once, one_by_one = studies(), studies()
    objective.optimize(at_once, 7)
    one_by_one.optimize(objective, n_trials=7)
    assert [t.state for t in at_once.trials] == [t.state for t in one_by_one.trials]
    assert {t.params["dropout"] for t in at_once.trials} == {0.0, 0.5}


def test_a_fixed_trial_is_worth_what_one_of_a_study_is(data):
    objective = dampen.objective(dampen.mlp(4), data, suggest, **HOW)
    own = study()
    own.optimize(objective, n_trials=1)
    assert objective(optuna.trial.FixedTrial(own.trials[0].params)) == own.trials[0].value
