"""The verdict's figures against plain ways to them: checkpoints, folds and losses, Student's t, a training by hand."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from torch import nn

import dampen
from dampen import InputError, LogUniform, Population, Setting, compare, tune
from dampen.engine import Builder
from dampen.metrics import find
from dampen.search import Training
from dampen.search._halving import rungs
from dampen.statistics import Estimate
from dampen.study import _defaults, load_study
from dampen.study._confirmation import Confirmation
from dampen.study._findings import Part
from dampen.study._on_test_rows import on_test_rows
from dampen.study._references import regularisers

# Shapes are checked while the shared study trains.
pytestmark = pytest.mark.usefixtures("without_shape_checks")

NETWORK = dampen.linear()
LENGTHS = _defaults.Lengths(4, 4, 8, 16)
SIZES = {"batch_size": 8, "search": "grid", "n_seeds": 1, "confirmed": 1, "n_confirm_seeds": 5}
SPACE = {"weight_decay": [3.0], "l1": [1e-9], "lr": [0.01, 0.1]}  # so little l1 does nothing


def small(inputs, outputs):
    """Make a network whose small initial weights are no burden, so that it overfits at once."""
    return nn.Linear(inputs, outputs)


def numbers(n=60, inputs=60, noise=0.3, signal=1.0, seed=0):
    """Return rows of which the training part is cut into folds of equally many rows."""
    generator = torch.Generator().manual_seed(seed)
    x, e = torch.randn(n, inputs, generator=generator), torch.randn(n, generator=generator)
    y = 10 + 5 * (signal * (x[:, 0] + x[:, 1]) + noise * e)
    return dampen.from_arrays(x.numpy(), y.numpy(), test_fraction=1 / 6)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_defaults, "usual_lengths", lambda *_: LENGTHS)
        return tune(NETWORK, numbers(), SPACE, n_settings=2, out=tmp_path_factory.mktemp("runs") / "s", **SIZES)


@pytest.fixture(scope="module")
def costs(study):
    return costs_of(study, numbers())


def costs_of(study, data):
    """Return the mean squared errors of each confirmed training in each fold, from the folder's checkpoints alone."""
    folds, found = data.folds(5, 1, seed=1), {}
    mean, deviation = study.plan.target_scale
    runs = study.frame().groupby("run")[["length", "epoch"]].max()
    for folder in (study.folder / "checkpoints").glob("confirmation-*"):
        population = Population.load(folder, NETWORK, (folds[0].train.features, folds[0].train.targets))
        length, epoch = runs.loc[folder.name]
        for setting in population.settings:
            errors = []
            for seed, fold in zip(population.seeds, folds, strict=True):
                with torch.no_grad():
                    outputs = population.member(setting, seed)(fold.validation.features).squeeze(-1)
                errors.append((fold.validation.targets - mean - deviation * outputs).square().mean().item())
            found[setting, length, epoch] = np.array(errors)
    return found


def key(training):
    return training.setting, training.epochs, training.trained


def interval(differences, level):
    """Return Nadeau and Bengio's interval of a mean over five folds."""
    error = math.sqrt((1 / 5 + 1 / 4) * differences.var(ddof=1))
    return scipy.stats.t(4, differences.mean(), error).interval(level)


def test_figures_are_those_of_the_evaluation_rows(study, costs):
    verdict, own = study.verdict, costs[key(study.recommended)]
    assert verdict.value == pytest.approx(own.mean(), rel=1e-4)
    assert verdict.interval == pytest.approx(interval(own, 0.95), rel=1e-4)
    trained = {name: other for name, other in verdict.references.items() if other.training is not None}
    assert trained.keys() == {"none", "off", "default", "none_stopped_early"}
    for other in trained.values():
        theirs = costs[key(other.training)]
        assert other.value == pytest.approx(theirs.mean(), rel=1e-4)
        assert other.difference == pytest.approx((own - theirs).mean(), rel=1e-4)
        assert other.interval == pytest.approx(interval(own - theirs, 0.95), rel=1e-3)
        assert other.better is (True if other.interval[1] < 0 else False if other.interval[0] > 0 else None)


def test_simple_models_are_fitted_on_the_networks_training_rows(study, costs):
    from sklearn.dummy import DummyRegressor

    own = costs[key(study.recommended)]
    theirs = []
    for fold in numbers().folds(5, 1, seed=1):
        x, y = fold.train.features.numpy(), fold.train.targets.numpy()
        said = DummyRegressor().fit(x, y).predict(fold.validation.features.numpy())
        theirs.append(np.mean((said - fold.validation.targets.numpy()) ** 2))
    constant = study.verdict.references["constant"]
    assert constant.value == pytest.approx(np.mean(theirs), rel=1e-4)
    assert constant.interval == pytest.approx(interval(own - np.array(theirs), 0.95), rel=1e-3)
    assert {"linear", "boosting"} <= study.verdict.references.keys()


