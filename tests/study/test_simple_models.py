"""Simple models beside the network: as scikit-learn fits them, on rows of every kind."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, Ridge, RidgeCV
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dampen.data import Rows
from dampen.metrics import find
from dampen.study import _simple_models
from dampen.study._simple_models import SIMPLE

NAMES = tuple(SIMPLE)


def drawn(n=120, classes=3, seed=0, weights=None, groups=None, shape=(4,)):
    """Rows of classes, or of numbers where there is one output."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, *shape)) * 3 + 1
    scores = x.reshape(n, -1)[:, :classes] + rng.gumbel(size=(n, classes)) * 2
    y = scores[:, 0] if classes == 1 else scores.argmax(1)
    y = (y - y.mean()) / y.std() if classes == 1 else y
    return Rows(
        torch.tensor(x, dtype=torch.float32),
        torch.tensor(y, dtype=torch.float32 if classes == 1 else torch.int64),
        None if weights is None else torch.tensor(weights / np.mean(weights), dtype=torch.float64),
        None if groups is None else torch.tensor(groups),
    )


def with_targets(rows, targets):
    return Rows(rows.features[: len(targets)], torch.tensor(targets))


def arrays(rows):
    return rows.features.double().numpy().reshape(len(rows), -1), rows.targets.numpy()


def task_of(outputs):
    return "regression" if outputs == 1 else "classification"


def fitted(name, rows, outputs, seed=0):
    return SIMPLE[name](rows, task_of(outputs), outputs, seed)


def answers(name, rows, outputs, at=None, seed=0):
    return fitted(name, rows, outputs, seed)(at or rows)


def test_the_constant_classes_are_their_shares():
    rows = drawn()
    shares = np.bincount(rows.targets, minlength=3) / len(rows)
    found = answers("constant", rows, 3, at=drawn(n=7, seed=1))
    np.testing.assert_allclose(found.exp(), np.tile(shares, (7, 1)), rtol=1e-6)
    entropy = -(shares * np.log(shares)).sum()
    assert float(find("nll", "classification").costs(answers("constant", rows, 3), rows).mean()) == pytest.approx(
        entropy
    )


def test_a_class_without_rows_has_laplace_s_share():
    rows = with_targets(drawn(), [0, 0, 2, 2, 2])
    np.testing.assert_allclose(answers("constant", rows, 4)[0].exp(), np.array([3, 1, 4, 1]) / 9, rtol=1e-6)


def test_the_constant_number_is_the_weighted_mean():
    weights = np.arange(120) % 3
    rows = drawn(classes=1, weights=weights)
    found = answers("constant", rows, 1)
    assert found.shape == (120, 1)
    np.testing.assert_allclose(found, np.average(rows.targets, weights=weights), rtol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_linear_classes_are_those_of_a_logistic_regression_chosen_by_cross_validation(classes):
    rows, other = drawn(classes=classes), drawn(n=30, classes=classes, seed=1)
    x, y = arrays(rows)
    costs = []
    for penalty in _simple_models.PENALTIES:
        cost = 0.0
        for train, held in StratifiedKFold(5, shuffle=True, random_state=3).split(x, y):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=1000))
            found = model.fit(x[train], y[train]).predict_proba(x[held])
            cost += log_loss(y[held], found, labels=range(classes), normalize=False)
        costs.append(cost)
    best = _simple_models.PENALTIES[int(np.argmin(costs))]
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=best, max_iter=1000)).fit(x, y)
    found = answers("linear", rows, classes, at=other, seed=3)
    np.testing.assert_allclose(found.exp(), theirs.predict_proba(arrays(other)[0]), rtol=1e-5, atol=1e-7)
    assert f"C = {best:g} (the best of 6 on 5 folds)" in fitted("linear", rows, classes, seed=3).about


def test_many_rows_have_scikit_learn_s_own_penalty(monkeypatch):
    monkeypatch.setattr(_simple_models, "MOST_ROWS", 100)
    rows = drawn()
    x, y = arrays(rows)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, y)
    np.testing.assert_allclose(answers("linear", rows, 3).exp(), theirs.predict_proba(x), rtol=1e-5, atol=1e-7)
    assert fitted("linear", rows, 3).about == "logistic regression, C = 1 (not searched)"


