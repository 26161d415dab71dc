"""DampenClassifier and DampenRegressor with their defaults against scikit-learn's estimators, on tables.

The sets that come with scikit-learn and synthetic ones of 10,000 and 100,000 rows, over repeated splits into three
quarters for training and one for testing. Rivals: a multilayer perceptron whose alpha a grid search chooses, histogram
gradient boosting, logistic or ridge regression with their own cross-validation, a random forest; rows are scaled for
those that need it, and the perceptron's targets. Scores are accuracy and R^2; seconds are those of `fit` and `predict`,
all in one run.

Run as `python -m benchmarks.tables --json`; `--only real` leaves out the synthetic sets, which take hours. `--defaults`
measures instead what each default for tables is worth: the study as it is against one with a default taken away or put
in, on the same splits.
"""

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn import datasets, ensemble, linear_model, neural_network
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import dampen
from benchmarks import rows
from benchmarks.rows import Row
from dampen.study import usual_space

OURS, TUNED = "dampen", "mlp with tuned alpha"
ALPHAS = np.logspace(-5, 1, 7)
REAL: dict[str, Callable[..., Any]] = {
    "breast cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "diabetes": datasets.load_diabetes,
    "digits": datasets.load_digits,
    "iris": datasets.load_iris,
}
SIZES = (10_000, 100_000)
FEW = 2000  # rows of the synthetic sets on which defaults are compared


def classifiers(seed: int) -> dict[str, Any]:
    """Return what is compared on classes."""
    perceptron = neural_network.MLPClassifier(max_iter=500, random_state=seed)
    return {
        OURS: dampen.DampenClassifier(random_state=seed),
        TUNED: _tuned(perceptron),
        "histogram boosting": ensemble.HistGradientBoostingClassifier(random_state=seed),
        "linear": make_pipeline(StandardScaler(), GridSearchCV(linear_model.LogisticRegression(max_iter=5000), _C)),
        "forest": ensemble.RandomForestClassifier(random_state=seed),
    }


def regressors(seed: int) -> dict[str, Any]:
    """Return what is compared on numbers."""
    perceptron = neural_network.MLPRegressor(max_iter=500, random_state=seed)
    return {
        OURS: dampen.DampenRegressor(random_state=seed),
        TUNED: TransformedTargetRegressor(_tuned(perceptron), transformer=StandardScaler()),
        "histogram boosting": ensemble.HistGradientBoostingRegressor(random_state=seed),
        "linear": make_pipeline(StandardScaler(), linear_model.RidgeCV(np.logspace(-3, 3, 13))),
        "forest": ensemble.RandomForestRegressor(random_state=seed),
    }


def _tuned(perceptron: Any) -> Any:
    return make_pipeline(StandardScaler(), GridSearchCV(perceptron, {"alpha": ALPHAS}))


_C = {"C": np.logspace(-4, 4, 9)}


def measure(name: str, x: np.ndarray, y: np.ndarray, splits: int) -> tuple[list[Row], bool]:
    """Return the rows of a data set, and whether ours is best or within one standard error of the best."""
    classes = y.dtype.kind in "iu"
    scores: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for seed in range(splits):
        parts = train_test_split(x, y, test_size=0.25, random_state=seed, stratify=y if classes else None)
        for which, model in (classifiers if classes else regressors)(seed).items():
            started = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                scores.setdefault(which, []).append(model.fit(parts[0], parts[2]).score(parts[1], parts[3]))
            seconds.setdefault(which, []).append(time.perf_counter() - started)
    best = max(scores, key=lambda which: statistics.mean(scores[which]))
    behind = np.subtract(scores[best], scores[OURS])
    error = float(behind.std(ddof=1)) / splits**0.5 if splits > 1 else 0.0
    found = [Row(f"{name}: {which}, score", statistics.mean(values), "") for which, values in scores.items()]
    found += [Row(f"{name}: {which}, seconds", statistics.median(values), "s") for which, values in seconds.items()]
    found.append(Row(f"{name}: behind the best ({best})", float(behind.mean()), ""))
    found.append(Row(f"{name}: standard error of that", error, ""))
    speed = statistics.median(seconds[TUNED]) / statistics.median(seconds[OURS])
    found.append(Row(f"{name}: times as fast as the {TUNED}", speed, bar=1))
    return found, bool(behind.mean() <= error)


