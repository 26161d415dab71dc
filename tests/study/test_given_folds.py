"""Studies on folds that are given."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import KFold

import dampen
from dampen import InputError, Setting

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