def test_the_gain_is_over_the_best_training_without_regularisation(study, costs):
    verdict, own = study.verdict, costs[key(study.recommended)]
    off = (without(study.recommended.setting), study.recommended.epochs, study.recommended.epochs)
    others = [costs[key(verdict.references[name].training)] for name in ("none", "none_stopped_early")]
    others.append(costs[off])
    best = min(others, key=np.mean)
    gain = verdict.gain
    assert gain.part.estimate == pytest.approx((best - own).mean(), rel=1e-4)
    assert gain.share == pytest.approx((best - own).mean() / best.mean(), rel=1e-4)
    assert gain.part.interval[1] == pytest.approx(interval(best - own, 0.95)[1], rel=1e-3)
    assert gain.part.interval[0] == pytest.approx(min(interval(o - own, 0.95)[0] for o in others), rel=1e-3)
    roots = math.sqrt(best.mean()), math.sqrt(own.mean())
    assert gain.in_target_unit.estimate == pytest.approx(roots[0] - roots[1], rel=1e-3)
    slope = (roots[0] - roots[1]) / (best - own).mean()  # the delta method
    ends = [slope * end for end in interval(best - own, 0.95)]
    assert gain.in_target_unit.interval == pytest.approx(ends, rel=1e-3)
    assert (gain.unit, gain.target_unit) == ("mse", "smaller RMSE")


def without(setting, **changes):
    kept = {name: value for name, value in setting.items() if name != "l1"}
    return Setting(**{**kept, "weight_decay": 0.0} | changes)


def test_the_parts_of_the_gain_add_up_along_their_way(study, costs):
    verdict, best = study.verdict, study.recommended
    n, own = best.epochs, verdict.references["none"].training
    way = [
        costs[without(own.setting, lr=1e-3), LENGTHS.usual, LENGTHS.usual],
        costs[without(own.setting), LENGTHS.usual, LENGTHS.usual],
        costs[key(own)],
        costs[best.setting, n, n],
    ]
    assert list(verdict.attribution) == ["lr", "length", "regularisation", "weight_decay"]
    parts = 4 - (way[1] is way[2])  # no step where the usual length is the best
    for name, before, after in zip(verdict.attribution, way, way[1:], strict=False):
        assert verdict.attribution[name].estimate == pytest.approx((before - after).mean(), rel=1e-3, abs=1e-9)
        together = (0.0, 0.0) if before is after else interval(before - after, 1 - 0.05 / parts)  # all hold together
        assert verdict.attribution[name].interval == pytest.approx(together, rel=1e-2, abs=1e-9)
    assert verdict.total.estimate == pytest.approx((way[0] - way[-1]).mean(), rel=1e-3)
    assert sum(verdict.attribution[name].estimate for name in ("lr", "length", "regularisation")) == pytest.approx(
        verdict.total.estimate
    )
    off = costs[without(best.setting), n, n]
    alone = verdict.attribution["weight_decay"]  # the only regulariser that is left
    assert alone.estimate == pytest.approx((off - way[3]).mean(), rel=1e-3)
    assert verdict.usual == (1e-3, LENGTHS.usual)


def test_intervals_of_what_would_be_better_or_worse_are_of_that(study):
    def told(part):
        lines = replace(study.verdict, attribution={"dropout": part}).sentences()
        return next(line for line in lines if line.startswith("At the same learning rate and length"))

    assert "without its dropout it would be 0.2 worse (+0.1 to +0.3)." in told(Part(0.2, (0.1, 0.3)))
    assert "without its dropout it would be 0.2 better (+0.1 to +0.3)." in told(Part(-0.2, (-0.3, -0.1)))
    length = replace(study.verdict.length, doubled=-0.2, standard_error=0.05, interval=(-0.3, -0.1))
    told_of_length = replace(study.verdict, length=length).sentences()
    assert any("it is worse, by 0.2 (+0.1 to +0.3)." in line for line in told_of_length)


def test_the_parts_that_are_said_to_hold_together_are_those_that_have_an_interval(study):
    parts = sum(part.interval != (0.0, 0.0) for part in study.verdict.attribution.values())
    assert (f"those of the {parts} parts of the gain hold together" in study.verdict.method) == (parts > 1)


def test_twice_the_length_is_told_with_its_standard_error_and_student_s_interval(study, costs):
    best = study.recommended
    long = costs[best.setting, 2 * best.epochs, 2 * best.epochs]
    gains = costs[key(best)] - long
    assert study.verdict.length.doubled == pytest.approx(gains.mean(), rel=1e-2)
    error = math.sqrt((1 / 5 + 1 / 4) * gains.var(ddof=1))
    assert study.verdict.length.standard_error == pytest.approx(error, rel=1e-2)
    half = float(scipy.stats.t.ppf(0.975, len(gains) - 1)) * error
    assert study.verdict.length.interval == pytest.approx((gains.mean() - half, gains.mean() + half), rel=2e-2)


