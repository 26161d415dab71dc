"""Ways to search a recorded grid of trainings: who trains on, who is recommended.

A rule sees of a `Search` only what it pays for, and recommends a setting and a length. `python -m benchmarks.regret`
tells how good they are.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from benchmarks.curves import Table
from dampen.search import Rung, rungs

SEEDS, CONFIRMED = 5, 3  # the defaults of a study of few rows
Training = tuple[int, int]  # setting and length, by their places


@dataclass
class Search:
    """One repetition of a search.

    Args:
        table: what has been trained.
        settings: that are drawn, in this order.
        seeds: in this order.
        budget: epochs of members that may be spent.
    """

    table: Table
    settings: np.ndarray
    seeds: np.ndarray
    budget: float
    spent: float = 0.0
    trained: dict[Training, int] = field(default_factory=dict)
    reached: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Epochs of members that may still be spent."""
        return self.budget - self.spent

    @property
    def longest(self) -> int:
        """Place of the longest length."""
        return len(self.table.epochs) - 1

    def curve(self, m: int, length: int, seeds: int) -> np.ndarray:
        """Train a setting for a length with the first so many seeds, and return its curves `[E, S]`."""
        before = self.trained.get((m, length), 0)
        self.spent += max(seeds - before, 0) * float(self.table.epochs[length])
        self.trained[m, length] = max(seeds, before)
        return self.table.curves[length][:, self.seeds[:seeds], m]

    def costs(self, settings: Sequence[int], length: int, seeds: int) -> np.ndarray:
        """Return the costs of settings that train for a length, `[M, S]`."""
        return np.stack([self.curve(m, length, seeds)[-1] for m in settings])

    def partly(self, m: int, epoch: int, seeds: int) -> np.ndarray:
        """Go on with a setting's longest training up to an epoch, and return its curves until there, `[E, S]`."""
        self.spent += max(epoch - self.reached.get(m, (0, 0))[0], 0) * seeds
        self.reached[m] = max(epoch, self.reached.get(m, (0, 0))[0]), seeds
        return self.table.curves[self.longest][:epoch, self.seeds[:seeds], m]

    def price(self, stages: Sequence[Rung], n: int, seeds: Callable[[int], int]) -> float:
        """Return what halving costs, the best of each rung trained with the seeds that it lacks."""
        total, most = 0.0, seeds(self.longest)
        for stage in stages:
            at = self.place(stage.epochs)
            total += n * stage.epochs * seeds(at) + stage.epochs * (most - seeds(at))
            n = min(n, stage.keep)
        return total

    def place(self, epochs: int) -> int:
        """Return the place of a length."""
        return int(np.abs(self.table.epochs - epochs).argmin())

    def best(self) -> Training:
        """Return the training with the least mean cost of those that have the most seeds."""
        most = max(self.trained.values())
        known = [training for training, n in self.trained.items() if n == most]
        return min(known, key=lambda t: (self.table.curves[t[1]][-1, self.seeds[:most], t[0]].mean(), t[1]))


Rule = Callable[[Search], Training]
Score = Callable[[Search, Sequence[int], int, int], np.ndarray]
"""What ranks the settings of a rung, of a length and a number of seeds: the lowest go on."""


def mean(search: Search, alive: Sequence[int], length: int, seeds: int) -> np.ndarray:
    """Score by the mean cost over seeds."""
    return search.costs(alive, length, seeds).mean(1)


def ranks(search: Search, alive: Sequence[int], length: int, seeds: int) -> np.ndarray:
    """Score by the mean rank over seeds."""
    return search.costs(alive, length, seeds).argsort(0).argsort(0).mean(1)


