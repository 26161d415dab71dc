"""True regret of ways to search against the epochs that they spend, simulated on recorded grids of trainings.

`benchmarks.curves` trains every setting of a grid for every length with every seed, once. A rule then sees only what it
pays for: a training of a length costs its epochs, for each seed. It recommends a setting and a length; the regret is by
how much the true loss of that is larger than that of the best training of the whole grid, in percent. The true loss is
that on rows which no search sees. Each repetition draws settings and seeds anew from the grid; a budget is a share of
what the longest training of all settings takes with the default number of seeds. In brackets is the difference to the
first rule in the same repetitions, with its standard error. Rules were chosen on half of the data sets and are reported
on the other half. The same curves give the same table.

Run as `python -m benchmarks.regret`, with DAMPEN_DATA naming Fashion-MNIST's folder; curves are kept in the folder
DAMPEN_CURVES and recorded where they are missing. `--settings 8 --seeds 5 --rows 100` is a small run. `--equal` finds
instead how many epochs Optuna's searches need to have no more regret than a default study's search, and how much time:
an epoch of a member of a population of 16 is measured beside one of a well-written loop, without the compiler's time.
"""

import math
import os
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial

import numpy as np
import torch

import dampen
from benchmarks import curves, rivals, rows
from benchmarks.curves import KEPT_OUT, Table
from benchmarks.rows import Row
from dampen import TrainConfig
from dampen.search import Rung, Space, rungs
from dampen.study import usual_batch_size, usual_space

BUDGETS = 0.05, 0.1, 0.25, 0.5, 1.0
EQUAL_BUDGETS = 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0
BY_SET = 0.25  # the budget at which data sets are told apart
REPETITIONS = 30
SEEDS, CONFIRMED = 5, 3  # the defaults of a study of few rows
MEMBERS = 16  # of the population whose speed counts
BARS = {"digits": 8.0, "fashion-mnist-6000": 4.0}  # how many times as long Optuna should take at equal regret, at least
SHARE = 0.75  # of the grid's settings that a repetition draws
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
            for k in range(SEEDS):
                values.append(min(float(search.curve(m, search.longest, k + 1)[-1, k]), 1e6))
                trial.report(values[-1], k)
                if search.left <= 0 or (pruned := k < SEEDS - 1 and trial.should_prune()):
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