@pytest.mark.parametrize(
    ("without_l1", "error", "time", "dropped"),
    [(0.5, 0.01, True, ("l1",)), (1.02, 0.01, True, ()), (0.5, 1.0, True, ()), (0.5, 0.01, False, ())],
)
def test_a_regulariser_that_is_shown_to_do_harm_beside_others_is_left_out_where_there_is_time(
    without_l1, error, time, dropped
):
    asked = []
    both, decay = Setting(weight_decay=3.0, l1=0.5), Setting(weight_decay=3.0, l1=0.0)
    costs = {
        both: 1.0,
        decay: without_l1,
        Setting(weight_decay=0.0, l1=0.5): 2.0,
        Setting(weight_decay=0.0, l1=0.0): 3.0,
    }

    class Known(Confirmation):
        def __init__(self):
            self._plan, self._dropping, self._evaluation = SimpleNamespace(own_dropout=False), False, self
            self._spares = lambda training, left: asked.append((training.setting, left)) or time

        def mean(self, training):
            return costs[Setting(**{"weight_decay": 0.0, "l1": 0.0} | dict(training.setting))]

        def excess(self, other, one):
            return Estimate(self.mean(other) - self.mean(one), error, 50.0)

        def _train(self, candidates):
            pass

    spared, gone = Known()._spared(Training(both, 8), None, 0.01)
    assert gone == dropped
    assert bool(spared.setting.get("l1")) == (not dropped)
    assert asked == ([(Setting(weight_decay=3.0), 1)] if without_l1 < 1 and error < 1 else [])


def test_a_regulariser_that_is_shown_to_do_nothing_is_left_out(study):
    assert "l1" in study.ranked[0].settings[0]
    assert study.verdict.dropped == ("l1",)
    assert "l1" not in study.verdict.recommended
    assert study.verdict.recommended["weight_decay"] == 3.0
    assert "L1 is shown to gain no more than the margin: removed." in study.verdict.sentences()


def test_the_margin_is_a_hundredth_of_the_loss_or_a_tenth_of_the_spread_between_seeds(study, costs):
    own = costs[key(study.recommended)]  # the same as with l1, to many digits
    assert study.verdict.margin == pytest.approx(max(0.01 * own.mean(), 0.1 * own.std(ddof=1)), rel=1e-3)
    settings = [Setting(weight_decay=0.0), Setting(weight_decay=3.0)]
    given = compare(NETWORK, numbers(), settings, n_seeds=2, epochs=2, margin=0.3).verdict
    assert given.margin == pytest.approx(0.3 * given.value)


def test_a_margin_within_which_all_is_alike_leaves_no_regularisation():
    data = numbers(120, 4)
    found = tune(NETWORK, data, {"weight_decay": [1e-4], "lr": 0.1}, n_settings=1, epochs=4, margin=0.5, **SIZES)
    verdict = found.verdict
    assert (verdict.helps, verdict.gain, verdict.dropped) == (False, None, ("weight_decay",))
    assert verdict.recommended["weight_decay"] == 0
    gone = "weight decay is shown to gain no more than the margin."
    assert verdict.sentences()[0] == f"Use no regularisation (weight decay 0, lr 0.1, 4 epochs): {gone}"


def test_that_the_selection_rows_prefer_none_does_not_show_that_regularisation_is_not_worth_it(monkeypatch):
    kept, of_search = [], Confirmation.of_search
    monkeypatch.setattr(Confirmation, "of_search", lambda *given: kept.append(of_search(*given)) or kept[-1])
    data, space = numbers(120, 2, seed=10), {"weight_decay": [3.0, 30.0], "lr": [0.1]}
    open_one, settled = (
        tune(NETWORK, data, space, n_settings=2, epochs=8, margin=margin, **SIZES).verdict for margin in (None, 0.5)
    )
    assert not regularisers(kept[0].chosen.setting)
    assert kept[0].challenger == open_one.chosen
    low, high = open_one.passed_over.interval
    assert low < 0 < open_one.margin < high
    assert open_one.helps is None
    assert settled.margin > high
    assert settled.helps is False
    assert "the best setting with some, weight decay 0.01, lr 0.1, 8 epochs, gains less than" in settled.sentences()[0]
    better = replace(open_one, passed_over=Part(2 * high, (high, 3 * high)))
    assert better.sentences()[0].startswith("Whether regularisation helps is open: no regularisation (weight decay 0, ")