def synthetic(n: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return a set of classes and one of numbers with so many rows."""
    classes = datasets.make_classification(n, 20, n_informative=10, n_classes=3, flip_y=0.05, random_state=0)
    numbers = datasets.make_friedman1(n, 20, noise=2.0, random_state=0)
    return {f"classes, {n} rows": classes, f"numbers, {n} rows": numbers}


class Periodic(nn.Module):
    """Each number beside three combinations of 16 waves of it, with learned frequencies.

    Gorishniy, Rubachev and Babenko (2022), "On embeddings for numerical features", section 3.3; as PBLD in Holzmüller,
    Grinsztajn and Steinwart (2024).
    """

    def __init__(self, inputs: int, waves: int = 16, width: int = 4):
        super().__init__()
        self.frequencies = nn.Parameter(0.1 * torch.randn(inputs, waves))
        self.phases = nn.Parameter(torch.pi * (2 * torch.rand(inputs, waves) - 1))
        self.weight = nn.Parameter((2 * torch.rand(inputs, waves, width - 1) - 1) / waves**0.5)
        self.bias = nn.Parameter((2 * torch.rand(inputs, width - 1) - 1) / waves**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Embed rows `[B, D]` as `[B, 4 D]`."""
        waves = torch.cos(2 * torch.pi * x.unsqueeze(-1) * self.frequencies + self.phases)
        embedded = torch.einsum("bnk,nkd->bnd", waves, self.weight) + self.bias
        return torch.cat([x.unsqueeze(-1), embedded], -1).flatten(1)


def variants(hidden: tuple[int, ...]) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Return a network and options for `tune` for each default that is taken away or put in; none for the first."""

    def embedded(inputs: int, outputs: int) -> nn.Module:
        _, scaling, *layers = dampen.tabular(*hidden)(inputs, outputs)
        layers[0] = nn.Linear(4 * inputs, hidden[0])
        return nn.Sequential(nn.Flatten(), scaling, Periodic(inputs), *layers)

    shipped = dampen.tabular(*hidden)
    return {
        "as it is": (shipped, {}),
        "no scaling layer": (dampen.mlp(*hidden, activation="silu"), {}),
        "ReLU": (dampen.mlp(*hidden, scaling=True), {}),
        "SELU": (dampen.mlp(*hidden, activation="selu", scaling=True), {}),
        "constant learning rate": (shipped, {"schedule": "constant"}),
        "learning rates up to 0.003": (shipped, {"lr": dampen.LogUniform(3e-4, 3e-3)}),
        "weight decay up to 1": (shipped, {"weight_decay": dampen.LogUniform(1e-5, 1.0, zero=0.1)}),
        "label smoothing 0.1": (shipped, {"label_smoothing": dampen.Fixed(0.1)}),
        "periodic embeddings": (embedded, {}),
    }


def defaults(name: str, x: np.ndarray, y: np.ndarray, splits: int) -> list[Row]:
    """Return, for each variant, how much better than the shipped defaults it is, and what it costs."""
    classes = y.dtype.kind in "iu"
    scores: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for seed in range(splits):
        data = dampen.load(x, target=y, task="classification" if classes else "regression", seed=seed)
        few = len(data.train_rows) < 1000
        space = usual_space(data, dropping=1)
        for which, (network, options) in variants((64, 32) if few else (256, 128)).items():
            if which == "label smoothing 0.1" and not classes:
                continue
            schedule = options.get("schedule")
            searched = space | {name: value for name, value in options.items() if name != "schedule"}
            size = {"n_settings": 16 if few else 32, "n_seeds": 2, "n_confirm_seeds": 5}
            started = time.perf_counter()
            study = dampen.tune(network, data, searched, schedule=schedule, seed=seed, **size)
            scores.setdefault(which, []).append(study.test["ensemble"]["accuracy" if classes else "r2"]["mean"])
            seconds.setdefault(which, []).append(time.perf_counter() - started)
    found = [Row(f"{name}: as it is, score", statistics.mean(scores["as it is"]), "")]
    for which in list(scores)[1:]:
        better = np.subtract(scores[which], scores["as it is"])
        found.append(Row(f"{name}: {which}, better by", float(better.mean()), ""))
        found.append(Row(f"{name}: {which}, standard error", float(better.std(ddof=1)) / splits**0.5, ""))
        ratio = statistics.median(seconds[which]) / statistics.median(seconds["as it is"])
        found.append(Row(f"{name}: {which}, times the seconds", ratio))
    return found


def main() -> None:
    """Measure and print."""
    parser = rows.parser(__doc__)
    parser.add_argument("--splits", type=int, default=10, help="splits into training and test rows")
    made = {f"{kind}, {size} rows": size for size in SIZES for kind in ("classes", "numbers")}
    few = synthetic(FEW)
    parser.add_argument("--only", choices=("real", "synthetic", *REAL, *made, *few), help="a part of it")
    parser.add_argument("--defaults", action="store_true", help="what each default for tables is worth")
    options = parser.parse_args()
    if options.defaults:
        sets = {name: read(return_X_y=True) for name, read in REAL.items()} | few
        wanted = {name: sets[name] for name in sets if options.only in (None, name)}
        found = [row for name, (x, y) in wanted.items() for row in defaults(name, x, y, max(options.splits, 2))]
        rows.show(found, {"splits": options.splits}, options.json)
        return
    if options.only in few:
        parser.error(f"{options.only} is for --defaults")
    parts = {None: (*REAL, *made), "real": tuple(REAL), "synthetic": tuple(made)}
    wanted = parts.get(options.only, (options.only,))
    found: list[Row] = []
    good = 0
    for name in wanted:
        x, y = REAL[name](return_X_y=True) if name in REAL else synthetic(made[name])[name]
        part, is_good = measure(name, x, y, options.splits)
        found += part
        good += is_good and name in REAL
    if set(REAL) <= set(wanted):
        found.append(Row("real sets where dampen is best or within one standard error of it", good, "of 5", bar=4))
    rows.show(found, {"splits": options.splits}, options.json)


if __name__ == "__main__":
    main()
