"""scikit-learn's own checks of an estimator, all of them."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from dampen import DampenClassifier, DampenRegressor

TINY = {  # as little as passes what the checks ask of accuracy
    "hidden": (16,),
    "space": {"weight_decay": [0.01], "lr": 0.03},
    "settings": 1,
    "seeds": 1,
    "epochs": 40,
    "confirm_seeds": 2,
    "batch_size": 512,
}


# Hundreds of fits, of which checking shapes would take the most; other tests fit with it on.
@pytest.mark.usefixtures("without_shape_checks")
@parametrize_with_checks([DampenClassifier(**TINY)])
def test_scikit_learn_s_checks_of_a_classifier_pass(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.usefixtures("without_shape_checks")
@parametrize_with_checks([DampenRegressor(**TINY)])
def test_scikit_learn_s_checks_of_a_regressor_pass(estimator, check):
    check(estimator)