def test_where_the_choice_turns_out_no_better_than_no_regularisation_that_is_recommended(tmp_path):
    data, space = numbers(60, 2, noise=1.0, seed=3), {"weight_decay": [0.03, 0.3], "lr": [0.1]}
    found = tune(NETWORK, data, space, n_settings=2, epochs=16, out=tmp_path / "s", **SIZES)
    verdict, costs = found.verdict, costs_of(found, data)
    chosen, none = costs[key(verdict.chosen)], costs[key(verdict.references["none"].training)]
    gains = none - chosen
    assert gains.mean() < 0
    assert verdict.chosen.setting["weight_decay"] == 0.3
    assert verdict.recommended == verdict.references["none"].training.setting
    assert verdict.passed_over.estimate == pytest.approx(gains.mean(), rel=1e-3)
    # none is the better of two on these very rows
    assert verdict.passed_over.interval == pytest.approx(interval(gains, 0.975), rel=1e-3)
    assert (verdict.helps, verdict.gain) == (None, None)
    low, high = verdict.passed_over.interval
    assert verdict.sentences()[0] == (
        "No setting is significantly better than no regularisation; use none (weight decay 0, lr 0.1, 16 epochs). The "
        "best one with some on the selection rows, weight decay 0.3, lr 0.1, 16 epochs, was not better on the "
        f"evaluation rows (a loss of {-gains.mean():.2g} in mse, {-high:.4g} to {-low:.4g})."
    )


def test_no_regularisation_has_the_learning_rate_that_is_best_for_it():
    """With decay a large rate is good, without it the noise of 40 rows is learnt by heart."""
    data, rates = numbers(60, 30, noise=2.0), [0.003, 0.03, 0.3]
    space = {"weight_decay": [3.0], "lr": rates}
    found = tune(NETWORK, data, space, n_settings=3, epochs=16, **SIZES | {"search": dampen.Grid(halving=False)})
    none = found.verdict.references["none"].training
    assert none.setting["weight_decay"] == 0
    tried = {rung.family: dict(zip(rung.settings, rung.costs, strict=True)) for rung in found.ranked}
    assert [s["lr"] for s in tried["none"]] == [s["lr"] for s in sorted(tried["none"], key=tried["none"].get)]
    assert sorted(s["lr"] for s in tried["none"]) == rates
    assert none.setting == min(tried["none"], key=tried["none"].get)
    best = min(tried["search"], key=tried["search"].get)
    assert none.setting["lr"] != best["lr"]
    assert tried["none"][none.setting] < tried["none"][Setting(lr=best["lr"], weight_decay=0.0)]


def by_hand(fold, scale, seed, epochs, until, lr):
    """Train a linear network without decay on all rows of a fold at once; return the validation loss of each epoch."""
    (mean, deviation), network = scale, Builder(small)(seed, fold.inputs, fold.outputs)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    train, held = fold.train, fold.validation
    losses = []
    for _ in range(until):
        optimizer.zero_grad()
        (network(train.features).squeeze(-1) - (train.targets - mean) / deviation).square().mean().backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            said = network(held.features).squeeze(-1) * deviation + mean
        losses.append((said - held.targets).square().mean().item())
    return losses


def test_early_stopping_ends_where_the_search_s_validation_loss_is_least():
    data = numbers(60, 25, noise=2.0, seed=1)
    sizes = SIZES | {"batch_size": 100}
    found = tune(small, data, {"weight_decay": [0.0, 0.3], "lr": 0.03}, n_settings=2, epochs=24, **sizes)
    stopped = found.verdict.references["none_stopped_early"]
    scale, folds = found.plan.target_scale, data.folds(5, 1, seed=0)
    searched = {n: by_hand(folds[0], scale, 0, n, n, 0.03) for n in (12, 24)}
    least = {n: min(losses) for n, losses in searched.items()}
    epochs = min(least, key=least.get)
    assert stopped.training.epochs == epochs
    assert stopped.training.stopped_at == int(np.argmin(searched[epochs])) + 1
    assert 1 < stopped.training.stopped_at < epochs
    fresh = list(enumerate(data.folds(5, 1, seed=1), 1_000_000))  # with the confirmation's seeds
    ends = [by_hand(fold, scale, seed, epochs, stopped.training.stopped_at, 0.03)[-1] for seed, fold in fresh]
    assert stopped.value == pytest.approx(np.mean(ends), rel=1e-3)
    n = found.recommended.epochs
    curves = np.array([by_hand(fold, scale, seed, n, n, 0.03) for seed, fold in fresh])
    least = int(curves.mean(0).argmin())
    assert (curves[:, -1] > 1.02 * curves[:, least]).all()
    assert found.verdict.diagnosis.overfits_from == least + 1
    assert f"Without regularisation it overfits from epoch {least + 1} on." in found.verdict.sentences()


