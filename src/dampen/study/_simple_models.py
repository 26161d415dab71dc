"""Simple models beside the network: what it must beat to be worth its training.

Each is trained by scikit-learn on the rows that the network trains on, and gives outputs that a metric's costs take.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dampen._io import counted
from dampen.data import Rows, cuts

FLOOR = 1e-12  # the smallest probability: a cost of 27.6 nats, not infinity, for a class that never came up
PENALTIES = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)  # logistic regression's C, the strongest first
PLAIN = 1.0  # scikit-learn's own C, where a search would take minutes or has no two rows of a class
RIDGES = tuple(10.0**k for k in range(-3, 6))  # ridge regression's penalty
FOLDS = 5
MOST_ROWS = 20_000  # beyond these a logistic regression's penalty hardly matters
MOST_VALUES = 100_000_000  # rows x inputs x classes, times folds, beyond which its search takes minutes
# Iterations are capped so that a fit takes half a minute of one thread at most, as measured. The solver's cost is that
# of going through rows x inputs x classes. A tree's is the inputs' times that of the rows, and of filling and reading
# the histograms of its 31 leaves, which is that of 16,000 rows more. Choosing the number of rounds takes as long again.
SOLVER_VALUES, SOLVER_MOST, SOLVER_LEAST = 20_000_000_000, 1000, 50
BOOSTING_VALUES, BOOSTING_MOST, BOOSTING_LEAST = 2_500_000_000, 100, 10  # scikit-learn's own number is 100
CHOOSING_VALUES = 250_000_000  # that boosting on several folds may take, to choose its rounds
HISTOGRAMS = 16_000
BINS = 255  # of an input's values, scikit-learn's own number: more of weighted rows takes it longer than the trees
TREES, ENOUGH_ROUNDS = 500, 34  # of many classes: these do as well as twice as many with half the step
LARGEST_STEP = 0.3  # of boosting, where few rounds must do what scikit-learn's 100 of step 0.1 would
MOST_THREADS = 8
THREADED_VALUES = 1_000_000  # rows x inputs below which threads cost more than they bring

Numbers = Float[np.ndarray, "N D"]
Weights = Float[np.ndarray, " N"] | None
Folds = list[tuple[np.ndarray, np.ndarray]]  # row numbers: those to fit, those left out


@dataclass(frozen=True)
class Simple:
    """A simple model that is trained; called with rows, it returns its outputs.

    Args:
        about: what was fitted, in words, with whatever was capped.
        predict: takes inputs `[N, D]`, returns log-probabilities `[N, C]`, or numbers `[N, 1]`.
        chosen: the penalty, or the number of rounds, that was chosen in a search; None if nothing was.
    """

    about: str
    predict: Callable[[Numbers], Float[np.ndarray, "N C"]]
    chosen: float | None = None

    def __call__(self, rows: Rows) -> Float[Tensor, "N C"]:
        """Return float32 outputs: normalised log-probabilities, or numbers in the unit of the training targets."""
        inputs = _inputs(rows)
        with _quiet(inputs.size):
            outputs = self.predict(inputs)
        return torch.from_numpy(outputs).to(rows.features.device, torch.float32)


class Fit(Protocol):
    """Fits a simple model; see `constant`."""

    def __call__(self, rows: Rows, task: str, outputs: int, seed: int, chosen: float | None = None) -> Simple:
        """Return the model."""
        ...


def constant(rows: Rows, task: str, outputs: int, seed: int, chosen: float | None = None) -> Simple:
    """Fit the constant baseline, which ignores the inputs: class frequencies, or the mean.

    Rows count by their weights. If a class has no row, all shares are Laplace's, `(count + 1) / (n + C)`, so that none
    is 0.

    Args:
        rows: training rows; a regression's targets have mean 0 and deviation 1, like the network's.
        task: `classification` or `regression`.
        outputs: number of classes, or 1.
        seed: of what is random; here nothing is.
        chosen: of another fit, what it chose: nothing is searched then. Here nothing is chosen.

    Example:
        >>> rows = Rows(torch.zeros(4, 2), torch.tensor([0, 0, 0, 1]))
        >>> constant(rows, "classification", 2, 0)(rows).exp()[0]
        tensor([0.7500, 0.2500])
    """
    _, y, weights = _arrays(rows)
    if task != "classification":
        mean = float(np.average(y, weights=weights))
        return Simple("the training rows' mean", lambda x: np.full((len(x), 1), mean))
    counts = np.bincount(y, weights, minlength=outputs)
    if not counts.all():
        counts = counts + 1
    logs = np.log(counts / counts.sum())
    return Simple("the classes' shares among the training rows", lambda x: np.tile(logs, (len(x), 1)))


def linear(rows: Rows, task: str, outputs: int, seed: int, chosen: float | None = None) -> Simple:
    """Fit logistic regression or ridge regression on standardised, flattened inputs; arguments as in `constant`.

    The penalty is the one with the least cost in cross-validation among the training rows, each class in its share and
    each group in one fold: for classes 5 folds, fewer if the rarest class has fewer rows; for numbers leave-one-out
    (Golub, Heath and Wahba 1979, "Generalized cross-validation as a method for choosing a good ridge parameter"), with
    groups 5 folds. Of rows with times the last fifth is left out, as later rows evaluate the network, too. Where a
    search over classes would take minutes, there are fewer, above 20,000 rows none: `C = 1`. The solver's iterations
    are capped for the same reason; `about` names each.
    """
    x, y, weights = _arrays(rows)
    with _quiet(x.size):
        if task != "classification":
            return _ridge(x, y, weights, rows, chosen) if len(y) > 2 else constant(rows, task, outputs, seed)
        if len(np.unique(y)) == 1:
            return constant(rows, task, outputs, seed)
        searching = chosen is None and len(y) <= MOST_ROWS
        n_folds = MOST_VALUES // max(x.size * outputs, 1) if searching else 0
        folds = _folds(y, rows, seed)[:n_folds] if n_folds else []
        n_fits = 1 + len(PENALTIES) * len(folds)
        iterations = _capped(SOLVER_VALUES // n_fits, SOLVER_MOST, SOLVER_LEAST, x.size * outputs)
        if folds:
            chosen = _chosen(x, y, weights, folds, outputs, iterations)
        penalty = PLAIN if chosen is None else chosen
        how = _best_of(len(PENALTIES), folds) if folds else "not searched" if chosen is None else "chosen before"
        capped = f", {iterations} iterations at most for time" * (iterations < SOLVER_MOST)
        about = f"logistic regression, C = {penalty:g} ({how}){capped}"
        return Simple(about, _logistic(x, y, weights, penalty, outputs, iterations), chosen)


def boosting(rows: Rows, task: str, outputs: int, seed: int, chosen: float | None = None) -> Simple:
    """Fit scikit-learn's histogram gradient boosting with its own step and trees; arguments as in `constant`.

    The number of rounds is the one with the least cost on rows left out, up to scikit-learn's 100: all of them overfit
    where targets are noisy. It is counted on as many of 5 folds as take little time, at least on one (of rows with
    times on the last fifth); then all rows are fitted. Rounds are fewer, with larger steps, where 100 would take
    minutes: `about` names the cap.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    x, y, weights = _arrays(rows)
    of_classes = task == "classification"
    if len(y) < 2 or (of_classes and len(np.unique(y)) == 1):
        return constant(rows, task, outputs, seed)
    bins = [_bins(column) for column in x.T]
    x = _binned(x, bins)
    trees = outputs if outputs > 2 else 1
    each = (len(x) + HISTOGRAMS) * x.shape[1] * trees
    most = min(_capped(BOOSTING_VALUES, BOOSTING_MOST, BOOSTING_LEAST, each), max(TREES // trees, ENOUGH_ROUNDS))
    kind = HistGradientBoostingClassifier if of_classes else HistGradientBoostingRegressor
    model = partial(kind, learning_rate=min(LARGEST_STEP, 0.1 * BOOSTING_MOST / most), random_state=seed % 2**32)
    with _quiet(x.size):
        at_most = max(1, CHOOSING_VALUES // (each * most)) if chosen is None else 0
        folds = _folds(y, rows, seed)[:at_most] if at_most else []
        if folds:
            chosen, folds = _rounds(model, x, y, weights, folds, most)
        rounds = most if chosen is None else min(int(chosen), most)
        fitted = model(max_iter=rounds, early_stopping=False).fit(x, y, sample_weight=weights)
    how = _best_of(most, folds) if folds else "not searched" if chosen is None else "chosen before"
    capped = f", {most} at most for time" * (most < BOOSTING_MOST)
    about = f"gradient boosting, {counted(rounds, 'round')} ({how}){capped}"
    if isinstance(fitted, HistGradientBoostingClassifier):
        classes = np.unique(y)
        return Simple(
            about, lambda x: _log_probabilities(fitted.predict_proba(_binned(x, bins)), classes, outputs), chosen
        )
    return Simple(about, lambda x: fitted.predict(_binned(x, bins))[:, None], chosen)


SIMPLE: dict[str, Fit] = {"constant": constant, "linear": linear, "boosting": boosting}


def _counting(rows: Rows) -> Tensor:
    """Return which rows have any weight: the others must not give scikit-learn a class, a fold or a scale."""
    return torch.ones(len(rows), dtype=torch.bool) if rows.weights is None else (rows.weights > 0).cpu()


def _inputs(rows: Rows) -> Numbers:
    return rows.features.cpu().double().reshape(len(rows), -1).numpy()


def _arrays(rows: Rows) -> tuple[Numbers, np.ndarray, Weights]:
    """Return inputs, targets and weights of the rows that have any weight."""
    counting = _counting(rows).numpy()
    y = rows.targets.cpu().numpy()
    y = y.astype(np.float64) if rows.targets.is_floating_point() else y
    weights = None if rows.weights is None else rows.weights.cpu().double().numpy()[counting]
    return _inputs(rows)[counting], y[counting], weights


def _log_probabilities(
    shares: Float[np.ndarray, "N k"], classes: Int[np.ndarray, " k"], outputs: int
) -> Float[np.ndarray, "N C"]:
    """Return log-probabilities of all classes from those of the classes that were there to be learned."""
    full = np.zeros((len(shares), outputs))
    full[:, classes] = shares
    full = full.clip(FLOOR)
    return np.log(full / full.sum(1, keepdims=True))


def _capped(values: int, most: int, least: int, each: int) -> int:
    """Return how many iterations of so many values each go through so many in all, between bounds."""
    return min(most, max(least, values // max(each, 1)))


def _logistic(
    x: Numbers, y: np.ndarray, weights: Weights, penalty: float, outputs: int, iterations: int
) -> Callable[[Numbers], Float[np.ndarray, "N C"]]:
    from sklearn import config_context
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classes = np.unique(y)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=iterations))
    with config_context(enable_metadata_routing=False):  # with which weights go by other names
        model.fit(x, y, standardscaler__sample_weight=weights, logisticregression__sample_weight=weights)
    return lambda x: _log_probabilities(model.predict_proba(x), classes, outputs)


def _chosen(x: Numbers, y: np.ndarray, weights: Weights, folds: Folds, outputs: int, iterations: int) -> float:
    """Return the penalty whose weighted mean cost on rows left out is least; the stronger one of equals.

    Within a fold each weaker penalty starts from the solution of the stronger one before.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    costs = np.zeros(len(PENALTIES))
    for train, held in folds:
        of_train = None if weights is None else weights[train]
        of_held = 1.0 if weights is None else weights[held]
        classes = np.unique(y[train])
        scaler = StandardScaler().fit(x[train], sample_weight=of_train)
        inside, outside = scaler.transform(x[train]), scaler.transform(x[held])
        model = LogisticRegression(max_iter=iterations, warm_start=True)
        for i, penalty in enumerate(PENALTIES):
            shares = model.set_params(C=penalty).fit(inside, y[train], of_train).predict_proba(outside)
            logs = _log_probabilities(shares, classes, outputs)
            costs[i] -= (of_held * logs[np.arange(len(held)), y[held]]).sum()
    return PENALTIES[int(costs.argmin())]


def _ridge(x: Numbers, y: np.ndarray, weights: Weights, rows: Rows, chosen: float | None) -> Simple:
    from sklearn import config_context
    from sklearn.linear_model import Ridge, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def fitted(model: Any, at: np.ndarray | slice) -> Any:
        of = None if weights is None else weights[at]
        words = {"standardscaler__sample_weight": of, f"{type(model).__name__.lower()}__sample_weight": of}
        with config_context(enable_metadata_routing=False):
            return make_pipeline(StandardScaler(), model).fit(x[at], y[at], **words)

    groups, times = _labels(rows)
    how, folds = "chosen before", list[tuple[np.ndarray, np.ndarray]]()
    if chosen is None and times is not None:
        folds = _later(times, groups)
    if chosen is None and not folds and groups is not None:
        folds = _group_folds(y, groups)
    if folds:
        costs = np.zeros(len(RIDGES))
        for train, held in folds:
            of_held = 1.0 if weights is None else weights[held]
            errors = [fitted(Ridge(penalty), train).predict(x[held]) - y[held] for penalty in RIDGES]
            costs += [(of_held * error**2).sum() for error in errors]
        chosen, how = RIDGES[int(costs.argmin())], _best_of(len(RIDGES), folds)
    if chosen is None:
        model = fitted(RidgeCV(RIDGES, scoring="neg_mean_squared_error"), slice(None))
        chosen, how = float(model[-1].alpha_), f"the best of {len(RIDGES)} in cross-validation"
    else:
        model = fitted(Ridge(chosen), slice(None))
    return Simple(f"ridge regression, penalty {chosen:g} ({how})", lambda x: model.predict(x)[:, None], chosen)


def _rounds(
    model: Callable[..., Any], x: Numbers, y: np.ndarray, weights: Weights, folds: Folds, most: int
) -> tuple[float | None, Folds]:
    """Return the number of rounds whose mean cost on rows left out is least, the smaller one of equals.

    Once ten rounds of a fold were no better, its cost stays what it is. A fold with too few rows for a tree to be split
    (scikit-learn's leaves have 20), or whose rows left out are of classes that it does not know, says nothing; the
    folds that say something are returned, too, and None where none does.
    """
    costs, telling = np.zeros(most + 1), []
    for train, held in folds:
        known = held[np.isin(y[held], y[train])] if y.dtype.kind in "iu" else held
        if not len(known):
            continue
        of_held = np.ones(len(known)) if weights is None else weights[known]
        fitted = model(max_iter=most, early_stopping=True).fit(
            x[train],
            y[train],
            sample_weight=None if weights is None else weights[train],
            X_val=x[known],
            y_val=y[known],
            sample_weight_val=None if weights is None else of_held,
        )
        scores = fitted.validation_score_
        if np.ptp(scores) > 0:
            costs -= of_held.sum() * np.pad(scores, (0, most + 1 - len(scores)), mode="edge")
            telling.append((train, held))
    return float(max(1, costs.argmin())) if telling else None, telling


def _bins(column: Float[np.ndarray, " N"]) -> Float[np.ndarray, " k"] | None:
    """Return where an input's values are cut into bins of as many rows each; None where they are few enough."""
    if len(np.unique(column)) <= BINS:
        return None
    return np.unique(np.percentile(column, np.linspace(0, 100, BINS + 1)[1:-1], method="averaged_inverted_cdf"))


def _binned(x: Numbers, bins: Sequence[Float[np.ndarray, " k"] | None]) -> Numbers:
    """Return inputs with the numbers of their bins in place of values, where there are bins."""
    columns = [c if cuts is None else np.searchsorted(cuts, c) for c, cuts in zip(x.T, bins, strict=True)]
    return np.stack(columns, 1).astype(np.float64)


def _best_of(n: int, folds: Folds) -> str:
    return f"the best of {n} on {counted(len(folds), 'fold')}"


def _labels(rows: Rows) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return groups and times of the rows that have any weight."""
    counting = _counting(rows)
    groups, times = (None if of is None else of.cpu()[counting].numpy() for of in (rows.groups, rows.times))
    return groups, times


def _folds(y: np.ndarray, rows: Rows, seed: int) -> Folds:
    """Split rows into training rows and rows left out, each class in its share where it has the rows.

    Of rows with times later ones are left out, as where a network is evaluated. Folds whose training rows are of one
    class are left out: nothing can be chosen on them.

    Args:
        y: targets of the rows that have any weight.
        rows: all of them.
        seed: of the splits.
    """
    from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

    groups, times = _labels(rows)
    if times is not None:
        later = _later(times, groups)
        told = [(train, held) for train, held in later if y.dtype.kind not in "iu" or len(np.unique(y[train])) > 1]
        if told:
            return told
    if y.dtype.kind not in "iu":
        if groups is not None:
            return _group_folds(y, groups)
        return list(KFold(min(FOLDS, len(y)), shuffle=True, random_state=seed % 2**32).split(y))
    if np.bincount(y).max() == 1:
        return []
    n = min(FOLDS, max(2, int(np.unique(y, return_counts=True)[1].min())))
    if groups is None:
        parts = StratifiedKFold(n, shuffle=True, random_state=seed % 2**32).split(y, y)
    else:
        n = min(n, len(np.unique(groups)))
        if n < 2:
            return []
        parts = StratifiedGroupKFold(n, shuffle=True, random_state=seed % 2**32).split(y, y, groups)
    return [(train, held) for train, held in parts if len(held) and len(np.unique(y[train])) > 1]


def _group_folds(y: np.ndarray, groups: np.ndarray) -> Folds:
    from sklearn.model_selection import GroupKFold

    n = min(FOLDS, len(np.unique(groups)))
    return list(GroupKFold(n).split(y, y, groups)) if n > 1 else []


def _later(times: np.ndarray, groups: np.ndarray | None) -> Folds:
    """Return the first rows in time and about a fifth that come later; none where no time parts them and groups."""
    order = np.argsort(times, kind="stable")
    of_groups = None if groups is None else torch.from_numpy(groups[order])
    between = cuts(torch.from_numpy(times[order]), of_groups).numpy()
    if not len(between):
        return []
    cut = between[np.abs(between - len(order) * (FOLDS - 1) / FOLDS).argmin()]
    return [(order[:cut], order[cut:])]


@contextmanager
def _quiet(n_values: int) -> Iterator[None]:
    """Keep scikit-learn to a few threads, and its warnings, of rare classes or capped iterations, to itself."""
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with threadpool_limits(min(torch.get_num_threads(), MOST_THREADS) if n_values > THREADED_VALUES else 1):
            yield
