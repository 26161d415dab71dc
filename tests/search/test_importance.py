"""Which knobs matter, where the truth is known."""

import math

import numpy as np
import pytest
import scipy.stats

from dampen import InputError
from dampen.engine.knobs import Setting
from dampen.search import Fixed, LogUniform, Ranked, Space, Uniform, importance

SPACE = Space(
    {
        "weight_decay": LogUniform(1e-4, 1, zero=0.2),
        "dropout": Uniform(0, 0.7, zero=0.5),
        "lr": LogUniform(1e-4, 1e-1),
        "label_smoothing": Uniform(0, 0.3),
        "mixup": Fixed(0.0),
    }
)


def rung(settings, costs, epochs=10, run="search-1-1", family="search"):
    stops = tuple((1, 1.0) for _ in settings)
    return Ranked(run, family, 0, epochs, tuple(settings), tuple(map(float, costs)), stops)


def only_lr(settings, seed=0):
    """Return costs that the learning rate alone decides, with noise."""
    noise = np.random.default_rng(seed).normal(size=len(settings))
    return [math.log(setting["lr"] / 3e-3) ** 2 + e for setting, e in zip(settings, noise, strict=True)]


@pytest.mark.parametrize("n", [64, 512])
def test_the_one_knob_that_matters_has_all_of_the_importance(n):
    settings = SPACE.draw(n, "sobol", seed=1)
    found = importance([rung(settings, only_lr(settings))])
    assert next(iter(found)) == "lr"
    assert found["lr"] > 0.9
    assert math.isclose(sum(found.values()), 1)
    assert [name for name, knob in found.knobs.items() if knob.matters] == ["lr"]
    assert "mixup" not in found  # it does not differ
    for knob in found.knobs.values():
        assert knob.low <= knob.share <= knob.high
    assert found.knobs["lr"].low > 0.5 > max(knob.high for name, knob in found.knobs.items() if name != "lr")
    assert (found.n_settings, found.n_better, found.epochs) == (n, 20 if n == 64 else 52, 10)


def test_optuna_s_own_ped_anova_agrees_on_what_matters():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = SPACE.draw(128, "sobol", seed=3)
    costs = [c + 20 * s["label_smoothing"] for c, s in zip(only_lr(settings), settings, strict=True)]
    float_of = optuna.distributions.FloatDistribution
    of = {"lr": float_of(1e-4, 1e-1, log=True), "label_smoothing": float_of(0, 0.3), "dropout": float_of(0, 0.7)}
    study = optuna.create_study()
    for setting, cost in zip(settings, costs, strict=True):
        params = {name: setting[name] for name in of}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=of, value=cost))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    theirs = optuna.importance.get_param_importances(study, evaluator=evaluator)
    ours = importance([rung(settings, costs)])
    assert list(theirs) == [name for name in ours if name in of] == ["lr", "label_smoothing", "dropout"]
    assert not ours.knobs["dropout"].matters


def test_p_is_that_of_pearson_s_test_of_homogeneity():
    settings = [Setting(dropout=rate) for rate in np.linspace(0, 0.69, 100)]
    costs = np.random.default_rng(0).normal(size=100) + [setting["dropout"] * 4 for setting in settings]
    found = importance([rung(settings, costs)]).knobs["dropout"]
    parts, better = np.arange(100) // 20, np.isin(np.arange(100), np.argsort(costs)[:20])
    table = [[int((better & (parts == part)).sum()), int((~better & (parts == part)).sum())] for part in range(5)]
    statistic = scipy.stats.chi2_contingency(table).statistic * 99 / 100  # the variance of drawing without replacement
    assert found.p == pytest.approx(scipy.stats.chi2.sf(statistic, 4))
    assert found.share == 1.0
    assert found.matters


def test_knobs_without_effect_are_rarely_said_to_matter():
    errors = 0
    for seed in range(50):
        settings = SPACE.draw(40, "random", seed)
        costs = np.random.default_rng(1000 + seed).normal(size=len(settings))
        errors += any(knob.matters for knob in importance([rung(settings, costs)]).knobs.values())
    assert errors <= scipy.stats.binom.ppf(0.999, 50, 0.05)


def test_only_trainings_of_one_length_are_compared():
    settings = SPACE.draw(64, "sobol", seed=1)
    costs = only_lr(settings)
    longer = settings[:24]
    rungs = [
        rung(settings, costs, 5),
        rung(longer, [setting["label_smoothing"] for setting in longer], 10, "search-1-2"),
        rung(settings, [setting["dropout"] for setting in settings], 5, "search-around"),
        rung(settings, [setting["dropout"] for setting in settings], 5, "search-around-2"),
        rung(settings, [setting["dropout"] for setting in settings], 40, family="none"),
    ]
    assert importance(rungs).knobs == importance(rungs[:1]).knobs
    assert (importance(rungs).longest, importance(rungs[:1]).longest) == (10, 5)
    assert importance(rungs).epochs == 5
    assert next(iter(importance(rungs, 10))) == "label_smoothing"
    with pytest.raises(InputError, match="no setting was trained for 7 epochs: choose one of 5, 10"):
        importance(rungs, 7)


def test_a_setting_that_diverged_is_among_the_worst():
    settings = SPACE.draw(64, "sobol", seed=2)
    costs = [math.inf if setting["lr"] > 1e-3 else 0.0 for setting in settings]
    assert next(iter(importance([rung(settings, costs)]))) == "lr"


def test_what_has_no_importance_is_refused_in_one_line():
    with pytest.raises(InputError, match="importance needs a search"):
        importance([])
    few = [Setting(dropout=0.01 * i) for i in range(12)]
    with pytest.raises(InputError, match="importance needs 20 settings or more of one length, 10 epochs have 12"):
        importance([rung(few, range(12))])