def test_helps_needs_every_training_without_regularisation_to_be_worse(study, costs):
    verdict, own = study.verdict, costs[key(study.recommended)]
    others = [costs[key(verdict.references[name].training)] for name in ("none", "none_stopped_early")]
    others.append(costs[without(study.recommended.setting), study.recommended.epochs, study.recommended.epochs])
    worse = all(interval(other - own, 0.95)[0] > 0 for other in others)
    matters = min((other - own).mean() for other in others) >= verdict.margin
    constant = verdict.references["constant"]
    assert verdict.learnt is (True if constant.better else None)
    assert verdict.helps is (True if worse and matters and verdict.learnt else None)


def test_of_noise_nothing_is_learnt_and_nothing_claimed():
    data = numbers(100, 10, noise=1.0, signal=0.0)
    found = tune(NETWORK, data, {"weight_decay": [0.0, 0.3], "lr": 0.03}, n_settings=2, epochs=4, **SIZES)
    assert found.verdict.helps is not True
    assert found.verdict.learnt is False
    value = found.verdict.references["constant"].value
    assert found.sentences()[0].startswith(
        "The network is not significantly better than the constant baseline, which predicts the mean: mse "
    )
    assert f" against {value:.4g}. " in found.sentences()[0]
    assert not any(sentence.startswith("Where the gain comes from") for sentence in found.sentences())


@pytest.mark.parametrize(
    ("helps", "learnt", "gain", "words"),
    [
        (True, True, (9.0, 8.0, 10.0), "Use {best}: regularisation helps, mse -9 (-8 to -10) against no reg"),
        (
            False,
            False,
            (9.0, 8.0, 10.0),
            "The network is not significantly better than the constant baseline, which predi",
        ),
        (
            False,
            True,
            (-9.0, -10.0, -8.0),
            "Regularisation does not help: no regularisation is better than the best with it",
        ),
        (
            False,
            True,
            (0.1, -0.2, 0.3),
            "The gain from regularisation is negligible: the best setting, {best}, has a gain of 0.1 in mse, ",
        ),
        (None, True, (0.9, 0.1, 2.0), "Use {best}: it is better than no regularisation, but by 0.9 (0.1 to 2) in mse"),
        (
            None,
            None,
            (9.0, 8.0, 10.0),
            "Use {best}: it is better than no regularisation, by 9 (8 to 10) in mse, but not",
        ),
        (
            None,
            True,
            (9.0, -1.0, 20.0),
            "No setting is significantly better than no regularisation. The best estimate is {best}: a",
        ),
        (
            None,
            True,
            (-1.0, -9.0, 8.0),
            "No setting is significantly better than no regularisation: {best}, the best on the",
        ),
    ],
)
def test_a_verdict_opens_with_what_was_shown(study, helps, learnt, gain, words):
    verdict = replace(study.verdict, helps=helps, learnt=learnt, margin=1.0, dropped=())
    told = gain and replace(
        verdict.gain, against="none", part=replace(verdict.gain.part, estimate=gain[0], interval=gain[1:])
    )
    best = f"weight decay 3, lr {study.recommended.setting['lr']}, {study.recommended.epochs} epochs"
    assert replace(verdict, gain=told).sentences()[0].startswith(words.format(best=best))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"none": (0.5, -1.0, 2.0)}, "no regularisation. The best estimate is {best}: a gain of 0.5 (-1 to 2) in mse"),
        (
            {"none": (3.0, -0.1, 6.0), "off": (0.5, -1.0, 2.0)},
            "no regularisation. The best estimate is {best}: a gain of 0.5 (-1 to 2) in mse over the same training "
            "without regularisation",
        ),
        (
            {"off": (0.5, -1.0, 2.0)},
            "the same training without regularisation. The best estimate is {best}: a gain of 0.5 (-1 to 2) in mse",
        ),
        (
            {"none_stopped_early": (3.0, -0.1, 6.0), "off": (0.5, -1.0, 2.0)},
            "no regularisation, stopped early or the same training without regularisation. The best estimate is "
            "{best}: a gain of 0.5 (-1 to 2) in mse over the same training without regularisation",
        ),
    ],
)
def test_the_headline_names_the_comparisons_that_were_not_passed(study, parts, words):
    gain = replace(study.verdict.gain, part=replace(study.verdict.gain.part, estimate=0.4, interval=(-1.0, 1.0)))
    parts = {name: replace(gain.part, estimate=part[0], interval=part[1:]) for name, part in parts.items()}
    verdict = replace(study.verdict, helps=None, learnt=True, dropped=(), gain=replace(gain, open=parts))
    best = f"weight decay 3, lr {study.recommended.setting['lr']}, {study.recommended.epochs} epochs"
    headline = f"No setting is significantly better than {words.format(best=best)}, not significant."
    assert verdict.sentences()[0] == headline


