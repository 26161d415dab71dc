"""Studies on folds that are given."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.model_selection import KFold, LeavePGroupsOut, ShuffleSplit

import dampen
from dampen import InputError, Setting
from dampen.metrics import find
from dampen.study._evaluate import Evaluation
from dampen.study._phases import given_round

NOTHING = dict.fromkeys(("plan", "companion", "calibrated"), None) | {"metric": find("nll", "classification")}
SETTINGS = {"none": Setting(), "decay": Setting(weight_decay=0.1)}


@pytest.fixture(scope="module")
def data():
    X = np.random.default_rng(0).normal(size=(90, 3))
    data = dampen.from_arrays(X, X[:, 0] > 0, test_fraction=0.0)
    return data.with_folds(KFold(3))


@pytest.fixture(scope="module")
def study(data, tmp_path_factory):
    return dampen.compare(
        dampen.mlp(4), data, SETTINGS, 4, epochs=2, seed=3, out=tmp_path_factory.mktemp("s") / "given"
    )


def test_every_fold_confirms_and_the_figure_is_the_mean_over_them(data, study):
    assert len(study.plan.confirm_seeds) == 4
    folds = data.folds()
    results = study.results.calibration.confirmed
    sets = results.evaluation.rows.of_seeds
    for i, part in enumerate(sets):
        assert torch.equal(part.train_rows, folds[i % 3].train_rows)
        assert torch.equal(part.validation_rows, folds[i % 3].validation_rows)
    assert results.evaluation.n_rows == 90
    costs = results.evaluation.costs[study.recommended]
    assert (
        study.verdict.interval[0] < study.plan.in_unit(np.mean([c.mean() for c in costs])) < study.verdict.interval[1]
    )
    assert study.results.predictor.folds == 3.0


def test_later_seeds_on_the_same_folds_are_no_new_folds(data, study):
    evaluation = study.results.calibration.confirmed.evaluation
    means = [costs.mean() for costs in evaluation.costs[study.recommended]]
    assert len(means) == 4
    of_folds = np.array([(means[0] + means[3]) / 2, means[1], means[2]])
    estimate = evaluation.estimate({study.recommended: 1.0})
    assert estimate.df == 2
    assert estimate.mean == pytest.approx(of_folds.mean())
    assert estimate.error == pytest.approx(np.sqrt((1 / 3 + 1 / 2) * of_folds.var(ddof=1)))


def test_a_comparison_has_no_importance(study):
    with pytest.raises(InputError, match="importance needs a search"):
        study.importance()


def test_a_study_on_given_folds_is_loaded_with_them(data, study):
    loaded = dampen.load_study(study.folder, data)
    assert loaded.results.predictor.folds == 3.0
    assert "the 3 folds that were given, with 4 fresh seeds" in str(loaded)
    plain = dampen.from_arrays(data.features.numpy(), data.features[:, 0].numpy() > 0, test_fraction=0.0)
    with pytest.raises(InputError, match="is not what the study in"):
        dampen.load_study(study.folder, plain)


def test_fewer_seeds_than_folds_and_a_held_out_part_are_refused(data):
    with pytest.raises(InputError, match=r"n_seeds must be at least the number of folds that were given, 3, .* got 2"):
        dampen.compare(dampen.mlp(4), data, SETTINGS, 2, epochs=1)
    with pytest.raises(InputError, match="has folds of its own: use validation='folds'"):
        dampen.tune(dampen.mlp(4), data, validation="held-out")


def test_all_rows_evaluate_where_one_fold_holds_out_few():
    n, sites = 104, np.repeat(np.arange(6), [20, 20, 20, 20, 20, 4])
    X = np.random.default_rng(0).normal(size=(n, 3))
    data = dampen.from_arrays(X, X[:, 0], test_fraction=0.0)
    data = data.with_folds([(np.flatnonzero(sites != k), np.flatnonzero(sites == k)) for k in range(6)])
    found = dampen.compare(dampen.mlp(4), data, SETTINGS, 6, epochs=2)
    evaluation = found.results.calibration.confirmed.evaluation
    costs = evaluation.costs[found.recommended]
    assert [len(c) for c in costs] == [20, 20, 20, 20, 20, 4]
    assert evaluation.n_rows == n
    assert {len(fold.train_rows) for fold in evaluation.rows.of_seeds} == {84}
    assert evaluation.estimate({found.recommended: 1.0}).mean == pytest.approx(np.concatenate(costs).mean())


def test_a_group_that_leaves_few_rows_to_train_on_is_told():
    groups = np.repeat(np.arange(11), [100] + [10] * 10)
    X = np.random.default_rng(0).normal(size=(200, 3))
    data = dampen.from_arrays(X, X[:, 0], test_fraction=0.0, groups=groups)
    found = dampen.compare(dampen.mlp(4), data, SETTINGS, 5, epochs=2)
    rows = found.results.calibration.confirmed.evaluation.rows.of_seeds
    trained = {len(fold.train_rows) for fold in rows}
    assert max(trained) < 0.6 * 200
    assert sum(len(fold.validation_rows) for fold in rows) == 200
    assert f"these networks train on {trained.pop()} of 200 rows" in found.verdict.bias
    even = dampen.from_arrays(X, X[:, 0], test_fraction=0.0, groups=np.arange(200) // 10)
    assert "train on" not in dampen.compare(dampen.mlp(4), even, SETTINGS, 5, epochs=1).verdict.bias


@pytest.mark.parametrize("grouped", [False, True])
def test_folds_that_may_differ_all_calibrate_an_ensemble_of_numbers(tmp_path, grouped):
    n = 1000  # of drawn rows a fold or two is enough
    X = np.random.default_rng(0).normal(size=(n, 3))
    groups = np.arange(n) // 50 if grouped else None
    data = dampen.from_arrays(X, X[:, 0], test_fraction=0.0, groups=groups)
    data = data if grouped else data.with_folds(KFold(5))
    found = dampen.compare(dampen.mlp(4), data, SETTINGS, 5, epochs=1, out=tmp_path / "study")
    held = [rows.targets for _, rows in found.results.predictor.ensembles]
    assert len(held) == 5
    assert len(torch.cat(held).unique()) == n
    drawn = dampen.compare(
        dampen.mlp(4), replace(data, groups=None, given_folds=None), SETTINGS, 5, epochs=1, out=tmp_path / "drawn"
    )
    assert sum(len(rows.targets) for _, rows in drawn.results.predictor.ensembles) < n / 2


def test_every_row_that_is_held_out_calibrates_once_whatever_the_order_of_the_folds():
    X = np.random.default_rng(0).normal(size=(100, 3))
    data = dampen.from_arrays(X, X[:, 0], test_fraction=0.0)
    sites, twice = np.arange(100) // 20, [KFold(5, shuffle=True, random_state=seed).split(X) for seed in (0, 1)]
    for folds, n in (
        (list(LeavePGroupsOut(2).split(X, groups=sites)), 4),  # the first site with each of the others
        ([fold for pair in zip(*twice, strict=True) for fold in pair], None),
        (list(ShuffleSplit(10, test_size=0.2, random_state=0).split(X)), None),
        (list(KFold(20).split(X)), 10),
    ):
        taken = given_round(data.with_folds(folds))
        held = torch.cat([fold.validation_rows for fold in taken])
        covered = np.unique(np.concatenate([rows for _, rows in folds]))
        assert len(held.unique()) == len(held)
        assert n is None or len(taken) == n
        assert len(held) == len(covered) or (len(taken) == 10 and len(held) >= len(covered) / 2)
        assert all(not set(fold.train_rows.tolist()) & set(fold.validation_rows.tolist()) for fold in taken)


@pytest.mark.usefixtures("without_shape_checks")
def test_the_margin_is_that_of_the_spread_of_folds_by_their_rows():
    sizes, means = np.array([200.0] * 5 + [2.0]), np.array([1.0, 1.1, 0.9, 1.0, 1.0, 5.0])
    costs = [np.full(9, m) for m in means]  # of groups, say: what counts is how many rows they hold

    def of(*sizes):
        rows = SimpleNamespace(evaluation=[SimpleNamespace(size=float(size)) for size in sizes])
        return Evaluation(**NOTHING, rows=rows, measured={"nll": {"a": costs}})

    w = sizes / sizes.sum()
    expected = np.average((means - w @ means) ** 2, weights=w) / (1 - (w**2).sum())
    assert of(*sizes).spread("a") == pytest.approx(np.sqrt(expected))
    assert of(*[9] * 6).spread("a") == pytest.approx(means.std(ddof=1))
