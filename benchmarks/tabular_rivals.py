"""What the estimators are compared with on tables: scikit-learn's, LightGBM, and the networks of others.

Each with its own defaults, but for the perceptron and the linear models, whose penalty a cross-validation chooses.
LightGBM and pytabkit (RealMLP: Holzmüller, Grinsztajn and Steinwart 2024; TabM: Gorishniy, Kotelnikov and Babenko
2025) are no dependencies: they are compared with where they are installed. Frames have numbers and categories; those
that need it get them scaled and one-hot.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from sklearn import ensemble, linear_model, neural_network
from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import dampen

OURS, ENSEMBLE, TUNED = "dampen", "dampen, ensemble of 8", "mlp with tuned alpha"
REALMLP, SIMPLE, TABM = "RealMLP-TD", "RealMLP-TD-S", "TabM-D"
NEEDS = {REALMLP: "pytabkit", SIMPLE: "pytabkit", TABM: "pytabkit", "LightGBM": "lightgbm"}
ALPHAS = np.logspace(-5, 1, 7)
_C = {"C": np.logspace(-4, 4, 9)}


def installed(which: str) -> bool:
    """Return whether a rival can be measured here."""
    return which not in NEEDS or find_spec(NEEDS[which]) is not None


def rivals(classes: bool) -> dict[str, Callable[[int], Any]]:
    """Return what makes each estimator from a seed, installed or not."""
    return _CLASSIFIERS if classes else _REGRESSORS


def _numbers(model: Any) -> Any:
    """Return a model on scaled numbers and one-hot categories."""
    categories = make_column_selector(dtype_include="category")
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return make_pipeline(make_column_transformer((one_hot, categories), remainder=StandardScaler()), model)


def _tuned(perceptron: Any) -> Any:
    return _numbers(GridSearchCV(perceptron, {"alpha": ALPHAS}))


def _lightgbm(name: str) -> Callable[[int], Any]:
    def make(seed: int) -> Any:
        import lightgbm

        return getattr(lightgbm, name)(random_state=seed, n_jobs=1, verbose=-1)

    return make


def _pytabkit(name: str) -> Callable[[int], Any]:
    def make(seed: int) -> Any:
        import pytabkit

        return getattr(pytabkit, name)(device="cpu", random_state=seed, n_threads=1)

    return make


_CLASSIFIERS: dict[str, Callable[[int], Any]] = {
    OURS: lambda seed: dampen.DampenClassifier(random_state=seed),
    ENSEMBLE: lambda seed: dampen.DampenClassifier(n_ensemble=8, random_state=seed),
    SIMPLE: _pytabkit("RealMLP_TD_S_Classifier"),
    REALMLP: _pytabkit("RealMLP_TD_Classifier"),
    TABM: _pytabkit("TabM_D_Classifier"),
    TUNED: lambda seed: _tuned(neural_network.MLPClassifier(max_iter=500, random_state=seed)),
    "LightGBM": _lightgbm("LGBMClassifier"),
    "histogram boosting": lambda seed: ensemble.HistGradientBoostingClassifier(random_state=seed),
    "forest": lambda seed: _numbers(ensemble.RandomForestClassifier(random_state=seed)),
    "linear": lambda _: _numbers(GridSearchCV(linear_model.LogisticRegression(max_iter=5000), _C)),
}
_REGRESSORS: dict[str, Callable[[int], Any]] = {
    OURS: lambda seed: dampen.DampenRegressor(random_state=seed),
    ENSEMBLE: lambda seed: dampen.DampenRegressor(n_ensemble=8, random_state=seed),
    SIMPLE: _pytabkit("RealMLP_TD_S_Regressor"),
    REALMLP: _pytabkit("RealMLP_TD_Regressor"),
    TABM: _pytabkit("TabM_D_Regressor"),
    TUNED: lambda seed: TransformedTargetRegressor(
        _tuned(neural_network.MLPRegressor(max_iter=500, random_state=seed)), transformer=StandardScaler()
    ),
    "LightGBM": _lightgbm("LGBMRegressor"),
    "histogram boosting": lambda seed: ensemble.HistGradientBoostingRegressor(random_state=seed),
    "forest": lambda seed: _numbers(ensemble.RandomForestRegressor(random_state=seed)),
    "linear": lambda _: _numbers(linear_model.RidgeCV(np.logspace(-3, 3, 13))),
}