def test_what_is_open_is_each_training_without_regularisation_whose_own_interval_reaches_0(study, costs):
    own, verdict = costs[key(study.recommended)], study.verdict
    trained = {name: verdict.references[name].training for name in ("none", "none_stopped_early", "off")}
    assert key(trained["off"])[:2] == (without(study.recommended.setting), study.recommended.epochs)
    ends = {name: interval(costs[key(training)] - own, 0.95) for name, training in trained.items()}
    assert verdict.gain.open.keys() == {name for name, (low, _) in ends.items() if low <= 0}
    for name, part in verdict.gain.open.items():
        assert part.interval == pytest.approx(ends[name], rel=1e-3)


def test_a_length_that_is_the_shortest_tried_is_reported_with_what_tries_shorter_ones(study):
    shortest = replace(study.verdict, learnt=True, length=replace(study.verdict.length, epochs=4, shortest=True))
    (line,) = [line for line in shortest.sentences() if "the shortest length" in line]
    assert line.startswith("4 epochs is the shortest length that was tried: search again with --epochs 4 ")
    tried = {rung.epochs for bracket in study.plan.brackets for rung in bracket.rungs}
    assert study.verdict.length.shortest is (len(tried) > 1 and study.recommended.epochs == min(tried))
    fixed = _defaults.usual_lengths(numbers(), 8, epochs=4)
    assert min(rung.epochs for rung in rungs(fixed.planned, 8, 1, 2, True, fixed.first)) < 4


def test_a_simple_model_that_is_shown_to_be_better_is_named_after_the_headline(study):
    verdict = study.verdict
    worse = {n for n, other in verdict.references.items() if other.better is False and not other.equivalent}
    assert set(verdict.diagnosis.beaten_by) == worse & {"linear", "boosting", "none_stopped_early"}
    beaten = replace(verdict, diagnosis=replace(verdict.diagnosis, beaten_by=("none_stopped_early", "linear")))
    assert beaten.sentences()[1] == (
        "Better than the network on these rows: a linear model. Consider using that instead."
    )


@pytest.mark.parametrize(
    ("difference", "ends", "words"),
    [
        (
            0.2,
            (0.1, 0.3),
            "The test rows show both to be equivalent within the margin of 1: +0.2 (+0.1 to +0.3) against",
        ),
        (-0.2, (-0.9, 0.5), "The test rows show both to be equivalent within the margin of 1: -0.2 (-0.9 to +0.5) ag"),
        (0.9, (0.1, 1.7), "The test rows show a difference that is negligible, within the margin of 1: +0"),
        (
            2.0,
            (0.1, 3.9),
            "The test rows show a significant difference where the evaluation rows did not: +2 (+0.1 to +3.9) against",
        ),
        (-0.0, (-2.0, 2.0), "The test rows neither confirm nor contradict this: 0 (-2 to +2) against"),
    ],
)
def test_a_difference_on_the_test_rows_that_does_not_matter_settles_nothing(study, difference, ends, words):
    against = {"difference": difference, "interval": list(ends), "agrees": None}
    verdict = replace(study.verdict, margin=1.0, gain=None)
    (sentence,) = on_test_rows({"none": {"against": against}}, verdict)
    assert sentence.startswith(words)


def test_no_number_of_a_sentence_is_minus_0(study):
    none = replace(study.verdict.references["none"], difference=-0.0, interval=(-0.0, 0.0), better=None)
    lines = replace(study.verdict, references=study.verdict.references | {"none": none}).sentences()
    (line,) = [line for line in lines if line.startswith("Against no regularisation with")]
    assert ": 0 (0 to 0), " in line


def test_a_step_that_loses_is_not_called_better(study):
    parts = study.verdict.attribution
    lost = replace(parts["lr"], estimate=-1.0, interval=(-2.0, 1.0))
    (line,) = [
        line
        for line in replace(study.verdict, attribution=parts | {"lr": lost}).sentences()
        if line.startswith("Where the gain comes from")
    ]
    assert "another learning rate -1 (-2 to +1)" in line
    assert "a better learning rate" not in line


def test_an_unsettled_gain_is_the_one_over_the_best_training_without_regularisation(study):
    near, noisy = Part(0.1, (-1.0, 1.2)), Part(0.5, (-9.0, 10.0))
    gain = replace(study.verdict.gain, against="none", part=near, open={"none": near, "off": noisy})
    line = replace(study.verdict, gain=gain, helps=None).sentences()[0]
    assert "a gain of 0.1 (-1 to 1.2)" in line


