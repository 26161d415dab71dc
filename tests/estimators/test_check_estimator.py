"""scikit-learn's own checks of an estimator, all of them."""

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from dampen import DampenClassifier, DampenRegressor, InputError

TINY = {  # as little as passes what the checks ask of accuracy
    "hidden": (16,),
    "space": {"weight_decay": [0.01], "lr": 0.03},
    "n_settings": 1,
    "n_seeds": 1,
    "epochs": 40,
    "n_confirm_seeds": 2,
    "batch_size": 512,
}


# It holds out copies of the rows that train, in every fold, which `cv=` refuses where nothing is left to train on.
HOLDS_OUT_COPIES = "check_sample_weight_equivalence_on_dense_data"


def cases(estimator, quick):
    """Return every check of an estimator; those whose names `quick` does not admit are slow."""
    for one, check in estimator_checks_generator(estimator):
        name, options = check.func.__name__, check.keywords
        marks = [] if quick(name) else [pytest.mark.slow]
        if name == HOLDS_OUT_COPIES:
            marks.append(pytest.mark.xfail(raises=InputError, strict=True, reason="copies are held out"))
        yield pytest.param(one, check, marks=marks, id="-".join([name, *map(str, options.values())]))


def fits_little(name):
    """Tell whether a check of a classifier is none of those that fit it dozens of times."""
    return name not in ("check_classifiers_train", "check_class_weight_classifiers", "check_fit_idempotent")


# Hundreds of fits, of which checking shapes would take the most; other tests fit with it on.
@pytest.mark.parametrize(("estimator", "check"), list(cases(DampenClassifier(**TINY), fits_little)))
def test_scikit_learn_s_checks_of_a_classifier_pass(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("estimator", "check"), list(cases(DampenRegressor(**TINY), lambda *_: False)))
def test_scikit_learn_s_checks_of_a_regressor_pass(estimator, check):
    check(estimator)