def test_linear_numbers_are_those_of_ridge_regression():
    rows = drawn(classes=1, shape=(2, 3, 2))
    x, y = arrays(rows)
    theirs = make_pipeline(StandardScaler(), RidgeCV(_simple_models.RIDGES)).fit(x, y)
    np.testing.assert_allclose(answers("linear", rows, 1)[:, 0], theirs.predict(x), rtol=1e-4, atol=1e-6)


def staged(x, y, folds, most=100, step=0.1, weights=None):
    """Return the number of rounds with the least mean cost on rows left out, from predictions after each round."""
    classes = y.dtype.kind in "iu"
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    weights, total = np.ones(len(y)) if weights is None else weights, np.zeros(most + 1)
    for train, held in folds:
        model = kind(max_iter=most, learning_rate=step, early_stopping=False, random_state=0)
        model.fit(x[train], y[train], weights[train])
        if classes:
            shares = np.bincount(y[train], weights[train])
            each = [np.tile(shares / shares.sum(), (len(held), 1)), *model.staged_predict_proba(x[held])]
            costs = [log_loss(y[held], p, sample_weight=weights[held], labels=range(len(shares))) for p in each]
        else:
            mean = np.full(len(held), np.average(y[train], weights=weights[train]))
            costs = [
                np.average((p - y[held]) ** 2, weights=weights[held]) for p in (mean, *model.staged_predict(x[held]))
            ]
        worse = [n for n in range(11, most + 1) if min(costs[n - 9 : n + 1]) >= costs[n - 10]]
        costs[min(worse, default=most) :] = [costs[min(worse, default=most)]] * (most + 1 - min(worse, default=most))
        total += np.array(costs) * weights[held].sum()
    return max(1, int(total.argmin()))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_boosting_is_scikit_learn_s_own_with_rounds_chosen_by_cross_validation(classes, weighted):
    weights = np.random.default_rng(1).random(200) + 0.1 if weighted else None
    rows = drawn(n=200, classes=classes, weights=weights)
    weights = rows.weights.numpy() if weighted else None
    x, y = arrays(rows)
    splitter = (KFold if classes == 1 else StratifiedKFold)(5, shuffle=True, random_state=0)
    folds = list(splitter.split(x, y))
    n = staged(x, y.astype(float) if classes == 1 else y, folds, weights=weights)
    kind = HistGradientBoostingRegressor if classes == 1 else HistGradientBoostingClassifier
    theirs = kind(max_iter=n, random_state=0).fit(x, y, weights)
    found = answers("boosting", rows, classes)
    expected, found = (theirs.predict(x), found[:, 0]) if classes == 1 else (theirs.predict_proba(x), found.exp())
    assert 1 <= n < 100
    words = f"{n} rounds" if n > 1 else "1 round"
    assert (
        fitted("boosting", rows, classes).about == f"gradient boosting, {words} (the best of 100 on {len(folds)} folds)"
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_boosting_on_more_values_than_bins_is_scikit_learn_s_own(weighted):
    rows, other = drawn(n=600), drawn(n=2000, seed=1)
    if weighted:  # all alike: scikit-learn cuts the same bins, one by one
        rows = Rows(rows.features, rows.targets, torch.ones(600).double())
    x, y = arrays(rows)
    rounds = int(fitted("boosting", rows, 3).chosen)
    theirs = HistGradientBoostingClassifier(max_iter=rounds, random_state=0).fit(x, y).predict_proba(arrays(other)[0])
    np.testing.assert_allclose(answers("boosting", rows, 3, at=other).exp(), theirs, rtol=1e-4, atol=1e-6)


def test_boosting_stops_where_targets_are_noise():
    rows, other = drawn(n=400), drawn(n=2000, seed=1)
    x, y = arrays(rows)
    all_rounds = HistGradientBoostingClassifier(random_state=0).fit(x, y).predict_proba(arrays(other)[0])
    ours = float(find("nll", "classification").costs(answers("boosting", rows, 3, at=other), other).mean())
    assert ours < 0.9 * log_loss(arrays(other)[1], all_rounds)


def test_folds_too_small_for_a_tree_choose_no_rounds():
    rows = drawn(n=48, classes=2)  # 38 rows to fit: scikit-learn's leaves have 20
    rows = Rows(rows.features, (rows.features[:, 0] > 1).long())
    x, y = arrays(rows)
    theirs = HistGradientBoostingClassifier(random_state=0).fit(x, y)
    np.testing.assert_allclose(answers("boosting", rows, 2).exp(), theirs.predict_proba(x), rtol=1e-4, atol=1e-7)
    assert fitted("boosting", rows, 2).about == "gradient boosting, 100 rounds (not searched)"


@pytest.mark.parametrize("name", ["linear", "boosting"])
def test_folds_of_one_class_choose_nothing(name):
    rows = drawn(n=80, classes=2)
    y = (torch.arange(80) >= 40).long()  # each class is a group
    found = fitted(name, Rows(rows.features, y, groups=y), 2)
    assert found.chosen is None
    assert "(not searched)" in found.about
    assert "C = 1 " in found.about or "100 rounds" in found.about


def test_boosting_says_that_its_rounds_are_capped(monkeypatch):
    monkeypatch.setattr(_simple_models, "BOOSTING_VALUES", 0)
    rows = drawn()
    x, y = arrays(rows)
    n = staged(x, y, StratifiedKFold(5, shuffle=True, random_state=0).split(x, y), most=10, step=0.3)
    theirs = HistGradientBoostingClassifier(max_iter=n, learning_rate=0.3, random_state=0).fit(x, y)
    np.testing.assert_allclose(answers("boosting", rows, 3).exp(), theirs.predict_proba(x), rtol=1e-4, atol=1e-7)
    assert fitted("boosting", rows, 3).about == (
        f"gradient boosting, {n} rounds (the best of 10 on 5 folds), 10 at most for time"
    )


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", ["linear", "boosting"])
def test_what_was_chosen_on_other_rows_is_not_searched_again(name, outputs):
    first, rows = fitted(name, drawn(n=200, classes=outputs), outputs), drawn(classes=outputs, seed=2)
    again = SIMPLE[name](rows, task_of(outputs), outputs, 0, first.chosen)
    assert again.chosen == first.chosen
    assert "(chosen before)" in again.about
    penalty = "penalty" if outputs == 1 else "C ="
    word = f"{penalty} {first.chosen:g}" if name == "linear" else f"{first.chosen:g} round"
    assert word in again.about
    assert word in first.about


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", ["constant", "linear"])
def test_a_row_of_weight_two_counts_as_two_rows(name, outputs, monkeypatch):
    monkeypatch.setattr(_simple_models, "MOST_ROWS", 1)  # folds of repeated rows would differ
    monkeypatch.setattr(_simple_models, "RIDGES", [1.0])
    counts = np.random.default_rng(0).integers(0, 3, 120)
    rows = drawn(classes=outputs, weights=counts)
    # weights have mean 1: the same penalty for as many rows as there are
    repeats = torch.arange(120).repeat_interleave(torch.tensor(counts))
    repeated = Rows(
        rows.features[repeats], rows.targets[repeats], torch.full((len(repeats),), 120 / len(repeats)).double()
    )
    torch.testing.assert_close(
        answers(name, rows, outputs), answers(name, repeated, outputs, at=rows), rtol=2e-3, atol=2e-4
    )


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_rows_without_weight_leave_no_trace(name, outputs):
    counting = np.arange(120) < 80
    rows = drawn(classes=outputs, weights=counting)
    rows.targets[80:] = 1  # nonsense in the rest
    alone = Rows(rows.features[:80], rows.targets[:80], torch.full((80,), 1.5).double())
    torch.testing.assert_close(answers(name, rows, outputs), answers(name, alone, outputs, at=rows))


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_those_that_scikit_learn_takes(name):
    weights = np.random.default_rng(1).random(120) + 0.1
    weights /= weights.mean()
    rows = drawn(weights=weights)
    x, y = arrays(rows)
    found = answers(name, rows, 3)
    if name == "constant":
        expected = np.tile(np.bincount(y, weights) / weights.sum(), (120, 1))
    elif name == "boosting":
        n = int(fitted(name, rows, 3).chosen)
        expected = HistGradientBoostingClassifier(max_iter=n, random_state=0).fit(x, y, weights).predict_proba(x)
    else:
        penalty = float(fitted(name, rows, 3).about.split()[4])
        scaler = StandardScaler().fit(x, sample_weight=weights)
        model = LogisticRegression(C=penalty, max_iter=1000).fit(scaler.transform(x), y, weights)
        expected = model.predict_proba(scaler.transform(x))
    np.testing.assert_allclose(found.exp(), expected, rtol=1e-4, atol=1e-6)


HARD = {
    "one class of three": [1] * 30,
    "a class without rows": [0, 2] * 20,
    "a class with a single row": [0] * 20 + [1] * 20 + [2],
    "a row each": [0, 1, 2],
    "one row": [2],
    "one row beside many": [0] + [2] * 40,
}


@pytest.mark.parametrize("targets", HARD.values(), ids=HARD)
@pytest.mark.parametrize("name", NAMES)
def test_rows_that_scikit_learn_cannot_fit_have_finite_answers(name, targets):
    rows, other = with_targets(drawn(), targets), drawn(seed=1)
    found = answers(name, rows, 3, at=other)
    assert (found.dtype, found.shape) == (torch.float32, (120, 3))
    torch.testing.assert_close(found.logsumexp(-1), torch.zeros(120), atol=1e-5, rtol=0)
    assert find("nll", "classification").costs(found, other).isfinite().all()


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("name", NAMES)
def test_a_few_numbers_have_finite_answers(name, n):
    rows = with_targets(drawn(), np.arange(n, dtype=np.float32))
    found = answers(name, rows, 1, at=drawn(classes=1))
    assert (found.dtype, found.shape) == (torch.float32, (120, 1))
    assert found.isfinite().all()


def test_a_class_that_never_came_up_has_the_least_probability():
    found = answers("linear", with_targets(drawn(), [0, 2] * 20), 3)
    np.testing.assert_allclose(found[:, 1], np.log(_simple_models.FLOOR), rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_separable_classes_have_finite_costs_and_no_warning(name):
    rows = drawn()
    rows = Rows(rows.features * 1e4, (rows.features[:, 0] > 1).long())
    costs = find("nll", "classification").costs(answers(name, rows, 2), rows)
    assert costs.isfinite().all()
    assert name == "constant" or costs.mean() < 0.05


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("outputs", [1, 2])
def test_inputs_that_never_change_do_no_harm(name, outputs):
    rows = drawn(classes=outputs)
    rows.features[:, 2] = 0.1
    assert answers(name, rows, outputs).isfinite().all()


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_linear_penalty_is_chosen_with_groups_kept_together(outputs):
    # 12 groups, each with its own point and its own noise: rows of a group left out alone would reward overfitting
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 20)
    centres, noise = rng.normal(size=(12, 30)), rng.normal(size=12)
    x = torch.tensor(centres[groups] + 0.01 * rng.normal(size=(240, 30)), dtype=torch.float32)
    y = torch.tensor(noise[groups], dtype=torch.float32)
    y = y if outputs == 1 else (y > y.median()).long()
    alone, together = Rows(x, y), Rows(x, y, groups=torch.tensor(groups))

    def deviation(rows):
        found = answers("linear", rows, outputs)
        return float((found[:, -1] - found[:, 0]).std() if outputs == 2 else found.std())

    assert deviation(together) < 0.7 * deviation(alone)
    assert answers("linear", Rows(x, y, groups=torch.zeros(240, dtype=torch.int64)), outputs).isfinite().all()


def test_a_group_s_weights_count_as_copies_where_the_ridge_penalty_is_chosen():
    rng = np.random.default_rng(1)
    groups, often = np.repeat(np.arange(10), 6), rng.integers(1, 6, 60)
    x = torch.tensor(rng.normal(size=(60, 20)), dtype=torch.float32)
    y = torch.tensor(rng.normal(size=60) + x[:, 0].numpy(), dtype=torch.float32)
    copies = np.repeat(np.arange(60), often)
    weighted = Rows(x, y, torch.tensor(often / often.mean()), torch.tensor(groups))
    folds = list(GroupKFold(5).split(x, y, groups))
    costs = []
    for penalty in _simple_models.RIDGES:
        cost = 0.0
        for train, held in folds:
            inside, outside = copies[np.isin(copies, train)], copies[np.isin(copies, held)]
            model = make_pipeline(StandardScaler(), Ridge(penalty * often.mean())).fit(x[inside].numpy(), y[inside])
            cost += ((model.predict(x[outside].numpy()) - y[outside].numpy()) ** 2).sum()
        costs.append(cost)
    best = _simple_models.RIDGES[int(np.argmin(costs))]
    assert fitted("linear", weighted, 1).about == f"ridge regression, penalty {best:g} (the best of 9 on 5 folds)"


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("name", ["linear", "boosting"])
def test_of_rows_with_times_the_later_ones_choose(name, outputs):
    # what is learnt from the first four fifths is worth nothing later, which shuffled folds don't see
    rng = np.random.default_rng(0)
    times = rng.permutation(400) // 4
    x = torch.tensor(rng.normal(size=(400, 3)), dtype=torch.float32)
    signal = np.where(times < 80, x[:, 0].numpy() * 2, rng.normal(size=400) * 2) + rng.normal(size=400) * 0.3
    y = torch.tensor(signal / signal.std(), dtype=torch.float32) if outputs == 1 else torch.tensor(signal > 0).long()
    shuffled, ordered = Rows(x, y), Rows(x, y, times=torch.tensor(times))

    def spread(rows):
        found = answers(name, rows, outputs)
        return float((found[:, -1] - found[:, 0]).std() if outputs == 2 else found.std())

    assert spread(ordered) < 0.5 * spread(shuffled)
    of_groups = Rows(x, y, groups=torch.tensor(times // 10), times=torch.tensor(times))
    assert answers(name, of_groups, outputs).isfinite().all()
    grouped = {"groups": torch.tensor(times % 4)}  # no time parts them: their folds choose, as without times
    assert fitted(name, Rows(x, y, **grouped, times=torch.tensor(times)), outputs).about == (
        fitted(name, Rows(x, y, **grouped), outputs).about
    )
    everywhere = Rows(x, y, groups=torch.zeros(400).long(), times=torch.tensor(times))
    assert answers(name, everywhere, outputs).isfinite().all()


def test_boosting_on_rows_with_times_is_scikit_learn_s_own_with_rounds_chosen_on_the_last_fifth():
    drawn_rows = drawn(n=250)
    times = np.random.default_rng(2).permutation(250)
    rows = Rows(drawn_rows.features, drawn_rows.targets, times=torch.tensor(times))
    x, y = arrays(rows)
    order = np.argsort(times)
    n = staged(x, y, [(order[:200], order[200:])])
    assert 1 <= n < 100
    words = f"{n} rounds" if n > 1 else "1 round"
    assert fitted("boosting", rows, 3).about == f"gradient boosting, {words} (the best of 100 on 1 fold)"


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_answers(name):
    rows = drawn()
    torch.testing.assert_close(answers(name, rows, 3, seed=5), answers(name, rows, 3, seed=5), rtol=0, atol=0)


def test_linear_finds_about_what_logistic_regression_cv_finds():
    rows, other = drawn(n=300), drawn(n=2000, seed=1)
    x, y = arrays(rows)
    scaler = StandardScaler().fit(x)
    # What its newer versions warn of is chosen: the least cost, the new attributes.
    theirs = LogisticRegressionCV(Cs=list(_simple_models.PENALTIES), scoring="neg_log_loss", max_iter=1000)
    if "use_legacy_attributes" in theirs.get_params():
        theirs.set_params(use_legacy_attributes=False, l1_ratios=(0.0,))
    theirs.fit(scaler.transform(x), y)
    cost = log_loss(arrays(other)[1], theirs.predict_proba(scaler.transform(arrays(other)[0])))
    ours = find("nll", "classification").costs(answers("linear", rows, 3, at=other), other).mean()
    assert float(ours) == pytest.approx(cost, rel=0.02)


@pytest.mark.parametrize("rare", [1, 2])
def test_boosting_s_rows_left_out_have_a_rare_class(rare, monkeypatch):
    monkeypatch.setattr(_simple_models, "BOOSTING_VALUES", 0)  # ten rounds
    rows = drawn(n=10_050, classes=2, shape=(2,))
    rows.targets[:rare] = 2
    assert answers("boosting", rows, 3, at=drawn(n=20, classes=2, shape=(2,))).isfinite().all()


def test_a_capped_search_is_told(monkeypatch):
    rows = drawn()
    monkeypatch.setattr(_simple_models, "MOST_VALUES", 2 * 120 * 4 * 3)
    monkeypatch.setattr(_simple_models, "SOLVER_VALUES", 0)
    assert fitted("linear", rows, 3).about.endswith("(the best of 6 on 2 folds), 50 iterations at most for time")
