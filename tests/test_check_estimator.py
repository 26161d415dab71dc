"""scikit-learn's own checks of an estimator, all of them."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from dampen import DampenClassifier, DampenRegressor

TINY = {  # as little as passes what the checks ask of accuracy
    "hidden": (16,),
    "space": {"weight_decay": [0.0, 0.01], "lr": 0.03},
    "settings": 2,
    "epochs": 40,
    "confirm_seeds": 2,
    "batch_size": 512,
}


# Hundreds of fits, of which checking shapes would take the most; other tests fit with it on.
@pytest.mark.usefixtures("without_shape_checks")
@parametrize_with_checks([DampenClassifier(**TINY), DampenRegressor(**TINY)])
def test_scikit_learn_s_checks_pass(estimator, check):
    check(estimator)
