"""The search: settings are trained rung by rung, and ranked on the selection rows."""

from collections.abc import Mapping, Sequence

import numpy as np

from dampen.data import Rows
from dampen.engine import Population
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.search import AROUND, SEARCH, Ranked, TpeSampler, around, best, longer, promoted
from dampen.statistics import mean_by_size
from dampen.study import _documents
from dampen.study._runner import Runner, mean_costs


def search(runner: Runner) -> tuple[Ranked, ...]:
    """Train all settings, rung by rung, then the best for longer while that pays; return what each rung found."""
    return _Search(runner).run()


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
                alive = promoted(costs, rung, len(drawn), self.plan.families)
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
            same = {name: set(rung.settings) for name, rung in known.items() if rung.epochs == epochs}
            if same != {name: set(of) for name, of in alive.items()}:
                raise InputError(f"{_documents.PROGRESS} is damaged: its {run} is of another search")
            self.found += known.values()
            self.runner.skip(run, len(settings) * len(self.plan.seeds), epochs)
            self._note_best()
            return known
        population = self.runner.train("search", run, settings, epochs, None)
        costs = mean_costs(population, self.runner.rows("search").selection, self.plan.metric)
        stops = _stops(population, self.runner.rows("search").selection)
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
        self.runner.write("search.json", [self.plan.rung_document(rung) for rung in self.found])
        self.runner.forget(run)
        return ranked

    def _note_best(self) -> None:
        self.runner.best = self.plan.in_unit(min(rung.costs[0] for rung in self.found if rung.costs))

    def _longer(self) -> None:
        """Train the best of each family twice as long while its best one gains by it."""
        n, epochs = 1, self.plan.lengths.planned
        while 2 * epochs <= self.plan.lengths.longest and (going := longer(self.found, epochs)):
            epochs *= 2
            self._rung(f"search-longer-{n}", len(self.plan.brackets), epochs, going)
            n += 1

    def _around_the_best(self) -> None:
        for n in range(self.plan.rounds):
            drawn, epochs = around(self.plan.space, self.found, self.plan.refined, self.plan.seed + n)
            if drawn:
                run = AROUND if n == 0 else f"{AROUND}-{n + 1}"
                self._rung(run, len(self.plan.brackets), epochs, {SEARCH: drawn})


def _stops(population: Population, selection: Rows | list[Rows]) -> list[tuple[int, float]]:
    """Return, for each setting, the epoch with the least mean validation loss, and that loss; folds count by rows."""
    history = population.history
    curves = history.metrics["validation_loss"]  # [E, S, M]
    curves = np.where(np.isfinite(curves), curves, np.inf)
    sizes = [len(rows) for rows in selection] if isinstance(selection, list) else [1]
    curves = mean_by_size(curves.swapaxes(0, 1), sizes)  # [E, M]
    rows = curves.argmin(0)
    return [(int(history.epochs[e]), float(curves[e, m])) for m, e in enumerate(rows)]


def check_found(ranked: Sequence[Ranked]) -> None:
    """Refuse a search all of whose settings diverged.

    Raises:
        InputError: they did.
    """
    if not best(ranked, SEARCH):
        raise InputError("every setting diverged: lower the learning rate (lr)")