def recent(search: Search, alive: Sequence[int], length: int, seeds: int) -> np.ndarray:
    """Score by the mean over the last fifth of a training's epochs."""
    scored = [search.curve(m, length, seeds) for m in alive]
    return np.array([curve[-max(1, len(curve) // 5) :].mean() for curve in scored])


def lower(search: Search, alive: Sequence[int], length: int, seeds: int) -> np.ndarray:
    """Score by the lower end of the paired difference to the best: what may still be the best goes on."""
    costs = search.costs(alive, length, seeds)
    difference = costs - costs[costs.mean(1).argmin()]
    if seeds == 1:
        return difference[:, 0]
    with np.errstate(invalid="ignore"):
        score = difference.mean(1) - difference.std(1, ddof=1) / seeds**0.5
    return np.where(np.isfinite(score), score, np.inf)


def extrapolated(search: Search, alive: Sequence[int], length: int, seeds: int, power: float = 0.7) -> np.ndarray:
    """Score by the cost at twice the length, a power law through the last two lengths that gains less each time."""
    now = search.costs(alive, length, seeds).mean(1)
    if any((m, length - 1) not in search.trained for m in alive):
        return now
    paired = min(seeds, *(search.trained[m, length - 1] for m in alive))
    with np.errstate(invalid="ignore"):
        gain = now_of(search, alive, length, paired) - now_of(search, alive, length - 1, paired)
        return np.nan_to_num(now + power * gain, nan=np.inf)


def now_of(search: Search, alive: Sequence[int], length: int, seeds: int) -> np.ndarray:
    """Return mean costs of what has been trained."""
    return search.table.curves[length][-1][search.seeds[:seeds]][:, list(alive)].mean(0)


def smoothed(search: Search, alive: Sequence[int], length: int, seeds: int, ahead: int = 0) -> np.ndarray:
    """Score by a Gaussian process through all costs so far, over settings and length, some doublings ahead."""
    search.costs(alive, length, seeds)
    known = list(search.trained)
    return surrogate(search, known, [(m, min(length + ahead, search.longest)) for m in alive])


def surrogate(search: Search, known: Sequence[Training], wanted: Sequence[Training]) -> np.ndarray:
    """Return the logarithm of costs, by a Gaussian process."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    def inputs(trainings: Sequence[Training]) -> np.ndarray:
        return np.array([[*search.table.settings[m], at / search.longest] for m, at in trainings])

    y = np.array([now_of(search, [m], at, search.trained[m, at])[0] for m, at in known])
    y = np.log(np.minimum(np.where(np.isfinite(y), y, np.inf), 10 * np.median(y)))
    d = search.table.settings.shape[1] + 1
    kernel = ConstantKernel(1.0) * Matern([0.5] * d, (0.05, 10.0), nu=2.5) + WhiteKernel(0.05, (1e-4, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        process = GaussianProcessRegressor(kernel, normalize_y=True, alpha=1e-8).fit(inputs(known), y)
        return np.asarray(process.predict(inputs(wanted)))


def halving(search: Search, score: Score = mean, growth: float = 0.0, least: int = 8, early: bool = True) -> Training:
    """Successive halving, sized for the budget: as many seeds as `least` settings allow, then settings, then epochs.

    Args:
        search: the repetition.
        score: ranks the settings of a rung.
        growth: seeds are proportional to this power of a rung's length, so that the last one has all. The best of each
            other rung is trained with all, too: only trainings with the same seeds can be compared.
        least: settings for which a smaller number of seeds is taken.
        early: whether the first rung has a quarter of the usual length also where that is no whole number of epochs.
    """
    return climb(search, *fitted(search, growth, least, early), score)


def study(search: Search, growth: float = 0.0, early: bool = True) -> Training:
    """The search of a default study, whatever it costs: all settings, all lengths, the default number of seeds."""
    epochs, n = search.table.epochs, len(search.settings)
    stages = rungs(int(epochs[-1]), n, CONFIRMED, 2, True, first_of(search, early))
    return climb(search, n, stages, grown(search, growth, search.table.seeds), mean)


def first_of(search: Search, early: bool) -> int:
    """Return the epochs that the first rung has at least."""
    return max(1, int(search.table.epochs[2]) // 4) if early else search.table.first


def grown(search: Search, growth: float, most: int) -> Callable[[int], int]:
    """Return how many seeds a length has."""
    return lambda at: max(1, math.ceil(most * 2.0 ** ((at - search.longest) * growth) - 1e-9))


def climb(search: Search, n: int, stages: Sequence[Rung], seeds: Callable[[int], int], score: Score) -> Training:
    """Go through the rungs with the first n settings."""
    alive: list[int] = search.settings[:n].tolist()
    for stage in stages:
        at = search.place(stage.epochs)
        order = np.argsort(score(search, alive, at, seeds(at)), kind="stable")
        alive = [alive[i] for i in order]
        search.costs(alive[:1], at, seeds(search.longest))
        alive = alive[: stage.keep]
    return search.best()


def fitted(
    search: Search, growth: float, least: int, early: bool
) -> tuple[int, tuple[Rung, ...], Callable[[int], int]]:
    """Return the settings, rungs and seeds of each length that a budget allows."""
    longest, epochs = len(search.settings), search.table.epochs

    for s in (5, 3, 2, 1):
        for n in range(longest, (least if s > 1 else 1) - 1, -1):
            first, seeds = first_of(search, early), grown(search, growth, s)
            stages = rungs(int(epochs[-1]), n, CONFIRMED, 2, True, first)
            if search.price(stages, n, seeds) > search.budget:
                continue
            for first in epochs[1:]:  # longer first trainings, where settings are exhausted
                more = rungs(int(epochs[-1]), n, CONFIRMED, 2, True, int(first))
                if n == longest and search.price(more, n, seeds) <= search.budget:
                    stages = more
            return n, stages, seeds
    return 1, (Rung(int(epochs[search.place(int(search.budget))]), 1),), lambda at: 1


def hyperband(search: Search) -> Training:
    """Hyperband, its brackets as `dampen.Hyperband` has them."""
    from dampen import Hyperband, Uniform
    from dampen.search import Space, brackets

    space, epochs = Space({"dropout": Uniform(0, 0.5)}), search.table.epochs
    for s in (5, 3, 2, 1):
        for n in range(len(search.settings), 7, -1):
            found = brackets(space, Hyperband(), n, (first_of(search, True), int(epochs[-1])), CONFIRMED, 0)
            if sum(bracket.member_epochs(s) for bracket in found) <= search.budget:
                settings = iter(search.settings.tolist())
                for bracket in found:
                    alive = [next(settings) for _ in range(bracket.settings)]
                    for rung in bracket.rungs:
                        costs = mean(search, alive, search.place(rung.epochs), s)
                        alive = [alive[i] for i in np.argsort(costs, kind="stable")[: rung.keep]]
                return search.best()
    return random(search)


def random(search: Search, seeds: Sequence[int] = (5, 3, 2, 1), least: int = 8) -> Training:
    """Random search: the longest training of as many settings as there are epochs for."""
    full = float(search.table.epochs[-1])
    for s in seeds:
        n = min(len(search.settings), int(search.budget / (s * full)))
        if n >= (least if s > 1 else 1):
            search.costs(search.settings[:n].tolist(), search.longest, s)
            return search.best()
    raise RuntimeError("no training fits the budget")


def race(search: Search, first: int = 0, level: float = 1.0) -> Training:
    """Halving whose rungs share the budget evenly; who is clearly worse in pairs is dropped, what that saves is seeds.

    Args:
        search: the repetition.
        first: place of the shortest length.
        level: standard errors of the paired difference to the best beyond which a setting is clearly worse.
    """
    epochs = search.table.epochs
    alive: list[int] = search.settings.tolist()
    for at in range(first, search.longest + 1):
        share = search.left / (search.longest + 1 - at)
        n = max(1, min(len(alive), int(share / epochs[at])))
        alive = alive[:n]
        seeds = max(1, min(len(search.seeds), int(share / (n * epochs[at]))))
        if n * seeds * epochs[at] > search.left:
            break
        costs = search.costs(alive, at, seeds)
        order = np.argsort(costs.mean(1), kind="stable")
        difference = costs[order] - costs[order[0]]
        worse = np.zeros(n, dtype=bool)
        if seeds > 1:
            with np.errstate(invalid="ignore"):
                error = difference.std(1, ddof=1) / seeds**0.5
                worse = ~(difference.mean(1) <= level * error)
                worse[0] = False
        going = [alive[i] for i, out in zip(order, worse, strict=True) if not out]
        alive = going if seeds > 1 else [alive[i] for i in order]
        keep = max(CONFIRMED, math.ceil(n / 2)) if seeds == 1 else max(1, math.ceil(0.75 * n))
        alive = alive[:keep]
    return search.best()


def seeds_for_contenders(search: Search) -> Training:
    """The longest training of all settings with one seed; then seeds for whichever may be the best."""
    full = float(search.table.epochs[-1])
    alive = search.settings[: max(1, int(0.7 * search.budget / full))].tolist()
    costs = search.costs(alive, search.longest, 1).mean(1)
    order = [alive[i] for i in np.argsort(costs, kind="stable")]
    keep = max(2, len(order) // 2)
    for seeds in range(2, len(search.seeds) + 1):
        going = order[:keep]
        if len(going) * full > search.left:
            going = order[: int(search.left / full)]
        if len(going) < 2:
            break
        costs = search.costs(going, search.longest, seeds).mean(1)
        order = [going[i] for i in np.argsort(costs, kind="stable")]
        keep = max(2, math.ceil(0.6 * len(order)))
    return search.best()


def continued(search: Search, score: str = "last", seeds: Sequence[int] = (5, 3, 2, 1)) -> Training:
    """Halving of trainings that go on: all begin the longest, the worse half is given up at each doubling.

    Args:
        search: the repetition.
        score: `last` epoch, or `power`: what a power law through the curve so far promises for its end.
        seeds: numbers of them, the first that allows 8 settings.
    """
    epochs = search.table.epochs
    for s in seeds:
        for n in range(len(search.settings), (8 if s > 1 else 1) - 1, -1):
            alive_at, price, before = n, 0.0, 0
            for e in epochs:
                price += alive_at * s * (e - before)
                alive_at, before = min(alive_at, max(CONFIRMED, math.ceil(alive_at / 2))), e
            if price > search.budget:
                continue
            alive: list[int] = search.settings[:n].tolist()
            for e in epochs:
                parts = [search.partly(m, int(e), s).mean(1) for m in alive]
                scored = [power_law(part, int(epochs[-1])) if score == "power" else part[-1] for part in parts]
                alive = [alive[i] for i in np.argsort(scored, kind="stable")]
                if e != epochs[-1]:
                    alive = alive[: max(CONFIRMED, math.ceil(len(alive) / 2))]
            return alive[0], search.longest
    return int(search.settings[0]), search.longest


def power_law(curve: np.ndarray, end: int) -> float:
    """Return what `a + b / epoch` through the last two thirds of a curve promises for its end."""
    if not np.isfinite(curve).all():
        return np.inf
    start = len(curve) // 3
    t = 1.0 / np.arange(start + 1, len(curve) + 1)
    y = curve[start:]
    if len(y) < 3:
        return float(y[-1])
    slope, level = np.polyfit(t, y, 1)
    return float(min(level + slope / end, y[-1]) if slope > 0 else y[-1])


def freeze_thaw(search: Search) -> Training:
    """Freeze and thaw (after Swersky, Snoek and Adams 2014): the most promising of all trainings goes on for a while.

    What a curve promises is the end of a power law through it, less what it may still fall by.
    """
    epochs = search.table.epochs
    full, step = int(epochs[-1]), int(epochs[0])
    s = next((s for s in (5, 3, 2) if search.budget >= 8 * s * full / 2), 1)
    n = max(1, min(len(search.settings), int(search.budget / (3 * s * step))))
    at = dict.fromkeys(search.settings[:n].tolist(), step)
    parts = {m: search.partly(m, step, s).mean(1) for m in at}
    while open_ := [m for m in at if at[m] < full]:

        def promise(m: int) -> float:
            part = parts[m]
            end = power_law(part, full)
            return end - 0.5 * abs(part[len(part) // 2] - part[-1]) * (1 - at[m] / full)

        m = min(open_, key=promise)
        if search.left < s * step:
            break
        at[m] = min(at[m] + step, full)
        parts[m] = search.partly(m, at[m], s).mean(1)
    finished = [m for m in at if at[m] == full] or list(at)
    return min(finished, key=lambda m: (power_law(parts[m], full), m)), search.longest


def optuna_rule(search: Search, pruner: str) -> Training:
    """Optuna's TPE with a pruner, over the longest trainings: each proposal is the nearest setting not yet tried."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    table, s = search.table, search.table.seeds
    s = s if search.budget >= 8 * s * table.epochs[-1] / 4 else 1
    halves = optuna.pruners.SuccessiveHalvingPruner(min_resource=int(table.epochs[0]), reduction_factor=2)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=int(search.seeds[0]) * 1000 + int(search.settings[0])),
        pruner=halves if pruner == "halving" else optuna.pruners.WilcoxonPruner(p_threshold=0.1),
    )
    left, done = search.settings.tolist(), dict[int, float]()
    low, high = table.settings.min(0), table.settings.max(0)
    while left:
        trial = study.ask()
        point = [trial.suggest_float(f"x{i}", a, b) for i, (a, b) in enumerate(zip(low, high, strict=True))]
        m = min(left, key=lambda m: float(np.square(table.settings[m] - point).sum()))
        left.remove(m)
        pruned, value = False, math.inf
        if pruner == "halving":
            for e in table.epochs:
                value = float(search.partly(m, int(e), s)[-1].mean())
                trial.report(min(value, 1e6), int(e))
                if search.left <= 0 or (pruned := e != table.epochs[-1] and trial.should_prune()):
                    break
        else:
            values: list[float] = []
            most = min(SEEDS, len(search.seeds))
            for k in range(most):
                values.append(min(float(search.curve(m, search.longest, k + 1)[-1, k]), 1e6))
                trial.report(values[-1], k)
                if search.left <= 0 or (pruned := k < most - 1 and trial.should_prune()):
                    break
            value = float(np.mean(values))
        if search.spent > search.budget and done:
            break
        if pruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            continue
        done[m] = value
        study.tell(trial, min(value, 1e6))
        if search.left <= 0:
            break
    return min(done, key=lambda m: (done[m], m)), search.longest


AS_IT_IS = "halving, as it is"
ROOT = "seeds that grow as the root of the length"
EARLY = "halving, always from a quarter of the usual length"
RULES: dict[str, Rule] = {
    AS_IT_IS: partial(halving, early=False),
    EARLY: halving,
    "seeds that grow as the length to the power 0.4": partial(halving, growth=0.4, least=16),
    ROOT: partial(halving, growth=0.5, least=16),
    "seeds that grow as the length": partial(halving, growth=1.0, least=16),
    "seeds that grow as the root, ranked by recent epochs": partial(halving, growth=0.5, least=16, score=recent),
    "seeds that grow as the root, ranked by mean ranks": partial(halving, growth=0.5, least=16, score=ranks),
    "seeds that grow as the root, ranked by the lower end of differences in pairs": partial(
        halving, growth=0.5, least=16, score=lower
    ),
    "seeds that grow as the root, ranked by extrapolated costs": partial(
        halving, growth=0.5, least=16, score=extrapolated
    ),
    "seeds that grow as the root, ranked by a Gaussian process": partial(halving, growth=0.5, least=16, score=smoothed),
    "race in pairs": race,
    "one seed, more for contenders": seeds_for_contenders,
    "trainings that go on, halved": continued,
    "the same, by a power law": partial(continued, score="power"),
    "freeze-thaw": freeze_thaw,
    "Hyperband": hyperband,
    "random search": random,
    "Optuna: TPE, successive halving": partial(optuna_rule, pruner="halving"),
    "Optuna: TPE, Wilcoxon": partial(optuna_rule, pruner="wilcoxon"),
}


STUDIES: dict[str, Rule] = {
    AS_IT_IS: partial(study, early=False),
    EARLY: study,
    ROOT: partial(study, growth=0.5),
}