@cache
def regrets(table: Table, rule: Rule, budget: float, repetitions: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the regret of each repetition, as a share of the least loss, and the share of the full epochs it spent."""
    S, M = table.curves[0].shape[1:]
    least = table.truth.min()
    found, spent = [], []
    for r in range(repetitions):
        rng = np.random.default_rng(r)
        settings = rng.permutation(M)[: max(1, round(SHARE * M))]
        full = len(settings) * SEEDS * float(table.epochs[-1])
        search = Search(table, settings, rng.permutation(S), budget * full)
        m, at = rule(search)
        found.append(min(table.truth[at, m] / least - 1, 10.0))
        spent.append(search.spent / full)
    return np.array(found), np.array(spent)


STUDIES: dict[str, Rule] = {
    AS_IT_IS: partial(study, early=False),
    EARLY: study,
    ROOT: partial(study, growth=0.5),
}


def compared(tables: Sequence[Table], rule: Rule, budget: float, repetitions: int, base: Rule) -> tuple[float, ...]:
    """Return mean regret, its difference to another rule's, the standard error of that, and the share spent."""
    each = [regrets(table, rule, budget, repetitions) for table in tables]
    differences = [found - regrets(t, base, budget, repetitions)[0] for (found, _), t in zip(each, tables, strict=True)]
    error = math.sqrt(sum(d.var() / max(1, repetitions - 1) for d in differences)) / len(tables)
    mean_of = [float(np.mean(values)) for values in ([r for r, _ in each], differences, [s for _, s in each])]
    return 100 * mean_of[0], 100 * mean_of[1], 100 * error, 100 * mean_of[2]


def times_as_fast(name: str, given: int | None, turns: int = 5) -> Row:
    """Measure an epoch of a well-written loop beside one of a population's member, in turns.

    Args:
        name: of the data set.
        given: training rows, where fewer than usual.
        turns: whose median ratio counts.
    """
    data = curves.split(name, given)
    data = replace(data, test_rows=data.test_rows[:0])
    network, size = curves.network(name), usual_batch_size(len(data.train_rows))
    settings = Space(usual_space(data, dropping=1)).draw(MEMBERS, "sobol", 0)
    population = dampen.Population(network, settings, [0])
    config = TrainConfig(epochs=2 * turns + 2, batch_size=size, compile=True)
    population.fit(data, config, until=1, evaluate_every=None)
    alone = network(data.train.features[0].numel(), data.outputs)
    optimizer = torch.optim.AdamW(alone.parameters(), lr=1e-3, fused=True)
    inputs, targets = data.train.features.flatten(1), data.train.targets
    loss = torch.nn.functional.cross_entropy
    if data.task == "regression":
        targets, loss = targets[:, None], torch.nn.functional.mse_loss
    epoch = rivals.plain(alone, inputs, targets, size, optimizer, loss)
    epoch()
    ratios = []
    for turn in range(turns):
        started = time.perf_counter()
        population.fit(data, config, until=2 * turn + 3, evaluate_every=None)
        between = time.perf_counter()
        for _ in range(2):
            epoch()
        ratios.append((time.perf_counter() - between) * MEMBERS / (between - started))
    return Row(f"{name}: an epoch of a well-written loop / of a member of {MEMBERS}", statistics.median(ratios))


def equal(name: str, table: Table, repetitions: int, faster: float) -> list[Row]:
    """Return what a default study's search costs, and what Optuna's costs where its regret is no larger.

    Both are shares of the epochs of everything; a rival that never gets there has no row of its own ratio.

    Args:
        name: of the data set.
        table: its curves.
        repetitions: of each search.
        faster: how many times as long an epoch of a well-written loop takes as one of a population's member.
    """
    ours, spent = regrets(table, STUDIES[AS_IT_IS], math.inf, repetitions)
    found = [
        Row(f"{name}: regret of a default study's search", 100 * float(ours.mean()), "%"),
        Row(f"{name}: epochs of a default study's search", 100 * float(spent.mean()), "%"),
    ]
    for rule in (rule for rule in RULES if rule.startswith("Optuna")):
        least = math.inf
        for budget in EQUAL_BUDGETS:
            theirs, share = regrets(table, RULES[rule], budget, repetitions)
            least = min(least, float(theirs.mean()))
            if theirs.mean() <= ours.mean():
                found.append(Row(f"{name}: {rule}: epochs until it has no more", 100 * float(share.mean()), "%"))
                times = float(share.mean() / spent.mean())
                found.append(Row(f"{name}: {rule}: times a study's epochs", times))
                found.append(Row(f"{name}: {rule}: times a study's time", times * faster, bar=BARS.get(name)))
                break
        else:
            found.append(Row(f"{name}: {rule}: least regret with all epochs, never as little", 100 * least, "%"))
    return found


def main() -> None:
    """Record what is missing, simulate, print."""
    parser = rows.parser(__doc__)
    parser.add_argument("--settings", type=int, default=48, help="of each grid")
    parser.add_argument("--seeds", type=int, default=8, help="of each setting")
    parser.add_argument("--rows", type=int, default=None, help="training rows, where fewer than usual")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--sets", nargs="+", default=list(KEPT_OUT), choices=list(curves.SETS))
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=list(RULES))
    parser.add_argument("--equal", action="store_true", help="only what Optuna needs for a default study's regret")
    options = parser.parse_args()
    if options.seeds < SEEDS:
        parser.error(f"--seeds must be {SEEDS} or more, got {options.seeds}")
    tables = {}
    for name in options.sets:
        if name.startswith("fashion-mnist") and not os.environ.get("DAMPEN_DATA"):
            continue
        file = curves.folder() / f"{name}-{options.settings}-{options.seeds}-{options.rows or 'all'}.npz"
        if not curves.is_recorded(file):
            curves.record(name, file, options.settings, options.seeds, options.rows)
        tables[name] = Table.load(file)
    if options.equal:
        found = []
        for name, table in tables.items():
            faster = times_as_fast(name, options.rows)
            found += [faster, *equal(name, table, options.repetitions, faster.value)]
        rows.show(found, {"sets": list(tables), "repetitions": options.repetitions}, options.json)
        return
    found: list[Row] = []
    lines = [f"| regret in % ({', '.join(tables)}) | " + " | ".join(f"{100 * b:g} %" for b in BUDGETS) + " |"]
    lines.append("| --- " * (len(BUDGETS) + 1) + "|")
    every = list(tables.values())
    for rule in options.rules:
        cells = []
        for budget in BUDGETS:
            regret, more, error, _ = compared(every, RULES[rule], budget, options.repetitions, RULES[AS_IT_IS])
            found.append(Row(f"{rule}, budget {100 * budget:g} %", regret, "%"))
            cells.append(f"{regret:.2f}" + ("" if rule == AS_IT_IS else f" ({more:+.2f} ± {error:.2f})"))
        lines.append(f"| {rule} | " + " | ".join(cells) + " |")
    lines += ["", f"| regret in %, budget {100 * BY_SET:g} % | " + " | ".join(tables) + " |"]
    lines.append("| --- " * (len(tables) + 1) + "|")
    for rule in options.rules:
        cells = []
        for name, table in tables.items():
            regret, more, error, _ = compared([table], RULES[rule], BY_SET, options.repetitions, RULES[AS_IT_IS])
            found.append(Row(f"{rule}, {name}", regret, "%"))
            cells.append(f"{regret:.2f}" + ("" if rule == AS_IT_IS else f" ({more:+.2f} ± {error:.2f})"))
        lines.append(f"| {rule} | " + " | ".join(cells) + " |")
    lines += ["", "| a default study | regret in % | epochs of members, in % |", "| --- | --- | --- |"]
    for rule, whole in STUDIES.items():
        regret, more, error, spent = compared(every, whole, math.inf, options.repetitions, STUDIES[AS_IT_IS])
        found += [Row(f"{rule}, a whole study", regret, "%"), Row(f"{rule}, epochs of a whole study", spent, "%")]
        lines.append(f"| {rule} | {regret:.2f}" + ("" if rule == AS_IT_IS else f" ({more:+.2f} ± {error:.2f})"))
        lines[-1] += f" | {spent:.0f} |"
    if options.json:
        rows.show(found, {"sets": list(tables), "repetitions": options.repetitions}, True)
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    main()
