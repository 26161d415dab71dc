"""scikit-learn estimators: `fit` finds how much regularisation a network needs and trains it so."""

from dampen.estimators._estimators import DampenClassifier, DampenRegressor

__all__ = ["DampenClassifier", "DampenRegressor"]