@pytest.mark.parametrize(("stopped_at", "words"), [(3, "after epoch 3 of 8"), (8, "after the last of 8 epochs")])
def test_early_stopping_says_where_it_stopped(study, stopped_at, words):
    other = study.verdict.references["none_stopped_early"]
    other = replace(other, training=replace(other.training, epochs=8, stopped_at=stopped_at))
    verdict = replace(study.verdict, references=study.verdict.references | {"none_stopped_early": other})
    of_loss, of_another = (
        next(line for line in one.sentences() if line.startswith("Against no regularisation, stopped early with"))
        for one in (verdict, replace(verdict, metric=find("mae", "regression")))
    )
    assert f"{words} (" in of_loss
    assert of_another == f"{of_loss} It stops where its validation loss is least, whatever the metric."


def test_every_reference_has_a_sentence_with_its_figures(study):
    text = str(study.verdict)
    for name, words in (
        ("none", "no regularisation with"),
        ("off", "the same training without regularisation with"),
        ("none_stopped_early", "no regularisation, stopped early with"),
        ("default", "AdamW's default decay with"),
        ("constant", "the constant baseline"),
        ("linear", "a linear model"),
        ("boosting", "boosted trees"),
    ):
        other = study.verdict.references[name]
        (sentence,) = [line for line in text.splitlines() if line.startswith(f"Against {words}")]
        assert f"({other.value:.4g}): {other.difference:+.4g} ({other.interval[0]:+.4g} to" in sentence
    assert "5 fresh folds" in text
    assert "may be slightly too good" in text


def test_the_document_holds_every_figure_and_is_json_to_everyone(study):
    def refuse(name):
        raise AssertionError(name)

    document = json.loads((study.folder / "study.json").read_text(), parse_constant=refuse)
    assert json.loads(json.dumps(study.document(), allow_nan=False)) == document
    assert document["helps"] in (True, False, None)
    assert document["learnt"] in (True, False, None)
    assert {"against", "estimate", "interval", "unit", "share", "own_unit", "open", "calibrated"} == document[
        "gain"
    ].keys()
    assert {"lr", "length", "regularisation", "weight_decay"} == document["attribution"].keys()
    assert all({"estimate", "interval"} == part.keys() for part in document["attribution"].values())
    assert {"estimate", "interval"} == document["total"].keys()
    assert {"epochs", "doubled", "shortest"} == document["length"].keys()
    assert {"difference", "interval", "standard_error"} == document["length"]["doubled"].keys()
    assert {"overfits_from", "underfits", "leaks", "beaten_by"} == document["diagnosis"].keys()
    references = {"none", "none_stopped_early", "default", "constant", "linear", "boosting"}
    assert references | {"off"} == document["references"].keys()
    for of in document["references"].values():
        keys = {"setting", "epochs", "stopped_at", "mean", "difference", "interval", "better", "equivalent"}
        assert keys == of.keys()
    assert references | {"recommended", "ensemble"} == document["test"].keys()
    assert all("against" in document["test"][name] for name in references)
    assert document["sentences"] == study.sentences()
    assert document["sentences"][:-1] == study.verdict.sentences()
    assert document["sentences"][-1].startswith("The test rows ")
    assert document["checkpoints"].keys() == {"confirmation", "test"}
    assert document["plan"]["format"] == 2


def test_the_difference_on_the_test_rows_is_that_of_the_means(study):
    for name in ("none", "default", "linear"):
        found = study.test[name]
        difference = study.test["recommended"]["mse"]["mean"] - found["mse"]["mean"]
        assert found["against"]["difference"] == pytest.approx(difference, rel=1e-4)
        low, high = found["against"]["interval"]
        assert low <= difference <= high


def test_a_comparison_without_a_length_gives_each_setting_its_own(monkeypatch):
    monkeypatch.setattr(_defaults, "usual_lengths", lambda *_: _defaults.Lengths(2, 4, 8, 16))
    settings = {"slow": Setting(lr=1e-3, weight_decay=0.0), "fast": Setting(lr=0.03, weight_decay=0.0)}
    found = compare(small, numbers(60, 30, noise=1.0), settings, n_seeds=2, batch_size=8)
    lengths = {}
    for name, setting in settings.items():
        tried = {r.epochs: r.costs[r.settings.index(setting)] for r in found.ranked if setting in r.settings}
        assert {2, 4, 8} <= tried.keys()
        lengths[name] = min(tried, key=tried.get)
        assert found.verdict.references[name].training.epochs == lengths[name]
    assert lengths["slow"] > lengths["fast"]
    assert (found.verdict.gain, found.verdict.helps, found.verdict.diagnosis) == (None, None, None)
    assert found.sentences()[0].startswith("The best is ")


