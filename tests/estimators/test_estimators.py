"""The estimators among scikit-learn's tools: search, pipelines, weights, frames, pickles."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import scipy.special
import scipy.stats
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, make_classification
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    cross_val_score,
    train_test_split,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import compute_sample_weight
from torch import nn

import dampen
from dampen import DampenClassifier, DampenRegressor, InputError
from dampen.estimators._arguments import by_class
from dampen.estimators._defaults import longer, usual

FEW = {"n_settings": 8, "n_seeds": 1, "epochs": 20, "n_confirm_seeds": 3, "random_state": 0}
TINY = {
    "hidden": (8,),
    "space": {"weight_decay": [0.0, 0.01], "lr": 0.03},
    "n_settings": 2,
    "n_seeds": 1,
    "epochs": 15,
    "n_confirm_seeds": 2,
    "batch_size": 128,
    "random_state": 0,
}
ONE = TINY | {"space": {"weight_decay": [0.01], "lr": 0.03}, "n_settings": 1}


@pytest.fixture(scope="module")
def classes():
    return make_classification(120, 5, n_informative=3, random_state=0)


@pytest.fixture(scope="module")
def fitted(classes):
    return DampenClassifier(**TINY).fit(*classes)


@pytest.mark.slow
def test_a_classifier_is_as_good_as_a_linear_one():
    X, y = load_breast_cancer(return_X_y=True)
    train, test, y_train, y_test = train_test_split(X, y, random_state=0, stratify=y)
    model = DampenClassifier(**FEW).fit(train, y_train)
    linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(train, y_train)
    assert model.score(test, y_test) > linear.score(test, y_test) - 0.03
    assert model.tuned_
    assert {"weight_decay", "dropout", "lr"} == model.setting_.keys()
    assert any("no regularisation" in sentence for sentence in model.verdict_)


@pytest.mark.slow
def test_a_regressor_is_as_good_as_a_linear_one_and_speaks_in_the_target_s_unit():
    X, y = load_diabetes(return_X_y=True)
    train, test, y_train, y_test = train_test_split(X, y, random_state=0)
    model = DampenRegressor(**FEW).fit(train, y_train)
    linear = Ridge().fit(train, y_train)
    assert model.score(test, y_test) > linear.score(test, y_test) - 0.05
    assert 2000 < model.study_.verdict.value < 5000  # of 5930 that the mean leaves


def test_probabilities_are_the_mean_over_the_networks(fitted, classes):
    X, _ = classes
    inputs = fitted.preprocessing_.vectoriser.apply(torch.tensor(X.astype(np.float32)))
    each = [network(inputs).softmax(-1).detach().numpy() for network in fitted.networks_]
    np.testing.assert_allclose(fitted.predict_proba(X), np.mean(each, axis=0), rtol=1e-4, atol=1e-6)
    assert (fitted.predict(X) == fitted.predict_proba(X).argmax(1)).all()


@pytest.mark.slow
def test_a_weight_is_a_number_of_copies_and_the_order_of_rows_is_nothing(classes):
    X, y = classes
    weights = np.random.default_rng(0).integers(0, 4, len(y))
    shuffled = np.random.default_rng(1).permutation(len(y))
    weighted = DampenClassifier(**TINY).fit(X, y, sample_weight=weights).predict_proba(X)
    copies = DampenClassifier(**TINY).fit(X.repeat(weights, axis=0), y.repeat(weights)).predict_proba(X)
    moved = DampenClassifier(**TINY).fit(X[shuffled], y[shuffled], sample_weight=weights[shuffled]).predict_proba(X)
    np.testing.assert_array_equal(copies, weighted)
    np.testing.assert_array_equal(moved, weighted)


@pytest.mark.parametrize("rows", [20, 120])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"n_settings": 0},
            "n_settings must be a whole number, 1 or larger, or None for a default that depends on the rows, got 0",
        ),
        ({"epochs": 0}, "epochs must be a whole number, 1 or larger"),
        ({"batch_size": 0}, "batch_size must be a whole number, 1 or larger"),
        ({"batch_size": 16.0}, "batch_size must be a whole number, 1 or larger"),
        ({"epochs": True}, "epochs must be a whole number, 1 or larger"),
        ({"n_confirm_seeds": None}, "n_confirm_seeds must be a whole number, 1 or larger, got None"),
        ({"n_confirm_seeds": 0}, "n_confirm_seeds must be a whole number, 1 or larger, got 0"),
        ({"metric": "acuracy"}, "the metric must be one of nll, accuracy"),
        ({"hidden": (8.5,)}, r"hidden must be widths of layers, whole numbers such as \(64, 32\), got \(8.5,\)"),
        ({"hidden": (8, 0)}, "hidden must be widths of layers"),
        ({"hidden": "64"}, "hidden must be widths of layers"),
        ({"hidden": (8,), "model": dampen.mlp(4)}, "give one of them"),
        ({"class_weight": {0: -1.0}}, "class_weight: the weight of class 0 must be a finite number above 0, got -1.0"),
        ({"class_weight": {1: float("nan")}}, "class_weight: the weight of class 1 must be"),
        ({"class_weight": {0: 1, 1: 0}}, "class_weight: the weight of class 1 must be"),
        ({"class_weight": {0: float("inf")}}, "class_weight: the weight of class 0 must be"),
        ({"class_weight": {0: "2"}}, "class_weight: the weight of class 0 must be"),
    ],
)
def test_a_parameter_out_of_range_is_named(classes, rows, options, message):
    X, y = classes
    with pytest.raises(ValueError, match=message):
        DampenClassifier(**(TINY | {"hidden": None} | options)).fit(X[:rows], y[:rows])


@pytest.mark.slow
def test_balanced_classes_count_rows_by_their_weights(classes):
    X, y = classes
    again = y == y[0]
    how = {**TINY, "class_weight": "balanced"}
    weighted = DampenClassifier(**how).fit(X, y, sample_weight=1 + again)
    repeated = DampenClassifier(**how).fit(np.r_[X, X[again]], np.r_[y, y[again]])
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-5, atol=1e-7)


def test_balanced_classes_have_equal_sums_of_weights():
    y, weights = np.array(["a", "b", "b", "c", "c", "c"]), np.array([2.0, 1.0, 0.5, 0.0, 3.0, 1.0])
    found = weights * by_class("balanced", y, weights)
    np.testing.assert_allclose([found[y == name].sum() for name in "abc"], [2.5, 2.5, 2.5])
    np.testing.assert_allclose(by_class("balanced", y, np.ones(6)), compute_sample_weight("balanced", y))
    left_out = by_class("balanced", y, np.where(y == "c", 0.0, 1.0))
    np.testing.assert_allclose(left_out[y != "c"], compute_sample_weight("balanced", y[y != "c"]))


@pytest.mark.slow
def test_class_weights_are_row_weights(classes, fitted):
    X, y = classes
    by_class = DampenClassifier(**TINY, class_weight={0: 1.0, 1: 5.0}).fit(X, y).predict_proba(X)
    by_row = DampenClassifier(**TINY).fit(X, y, sample_weight=np.where(y == 1, 5.0, 1.0)).predict_proba(X)
    np.testing.assert_array_equal(by_class, by_row)
    assert by_class[:, 1].mean() > fitted.predict_proba(X)[:, 1].mean()


@pytest.mark.slow
def test_it_serves_in_pipelines_searches_and_cross_validation(classes):
    X, y = classes
    pipeline = make_pipeline(StandardScaler(), DampenClassifier(**ONE))
    search = GridSearchCV(pipeline, {"dampenclassifier__epochs": [1, 40]}, cv=2, refit=False)
    search.fit(X, y)
    assert search.best_params_ == {"dampenclassifier__epochs": 40}
    assert cross_val_score(DampenRegressor(**ONE), X, X[:, 0], cv=2).min() > 0.3


def test_parameters_are_kept_as_given_and_cloned(fitted):
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params() == DampenClassifier(**TINY).get_params()
    with pytest.raises(NotFittedError):
        copy.predict([[0.0] * 5])


def test_a_pickle_predicts_the_same_and_leaves_the_study_behind(fitted, classes):
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(classes[0]), fitted.predict_proba(classes[0]))
    assert again.verdict_ == fitted.verdict_
    assert not hasattr(again, "study_")


def test_a_pickle_of_an_earlier_version_predicts_the_same(fitted, classes):
    """What the first versions kept: no losses, ensembles of several settings, cocktails or clusters, and less noise."""
    new = {"_loss", "_noise", "n_ensemble", "cocktail", "cluster", "loss"}
    X, y = classes[0], classes[0] @ np.arange(5.0)
    for model in (
        fitted,
        DampenRegressor(**ONE).fit(X[:60], 1000 * y[:60]),
        DampenRegressor(**ONE).fit(X[:30], y[:30]),
    ):
        old = type(model).__new__(type(model))
        old.__setstate__({name: value for name, value in model.__getstate__().items() if name not in new})
        np.testing.assert_array_equal(old.predict(X), model.predict(X))
        mine, its = old.predict_uncertainty(X), model.predict_uncertainty(X)
        np.testing.assert_allclose(mine.standard_deviation, its.standard_deviation, rtol=1e-12)
        assert old.get_params() == model.get_params()
        if isinstance(model, DampenRegressor):
            with pytest.raises(InputError, match=r"earlier version|50 different rows"):
                old.predict_interval(X)


def test_missing_numbers_are_filled_in_by_the_training_rows(classes):
    X, y = classes
    holes = X.copy()
    holes[::7, 2] = np.nan
    model = DampenClassifier(**TINY).fit(holes, y)
    assert np.isfinite(model.predict_proba(holes)).all()
    with pytest.raises(ValueError, match="infinity"):
        model.predict(np.where(np.isnan(holes), np.inf, holes))


def test_what_an_array_masks_is_missing(classes):
    X, y = classes[0][:40], classes[1][:40]
    holes, quick = X > 1, {"hidden": (4,), "epochs": 1, "random_state": 0}
    model = DampenClassifier(**quick).fit(np.ma.masked_array(X, holes), y)
    reference = DampenClassifier(**quick).fit(np.where(holes, np.nan, X), y)
    expected = reference.predict_proba(np.where(holes, np.nan, X))
    np.testing.assert_array_equal(model.predict_proba(np.ma.masked_array(X, holes)), expected)
    with pytest.raises(ValueError, match="y contains NaN"):
        model.fit(X, np.ma.masked_array(y, y == y[0]))


def test_a_frame_of_numbers_gives_what_the_array_gives(fitted, classes):
    X, y = classes
    frame = pd.DataFrame(X, columns=list("abcde"))
    model = DampenClassifier(**TINY).fit(frame, y)
    np.testing.assert_array_equal(model.predict_proba(frame), fitted.predict_proba(X))
    assert model.preprocessing_.vectoriser.columns.inputs(2) == list("abcde")


def test_sparse_rows_are_refused_clearly(fitted, classes):
    with pytest.raises(TypeError, match="dense data is required"):
        DampenClassifier(**TINY).fit(scipy.sparse.csr_array(classes[0]), classes[1])


def test_few_rows_get_the_published_default_and_that_is_said(classes):
    X, y = classes
    model = DampenClassifier(random_state=0, epochs=20).fit(X[:40], y[:40])
    assert not model.tuned_
    assert model.setting_ == {"weight_decay": 0.02, "dropout": 0.15, "lr": 3e-3}
    assert "40 different rows are too few" in model.verdict_[0]
    plain = DampenRegressor(model=dampen.mlp(), epochs=5).fit(X[:40], X[:40, 0])
    assert "dropout" not in plain.setting_


def test_few_rows_that_were_given_often_have_the_shares_of_their_classes():
    rng = np.random.default_rng(0)
    cells = np.array([(a, b, c) for a in range(4) for b in range(2) for c in range(2)], dtype=float)
    shares = rng.uniform(0.05, 0.95, len(cells))
    X = np.repeat(cells, 100, axis=0)
    y = rng.random(len(X)) < np.repeat(shares, 100)
    observed = y.reshape(-1, 100).mean(1)
    model = DampenClassifier(random_state=0, n_confirm_seeds=1).fit(X, y.astype(int))
    assert not model.tuned_
    apart = np.abs(model.predict_proba(cells)[:, 1] - observed)
    assert apart.mean() < 0.03, apart  # with the epochs of rows that are given once: 0.12
    weighted = DampenClassifier(random_state=0, n_confirm_seeds=1).fit(
        np.repeat(cells, 2, axis=0), np.tile([0, 1], len(cells)), np.stack([1 - observed, observed], 1).ravel()
    )
    np.testing.assert_allclose(weighted.predict_proba(cells), model.predict_proba(cells), atol=0.01)


@pytest.mark.parametrize(("n", "times"), [(49, 1), (60, 2), (999, 2)])
def test_numbers_to_predict_from_few_rows_have_longer_trainings_at_higher_rates(n, times):
    x = np.random.default_rng(0).normal(size=(n, 3))
    numbers, classes = (
        usual(dampen.from_arrays(x, y, test_fraction=0), None, None, None) for y in (x[:, 0], x[:, 0] > 0)
    )
    assert numbers.epochs == times * classes.epochs
    assert (numbers.space is None) == (times == 1)
    assert numbers.space is None or numbers.space["lr"].high == 3e-2


@pytest.mark.parametrize("unit", ["datetime64[D]", "timedelta64[s]"])
def test_dates_are_no_numbers_to_predict(unit):
    x = np.arange(60.0).reshape(60, 1)
    with pytest.raises(InputError, match="y holds dates or durations: give numbers"):
        DampenRegressor().fit(x, np.arange(60).astype(unit))


@pytest.mark.parametrize(
    ("weights", "epochs"),
    [([2.0] * 20, 30), ([1.0] + [5.0] * 4, 70), ([1e-9] + [1.0] * 39, 30), ([1, *[99.0] * 3], 142)],
)
def test_trainings_on_few_rows_are_longer_where_rows_were_given_often_but_not_for_one_that_hardly_counts(
    weights, epochs
):
    assert longer(30, np.array(weights)) == epochs


def test_a_class_of_few_rows_does_not_stop_the_folds(classes):
    X, y = classes
    rare = y.copy()
    rare[:3] = 2
    assert DampenClassifier(**TINY).fit(X, rare).predict_proba(X).shape == (120, 3)


def test_a_network_of_one_s_own_is_tuned(classes):
    def make(inputs, outputs):
        return nn.Sequential(nn.Linear(inputs, 6), nn.ReLU(), nn.Dropout(0.1), nn.Linear(6, outputs))

    model = DampenClassifier(model=make, **{k: v for k, v in TINY.items() if k != "hidden"}).fit(*classes)
    assert isinstance(model.networks_[0][2], nn.Dropout)
    assert model.score(*classes) > 0.7


@pytest.mark.parametrize("unit", [1e155, 1e-163])
def test_targets_whose_squares_are_no_numbers_are_refused(classes, unit):
    X, _ = classes
    with pytest.raises(InputError, match="give them in another unit"):
        DampenRegressor(**TINY).fit(X, unit * X[:, 0])


@pytest.mark.parametrize(("offset", "unit"), [(0.0, 1e-20), (1e9, 1.0), (0.0, 1e15)])
def test_any_unit_and_offset_of_a_target_will_do(classes, offset, unit):
    X, _ = classes
    y = (X[:, 0] + offset) * unit
    model = DampenRegressor(**TINY).fit(X, y)
    assert model.score(X, y) > 0.5


def test_uncertainty_of_classes_is_what_the_networks_disagree_on(fitted, classes):
    found = fitted.predict_uncertainty(classes[0])
    with torch.no_grad():
        inputs = fitted.preprocessing_.inputs(pd.DataFrame(classes[0], columns=[f"x{i}" for i in range(5)]))
        each = np.stack([scipy.special.softmax(network(inputs).double().numpy(), 1) for network in fitted.networks_])
    mean = each.mean(0)
    np.testing.assert_allclose(found.probabilities, fitted.predict_proba(classes[0]), rtol=1e-12)
    np.testing.assert_allclose(found.entropy, scipy.stats.entropy(mean, axis=1), rtol=1e-4)
    expected = scipy.stats.entropy(mean, axis=1) - scipy.stats.entropy(each, axis=2).mean(0)
    np.testing.assert_allclose(found.mutual_information, expected, atol=1e-5)
    assert found.mutual_information.max() > 1e-4
    np.testing.assert_array_equal(found.classes, fitted.predict(classes[0]))
    np.testing.assert_array_equal(found.sets(0.3), found.probabilities >= 0.7)
    arrays = [value for name, value in vars(found).items() if name != "samples"]
    assert all(isinstance(value, np.ndarray) for value in [*arrays, found.sets(0.3)])
    with pytest.warns(UserWarning, match="beyond the training rows in .*: the network extrapolates there"):
        far = fitted.predict_uncertainty(-classes[0] * 4)
    assert len(far) == 120


@pytest.mark.slow
def test_intervals_of_a_regression_hold_the_share_of_unseen_targets_that_they_promise():
    X, y = load_diabetes(return_X_y=True)
    train, test, y_train, y_test = train_test_split(X, y, random_state=0)
    few = FEW | {"hidden": (16,), "n_settings": 2}
    model = DampenRegressor(**few).fit(train, y_train)
    found = model.predict_uncertainty(test)
    np.testing.assert_allclose(found.mean, model.predict(test), rtol=1e-9)
    np.testing.assert_allclose(found.variance, found.epistemic + model.noise_, rtol=1e-12)
    low, high = found.interval(0.9)
    assert np.mean((y_test >= low) & (y_test <= high)) == pytest.approx(0.9, abs=0.06)
    with pytest.warns(UserWarning, match=r"of 0.9999 coverage are infinite: \d+ rows .* at most 0\.99"):
        assert np.isinf(model.predict_interval(test, 0.9999)[1]).all()
    same = DampenRegressor(**few).fit(train, 1024 * y_train)  # a power of 2: the same digits
    assert same.noise_ == pytest.approx(1024**2 * model.noise_, rel=1e-6)


def test_uncertainty_samples_dropout_on_request_and_refuses_where_there_is_none(classes):
    model = DampenClassifier(**TINY).fit(classes[0][:40], classes[1][:40])
    assert model.setting_["dropout"] == 0.15  # the published default: so few rows are not tuned
    once, often = (model.predict_uncertainty(classes[0][:20], samples) for samples in (None, 30))
    assert (once.samples, often.samples) == (2, 60)
    assert float(often.mutual_information.mean()) > float(once.mutual_information.mean())
    again = model.predict_uncertainty(classes[0][:20], 30)
    np.testing.assert_array_equal(often.probabilities, again.probabilities)
    none = DampenClassifier(**(TINY | {"hidden": None, "model": nn.Linear(5, 2)})).fit(*classes)
    with pytest.raises(dampen.errors.InputError, match="drop"):
        none.predict_uncertainty(classes[0], samples=3)


def test_few_rows_give_no_interval_and_say_why(classes):
    model = DampenRegressor(**(TINY | {"space": None})).fit(classes[0][:40], classes[0][:40, 0])
    found = model.predict_uncertainty(classes[0][:3])
    assert model.noise_ is None
    assert (found.standard_deviation > 0).all()
    assert found.aleatoric is None
    assert all(isinstance(value, np.ndarray) for value in (found.mean, found.variance, found.epistemic))
    with pytest.raises(dampen.errors.InputError, match="the noise is not known"):
        found.interval()


def test_an_estimator_has_as_many_networks_as_it_is_asked_for_and_its_prediction_is_their_mean(classes):
    X, y = classes
    model = DampenClassifier(**TINY | {"n_ensemble": 3}).fit(X, y)
    assert len(model.networks_) == 3
    assert model.study_.recommended not in model.study_.results.trained  # no other network has trained on all rows
    inputs = model.preprocessing_.vectoriser.apply(torch.tensor(X.astype(np.float32)))
    each = [network(inputs).softmax(-1).detach().numpy() for network in model.networks_]
    np.testing.assert_allclose(model.predict_proba(X), np.mean(each, axis=0), rtol=1e-4, atol=1e-6)
    model.networks_ = model.study_.ensemble(1)  # what n_ensemble=1 keeps
    single = model.study_.model()(inputs).softmax(-1).detach().numpy()
    np.testing.assert_allclose(model.predict_proba(X), single, rtol=1e-4, atol=1e-6)


def test_a_regressor_of_one_network_has_the_noise_of_one_network():
    x, y = load_diabetes(return_X_y=True)
    model = DampenRegressor(**TINY | {"n_ensemble": 1}).fit(x[:120], y[:120])
    assert len(model.networks_) == 1
    _, deviation = model._scale
    squares = [
        (part.targets - network(part.features)[:, 0]).square()
        for network, part in model.study_.results.predictor.unseen
    ]
    error = float(torch.cat(squares).detach().double().mean())  # a single network's, with no spread to take off
    assert model.noise_ == pytest.approx(error * deviation**2, rel=1e-3)
    found = model.predict_uncertainty(x[120:160])
    np.testing.assert_allclose(found.variance, model.noise_, rtol=1e-6)


@pytest.mark.usefixtures("without_shape_checks")
def test_intervals_count_a_row_as_often_as_it_was_given():
    rng = np.random.default_rng(0)

    def rows(n):  # whole numbers, as ratings are: those near the mean are there many times, those far from it once
        x = rng.integers(0, 3, (n, 3)).astype(float)
        return x, np.round(x[:, 0] + rng.normal(size=n))

    (x, y), (fresh, targets) = rows(2000), rows(20_000)
    model = DampenRegressor(**ONE | {"epochs": 20, "loss": "gaussian_nll"}).fit(x, y)
    low, high = model.predict_interval(fresh, 0.5)
    assert np.mean((low <= targets) & (targets <= high)) == pytest.approx(0.5, abs=0.15)
    error = np.sqrt(np.mean((model.predict(fresh) - targets) ** 2))
    assert model.predict_uncertainty(fresh).standard_deviation.mean() == pytest.approx(error, rel=0.1)


def test_a_cocktail_is_searched_as_tune_searches_it(classes):
    X, y = classes
    model = DampenClassifier(**TINY | {"cocktail": True, "n_settings": 4}).fit(X, y)
    space = model.study_.plan.space.dimensions
    assert {"weight_decay", "l1", "ema", "mixup", "label_smoothing"} <= set(space)
    assert len(model.study_.plan.seeds) == TINY.get("n_seeds", 1)
    with pytest.raises(dampen.errors.InputError, match="cocktail must be True or False, got 'all'"):
        DampenClassifier(**TINY | {"cocktail": "all"}).fit(X, y)


@pytest.mark.parametrize(("n", "epochs"), [(1000, 80), (8000, 80), (20_000, 32), (100_000, 10)])
def test_many_rows_have_fewer_epochs(n, epochs):
    rng = np.random.default_rng(0)
    data = dampen.from_arrays(rng.normal(size=(n, 2)), rng.integers(0, 2, n), test_fraction=0.0)
    assert usual(data, None, None, None).epochs == epochs


def test_a_thousand_rows_get_waves_and_smoothed_labels_and_as_sharp_probabilities_as_their_rows_bear_out():
    X, y = make_classification(1100, 6, n_informative=4, n_classes=3, class_sep=2.0, flip_y=0.05, random_state=0)
    X[:, 5] = X[:, 5] > 0
    small = TINY | {"space": None, "batch_size": None, "epochs": 4, "n_settings": 2}
    model = DampenClassifier(**small).fit(X, y)
    plan = model.study_.plan
    assert plan.training.batch_size == 256
    assert {"label_smoothing", "weight_decay", "dropout", "lr"} == plan.space.dimensions.keys()
    assert plan.metric.name == "calibrated-nll"
    assert model.networks_[0][2].columns == (0, 1, 2, 3, 4)  # not the one with two values
    assert len(model.networks_) == min(8, model.study_.results.most_networks) > len(plan.confirm_seeds)
    chosen = model.study_.ensemble(len(model.networks_))
    inputs = model.preprocessing_.vectoriser.apply(torch.tensor(X.astype(np.float32)))
    with torch.no_grad():
        mean = torch.stack([network(inputs).softmax(-1) for network in chosen]).mean(0)
    np.testing.assert_allclose(model.predict_proba(X), mean, rtol=1e-3, atol=1e-5)
    again = pickle.loads(pickle.dumps(model))
    found = again.predict_uncertainty(X[:5], samples=4).mutual_information  # each network at rates of its own
    np.testing.assert_allclose(found, model.predict_uncertainty(X[:5], samples=4).mutual_information, rtol=1e-6)
    wide, labels = make_classification(1100, 40, random_state=0)
    assert DampenClassifier(**ONE | {"epochs": 1}).fit(wide, labels).networks_[0][2].in_features == 40


def test_weights_count_in_whatever_unit(classes):
    """Also where all of them are small, as inverse variances may be."""
    X, y = (part[:40] for part in classes)
    weights = np.random.default_rng(0).uniform(0.1, 3, 40)
    found = [DampenClassifier(**ONE).fit(X, y, sample_weight=unit * weights).predict_proba(X) for unit in (1, 1e-10)]
    np.testing.assert_allclose(*found, rtol=1e-6)
    assert np.abs(found[0] - DampenClassifier(**ONE).fit(X, y).predict_proba(X)).max() > 1e-3


@pytest.mark.parametrize("loss", [None, "gaussian_nll"])
def test_a_row_that_is_there_twice_leaves_every_metric(loss):
    X, y = load_diabetes(return_X_y=True)
    X, y = np.r_[X[:80], X[:1]], np.r_[y[:80], y[:1]]
    model = DampenRegressor(**ONE | {"epochs": 2}, loss=loss, metric=None if loss else "r2").fit(X, y)
    assert model.study_.data.weights is not None
    assert model.study_.verdict.metric.name == ("nll" if loss else "r2")


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(("kind", "missing"), [(DampenClassifier, None), (DampenRegressor, np.nan)])
def test_a_label_that_is_missing_is_refused(kind, missing, mixed):
    frame = pd.DataFrame({"size": np.arange(60.0) ** 2, **({"colour": ["red", "blue"] * 30} if mixed else {})})
    y = np.array(["yes", "no"] * 30 if kind is DampenClassifier else np.arange(60), dtype=object)
    y[7] = missing
    with pytest.raises(ValueError, match="contains NaN"):
        kind(**ONE).fit(frame, y)


def test_a_study_of_other_rows_does_not_stay(classes):
    X, y = classes
    model = DampenClassifier(**ONE | {"epochs": 2}).fit(X, y)
    assert model.study_.data.features.shape[0] == 120
    assert not hasattr(model.fit(X[:40], y[:40]), "study_")
