"""Folds of scikit-learn as an estimator's own: splitters, groups, windows in time, copies on both sides."""

import pickle

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit, TimeSeriesSplit, check_cv
from sklearn.pipeline import make_pipeline

from dampen import DampenClassifier, InputError

ONE = {
    "hidden": (4,),
    "space": {"weight_decay": [0.01], "lr": 0.03},
    "n_settings": 1,
    "n_seeds": 1,
    "epochs": 2,
    "n_confirm_seeds": 2,
    "batch_size": 128,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def classes():
    return make_classification(120, 5, n_informative=3, random_state=0)


@pytest.mark.parametrize(
    "cv", [3, pytest.param(KFold(4), marks=pytest.mark.slow), pytest.param("pairs", marks=pytest.mark.slow)]
)
def test_cv_gives_the_study_scikit_learn_s_folds(classes, cv):
    X, y = classes
    if cv == "pairs":
        cv = list(ShuffleSplit(2, test_size=0.3, random_state=0).split(X))
    model = DampenClassifier(**ONE, cv=cv).fit(X, y)
    expected = list(check_cv(cv, y, classifier=True).split(X, y))
    features, folds = model.study_.data.features.numpy(), model.study_.data.given_folds
    assert len(folds) == len(expected) == len(model.networks_)
    for (rest, held), fold in zip(expected, folds, strict=True):
        for rows, found in zip((rest, held), fold, strict=True):
            assert {tuple(row) for row in X[rows].astype(np.float32)} == {tuple(row) for row in features[found]}
    assert f"the {len(expected)} folds that were given" in model.verdict_[-2]
    assert clone(model).cv is not model.cv or isinstance(cv, int)
    pickled = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(pickled.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("routing", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_splitter_gets_groups_with_and_without_metadata_routing(classes, routing):
    X, y = classes
    groups = np.arange(len(y)) // 6
    model = DampenClassifier(**ONE, cv=GroupKFold(2))
    with config_context(enable_metadata_routing=routing):
        (make_pipeline("passthrough", model) if routing else model).fit(X, y, groups=groups)
    for rest, held in model.study_.data.given_folds:
        first = model.study_.data.features[:, 0].numpy()
        of = dict(zip(X[:, 0].astype(np.float32), groups, strict=True))
        assert not {of[value] for value in first[rest]} & {of[value] for value in first[held]}
    with pytest.raises(InputError, match="groups are for a cv that splits by them, such as GroupKFold"):
        DampenClassifier(**ONE).fit(X, y, groups=groups)


def test_folds_need_no_groups_under_metadata_routing(classes):
    with config_context(enable_metadata_routing=True):
        model = DampenClassifier(**ONE, cv=3).fit(*classes)
    assert len(model.study_.data.given_folds) == 3


@pytest.mark.slow
def test_windows_in_time_that_are_equally_long_are_taken(classes):
    X, y = classes
    model = DampenClassifier(**ONE, cv=TimeSeriesSplit(3, max_train_size=30)).fit(X, y)
    assert model.verdict_[-1].endswith("The folds hold out 90 of 120 rows: the others evaluated nothing.")


def test_windows_in_time_that_grow_are_refused(classes):
    X, y = classes
    with pytest.raises(InputError, match=r"^cv: the folds of 'X' train on 30 to 90 rows, .*max_train_size=30\)$"):
        DampenClassifier(**ONE, cv=TimeSeriesSplit(3)).fit(X, y)


@pytest.mark.slow
def test_copies_that_cv_puts_on_both_sides_only_evaluate(classes):
    X, y = np.concatenate([classes[0], classes[0][:2]]), np.concatenate([classes[1], classes[1][:2]])
    cv = [(np.arange(60, 122), np.arange(60)), (np.arange(60), np.arange(60, 120))]
    with pytest.warns(UserWarning, match="^cv: 2 rows do not train in a fold that holds out a copy of them"):
        model = DampenClassifier(**ONE, cv=cv).fit(X, y)
    assert [len(rest) for rest, _ in model.study_.data.given_folds] == [60, 60]


@pytest.mark.parametrize(
    ("cv", "message"),
    [
        ("x", "Expected `cv` as an integer, a cross-validation object"),
        ([(range(60), range(130))] * 2, "cv must give row numbers below 120, got 0 to 129"),
        ([([0.5], [1])] * 2, "cv must give lists of row numbers"),
        ([(range(60), range(60, 120))], "cv: folds of 'X': 2 to 100 are taken, got 1"),
    ],
)
def test_a_cv_that_gives_no_folds_is_refused(classes, cv, message):
    with pytest.raises(ValueError, match=message):
        DampenClassifier(**ONE, cv=cv).fit(*classes)