def test_a_network_that_starts_alike_with_every_seed_is_told():
    def seeded(inputs, outputs):
        torch.manual_seed(0)
        return nn.Linear(inputs, outputs)

    settings = [Setting(weight_decay=0.0), Setting(weight_decay=3.0)]
    said = "The network starts from the same weights with every seed"
    assert said in str(compare(seeded, numbers(), settings, n_seeds=2, epochs=1).verdict)
    assert said not in str(compare(NETWORK, numbers(), settings, n_seeds=2, epochs=1).verdict)


def test_copies_and_identifiers_are_told():
    rng = np.random.default_rng(0)
    people = pd.DataFrame({"patient": range(100, 140), "level": rng.normal(size=40)})
    visits = people.loc[people.index.repeat(4)].assign(a=rng.normal(size=160), b=rng.normal(size=160))
    frame = pd.concat([visits, visits.head(20)]).assign(y=lambda f: f["level"] + 0.1 * f["a"])
    data = dampen.load(frame.reset_index(drop=True), target="y", group=None)
    options = {"n_settings": 1, "n_seeds": 1, "epochs": 1, "confirmed": 1, "n_confirm_seeds": 2}
    text = "\n".join(tune(NETWORK, data, {"weight_decay": [0.0]}, **options).sentences())
    assert "rows are copies of another one." in text
    assert "Column 'patient' looks like an identifier that repeats" in text
    assert "--group patient keeps them together." in text


def older(folder):
    """Make a study's folder what a version without lengths would have left."""
    document = json.loads((folder / "study.json").read_text())
    for phase, name in document.pop("checkpoints").items():
        (folder / "checkpoints" / name).rename(folder / "checkpoints" / phase)
    document["plan"]["epochs"] = document.pop("length")["epochs"]
    for plan in (document["plan"], json.loads((folder / "plan.json").read_text())):
        del plan["format"], plan["lengths"], plan["families"]
        (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "study.json").write_text(json.dumps(document))


def test_a_finished_study_of_an_older_version_is_opened_and_no_unfinished_one_resumed(tmp_path):
    settings = [Setting(weight_decay=0.0), Setting(weight_decay=3.0)]
    words = {"n_seeds": 2, "epochs": 2, "out": tmp_path / "s"}
    found = compare(NETWORK, numbers(), settings, **words)
    older(tmp_path / "s")
    kept = load_study(tmp_path / "s", numbers())
    assert kept.setting == found.verdict.recommended
    assert kept.winner().epochs == 2
    mine, theirs = kept.model().state_dict(), found.model().state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    with pytest.raises(InputError, match="holds a study of another version of dampen: choose another folder"):
        compare(NETWORK, numbers(), settings, resume=True, **words)


def test_a_search_that_diverges_altogether_is_one_line():
    with pytest.raises(InputError, match="every setting diverged: lower the learning rate"):
        tune(NETWORK, numbers(), {"weight_decay": [1.0], "lr": 1e30}, n_settings=1, epochs=2, **SIZES)


def test_the_most_settings_and_seeds_are_tried_where_rows_are_few():
    assert _defaults.usual_sizes(999) == _defaults.Sizes(64, 5, 10)
    assert _defaults.usual_sizes(1000) == _defaults.usual_sizes(4999) == _defaults.Sizes(32, 3, 5)
    assert _defaults.usual_sizes(5000) == _defaults.Sizes(24, 1, 3)


def test_a_space_that_is_given_is_searched_over_its_own_range():
    found = tune(
        NETWORK, numbers(), {"lr": LogUniform(0.01, 0.1)}, n_settings=4, epochs=1, **SIZES | {"search": "sobol"}
    )
    rates = {setting["lr"] for rung in found.ranked if rung.family == "search" for setting in rung.settings}
    assert all(0.01 <= rate <= 0.1 for rate in rates)
    assert found.verdict.gain is None
    assert found.verdict.helps is False


@pytest.mark.parametrize(("n", "pairs"), [(2, 1), (4, 6)])
def test_a_comparison_pays_for_each_pair_that_might_have_been_the_best_and_another(tmp_path, n, pairs):
    data, how = numbers(), {"epochs": 4, "batch_size": 8}
    study = compare(NETWORK, data, [Setting(lr=0.01 * 2**k) for k in range(n)], 5, **how, out=tmp_path / "s")
    own, costs = key(study.recommended), costs_of(study, data)
    others = [other for other in study.verdict.references.values() if other.training and key(other.training) != own]
    assert len(others) == n - 1
    for other in others:
        differences = costs[own] - costs[key(other.training)]
        assert other.interval == pytest.approx(interval(differences, 1 - 0.05 / pairs), rel=1e-3)
    assert ("for all 6 pairs" in study.verdict.method) == (n == 4)
