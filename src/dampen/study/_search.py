"""The search: which settings and which lengths are best, on the selection rows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dampen.engine import Population
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.search import TpeSampler
from dampen.study import _documents
from dampen.study._protocol import Plan
from dampen.study._references import SEARCH
from dampen.study._runner import Runner, mean_costs
from dampen.study._training import Training, plain, setting_of

_WORTH = 0.005  # share of the loss: a training twice as long that gains less is the last one
_LONGER = {SEARCH: 2}  # how many of a family train longer; one of any other


@dataclass(frozen=True)
class Ranked:
    """What a rung of the search found.

    Args:
        run: name of the trainings.
        family: `search`, or the reference that the settings are of.
        bracket: which of the search's brackets, from 0; one more than there are for trainings after the last.
        epochs: length of the trainings.
        settings: those that were still in it, the best first.
        costs: mean cost of each on the selection rows, over seeds; infinite for one that diverged.
        stops: for each the epoch with the least validation loss, and that loss; infinite for one that diverged.
    """

    run: str
    family: str
    bracket: int
    epochs: int
    settings: tuple[Setting, ...]
    costs: tuple[float, ...]
    stops: tuple[tuple[int, float], ...]

    def document(self, plan: Plan) -> dict[str, Any]:
        """Return a JSON document, with costs also in the metric's unit."""
        costs = [_finite(cost) for cost in self.costs]
        return {
            "run": self.run,
            "family": self.family,
            "bracket": self.bracket,
            "epochs": self.epochs,
            "settings": [plain(setting) for setting in self.settings],
            "costs": costs,
            plan.metric.name: [None if cost is None else plan.told(cost) for cost in costs],
            "stops": [[epoch, _finite(loss)] for epoch, loss in self.stops],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Ranked":
        """Return what `document` wrote."""
        return cls(
            document["run"],
            document["family"],
            document["bracket"],
            document["epochs"],
            tuple(setting_of(values) for values in document["settings"]),
            tuple(np.inf if cost is None else cost for cost in document["costs"]),
            tuple((epoch, np.inf if loss is None else loss) for epoch, loss in document["stops"]),
        )


def search(runner: Runner) -> tuple[Ranked, ...]:
    """Train all settings, rung by rung, then the best for longer while that pays; return what each rung found."""
    return _Search(runner).run()


def best(ranked: Sequence[Ranked], family: str) -> list[Training]:
    """Return a family's settings, each at its best length, the best first; those that diverged are left out."""
    return list(best_costs(ranked, family))


def best_costs(ranked: Sequence[Ranked], family: str) -> dict[Training, float]:
    """Return the same, each with its mean cost on the selection rows."""
    lowest: dict[Setting, tuple[float, int]] = {}
    for rung in ranked:
        if rung.family == family:
            for setting, cost in zip(rung.settings, rung.costs, strict=True):
                lowest[setting] = min(lowest.get(setting, (math.inf, 0)), (cost, rung.epochs))
    order = sorted((cost, epochs, i) for i, (cost, epochs) in enumerate(lowest.values()) if math.isfinite(cost))
    settings = list(lowest)
    return {Training(settings[i], epochs): cost for cost, epochs, i in order}


def best_stop(ranked: Sequence[Ranked], family: str) -> Training | None:
    """Return the training of a family and the epoch in it with the least validation loss of all."""
    stops = [
        (loss, epoch, rung.epochs, setting)
        for rung in ranked
        if rung.family == family
        for setting, (epoch, loss) in zip(rung.settings, rung.stops, strict=True)
        if math.isfinite(loss)
    ]
    if not stops:
        return None
    _, epoch, epochs, setting = min(stops, key=lambda stop: stop[:3])
    return Training(setting, epochs, epoch)


class _Search:
    def __init__(self, runner: Runner):
        self.runner, self.plan = runner, runner.plan
        held = [] if runner.folder is None else _documents.progress(runner.folder, self.plan.metric.name)
        self.held = [Ranked.from_document(document) for document in held]
        self.found: list[Ranked] = []  # in the order of training, so that a resumed search decides on the same rungs
        self.tpe = None
        if self.plan.search == "tpe" and self.plan.space is not None:
            self.tpe = TpeSampler(self.plan.space, self.plan.seed, self.plan.brackets[0].settings)

    def run(self) -> tuple[Ranked, ...]:
        for b, bracket in enumerate(self.plan.brackets):
            drawn = bracket.drawn if bracket.drawn is not None else self.tpe.ask(bracket.settings) if self.tpe else ()
            alive: dict[str, Sequence[Setting]] = {SEARCH: drawn, **(self.plan.families if b == 0 else {})}
            if not any(alive.values()):  # the space is exhausted
                continue
            for i, rung in enumerate(bracket.rungs):
                costs = self._rung(f"search-{b + 1}-{i + 1}", b, rung.epochs, alive)
                if self.tpe:
                    settings = costs[SEARCH].settings
                    self.tpe.tell(rung.epochs, settings, costs[SEARCH].costs, rung is bracket.rungs[-1])
                share = rung.keep / max(1, len(drawn))
                keep = {name: max(1, math.ceil(share * len(of))) for name, of in self.plan.families.items()}
                alive = {name: costs[name].settings[: keep.get(name, rung.keep)] for name in alive}
            if self.tpe:
                self.tpe.close()
        self._longer()
        self._around_the_best()
        return tuple(self.found)

    def _rung(self, run: str, bracket: int, epochs: int, alive: Mapping[str, Sequence[Setting]]) -> dict[str, Ranked]:
        """Train settings for a length, and return what that found for each family."""
        settings = list(dict.fromkeys(setting for of in alive.values() for setting in of))
        known = {rung.family: rung for rung in self.held if rung.run == run}
        if known:
            for family, rung in known.items():
                if rung.epochs != epochs or set(rung.settings) != set(alive.get(family, ())):
                    raise InputError(f"{_documents.PROGRESS} is damaged: its {run} is of another search")
            self.found += known.values()
            self.runner.skip(run, len(settings) * len(self.plan.seeds), epochs)
            self._note_best()
            return known
        population = self.runner.train("search", run, settings, epochs, None)
        costs = mean_costs(population, self.runner.rows("search").ranking, self.plan.metric).mean(0)
        stops = _stops(population)
        place = {setting: m for m, setting in enumerate(settings)}
        ranked = {}
        for family, of in alive.items():
            order = sorted((place[setting] for setting in of), key=lambda m: (costs[m], m))
            ranked[family] = Ranked(
                run,
                family,
                bracket,
                epochs,
                tuple(settings[m] for m in order),
                tuple(float(costs[m]) for m in order),
                tuple(stops[m] for m in order),
            )
        self.found += ranked.values()
        self._note_best()
        self.runner.write("search.json", [rung.document(self.plan) for rung in self.found])
        self.runner.forget(run)
        return ranked

    def _note_best(self) -> None:
        self.runner.best = self.plan.told(min(rung.costs[0] for rung in self.found if rung.costs))

    def _longer(self) -> None:
        """Train the best of each family twice as long while its best one gains by it."""
        lengths, n = self.plan.lengths, 0
        epochs = lengths.planned
        while 2 * epochs <= lengths.longest:
            going = {}
            for family in dict.fromkeys(rung.family for rung in self.found):
                at = self._at(family, epochs)
                least = min(at.values(), default=math.inf)
                lengths_before = {rung.epochs for rung in self.found if rung.family == family and rung.epochs < epochs}
                shorter = min(
                    (cost for length in lengths_before for cost in self._at(family, length).values()), default=math.inf
                )
                if math.isfinite(least) and (math.isinf(shorter) or shorter - least > _WORTH * abs(shorter)):
                    going[family] = sorted(at, key=at.__getitem__)[: _LONGER.get(family, 1)]
            if not going:
                return
            n, epochs = n + 1, 2 * epochs
            self._rung(f"search-longer-{n}", len(self.plan.brackets), epochs, going)

    def _at(self, family: str, epochs: int) -> dict[Setting, float]:
        """Return what a family's settings cost at a length, in all brackets."""
        return {
            setting: cost
            for rung in self.found
            if rung.family == family and rung.epochs == epochs
            for setting, cost in zip(rung.settings, rung.costs, strict=True)
        }

    def _around_the_best(self) -> None:
        """Try settings near the best one, at its length: what halving dropped while trainings were short."""
        ahead = best(self.found, SEARCH)
        if not ahead or not self.plan.refined or self.plan.space is None:
            return
        near = self.plan.space.around(ahead[0].setting)
        tried = {training.setting for training in ahead}
        drawn = [s for s in near.draw(2 * self.plan.refined, "sobol", self.plan.seed) if s not in tried]
        if drawn:
            alive = {SEARCH: drawn[: self.plan.refined]}
            self._rung("search-around", len(self.plan.brackets), ahead[0].epochs, alive)


def _stops(population: Population) -> list[tuple[int, float]]:
    """Return, for each setting, the epoch with the least mean validation loss, and that loss."""
    history = population.history
    curves = history.metrics["validation_loss"].mean(1)  # [E, M]
    curves = np.where(np.isfinite(curves), curves, np.inf)
    rows = curves.argmin(0)
    return [(int(history.epochs[e]), float(curves[e, m])) for m, e in enumerate(rows)]


def check_found(ranked: Sequence[Ranked]) -> None:
    """Refuse a search all of whose settings diverged.

    Raises:
        InputError: they did.
    """
    if not best(ranked, SEARCH):
        raise InputError("every setting diverged: lower the learning rate (lr)")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
