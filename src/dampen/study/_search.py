"""The search: settings are trained rung by rung, and ranked on the selection rows."""

from collections.abc import Mapping, Sequence

import numpy as np

from dampen.data import Rows
from dampen.engine import Population
from dampen.engine.knobs import Setting, side_by_side
from dampen.errors import InputError
from dampen.search import (
    AROUND,
    CROSSINGS,
    SEARCH,
    Ranked,
    TpeSampler,
    around,
    best,
    crossings,
    left_out,
    longer,
    not_yet_longer,
    promoted,
)
from dampen.statistics import mean_by_size
from dampen.study import _documents
from dampen.study._clock import Clock
from dampen.study._references import NONE
from dampen.study._runner import Runner, mean_costs, outputs_of

_FURTHER = 1.5  # times as long as a round's trainings those are that a budget keeps time for


def search(runner: Runner, clock: Clock | None = None) -> tuple[Ranked, ...]:
    """Train all settings, rung by rung, then the best for longer while that pays; return what each rung found.

    Args:
        runner: trains.
        clock: of a budget, which has to allow what goes on beyond the lengths that are planned.
    """
    return _Search(runner, clock).run()


class _Search:
    _left_out = False  # whether the best one has trained longer without each of its knobs

    def __init__(self, runner: Runner, clock: Clock | None):
        self.runner, self.plan, self.clock = runner, runner.plan, clock
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
        self._go_on()
        return tuple(self.found)

    def _rung(self, run: str, bracket: int, epochs: int, alive: Mapping[str, Sequence[Setting]]) -> dict[str, Ranked]:
        """Train settings for a length, and return what that found for each family."""
        settings = side_by_side(list(dict.fromkeys(setting for of in alive.values() for setting in of)))
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
        rows, metric = self.runner.rows("search").selection, self.plan.metric
        outputs = outputs_of(population, rows, metric)
        costs = mean_costs(population, outputs, rows, metric)
        stops = _stops(population, rows)
        calibrated = self.plan.calibrated_metric
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
                tuple(map(float, mean_costs(population, outputs, rows, calibrated, order)))
                if calibrated is not None and family == NONE
                else (),
            )
        self.found += ranked.values()
        self._note_best()
        self.runner.write("search.json", [self.plan.rung_document(rung) for rung in self.found])
        self.runner.forget(run)
        return ranked

    def _note_best(self) -> None:
        self.runner.best = self.plan.in_unit(min(rung.costs[0] for rung in self.found if rung.costs))

    def _go_on(self) -> None:
        """Train the best of each family longer while its best one gains by it, and look around the best.

        One round of looking around comes last. Of more of them one comes at each length, beside those that train
        longer: what a setting lacks for a longer training is found in trainings that are as long. After the last round
        the best are crossed, so that what each of them gained comes together, and what that finds trains longer, too:
        that one setting of one seed gained nothing does not end a search. The first time that it does, the best one
        trains beside itself without each of its knobs, where there is time for that.
        """
        epochs, looked, n = self.plan.lengths.planned, 0, 1
        if self.plan.rounds > 1:
            looked += self._around_the_best(0, epochs)
        while going := longer(self.found, epochs):
            if SEARCH in going and looked >= self.plan.rounds:
                self._cross(epochs)
                going = longer(self.found, epochs)
            run, alone = f"search-longer-{n}", sum(map(len, going.values()))
            without = self._without_each(going[SEARCH]) if SEARCH in going and 1 < self.plan.rounds <= looked else []
            following = self._following(f"{run}-left-out", epochs, alone + len(without)) if without else 0
            if following > epochs:
                going[SEARCH] = [*going[SEARCH], *without]
            else:
                following = self._following(run, epochs, alone)
            if following <= epochs:
                break
            more = SEARCH in going and 1 < self.plan.rounds > looked
            if more and (near := self._near(looked, epochs, following, f"{run}-around", alone)):
                going[SEARCH] = [*going[SEARCH], *near]
                run, looked = _round(looked), looked + 1
            self._rung(run, len(self.plan.brackets), following, going)
            epochs, n = following, n + 1
        for i in range(looked, self.plan.rounds):
            self._around_the_best(i, None)
        if self.plan.rounds > 1 and (ahead := best(self.found, SEARCH)):
            self._cross(ahead[0].epochs)
            self._try_longer(n)

    def _try_longer(self, n: int) -> None:
        """Train the best, if they have not yet, for longer, and on while they gain by it; `n` such rungs are next."""
        settings, epochs = not_yet_longer(self.found)
        without = self._without_each(settings) if settings else []
        while settings:
            run = f"search-longer-{n}"
            following = self._train_longer(run, f"{run}-left-out", epochs, [*settings, *without]) if without else 0
            following = following or self._train_longer(run, f"{run}-crossed", epochs, settings)
            if not following:
                break
            settings, epochs, n, without = longer(self.found, following).get(SEARCH, []), following, n + 1, []

    def _train_longer(self, run: str, decision: str, epochs: int, settings: Sequence[Setting]) -> int:
        """Train settings that have trained for some epochs, and references, for longer; return how long, 0 if not."""
        going = {**self._references_longer(epochs), SEARCH: settings}
        following = self._following(decision, epochs, sum(map(len, going.values())))
        if following <= epochs:
            return 0
        self._rung(run, len(self.plan.brackets), following, going)
        return following

    def _without_each(self, settings: Sequence[Setting]) -> list[Setting]:
        """Return the best setting without each of its knobs, but for settings that are given; once."""
        if self._left_out:
            return []
        self._left_out = True
        new = left_out(self.plan.space, self.found, CROSSINGS, self.plan.seed + self.plan.rounds)
        return [setting for setting in new if setting not in settings]

    def _references_longer(self, epochs: int) -> dict[str, Sequence[Setting]]:
        """Return what of the references trains on beside the search after a length, beyond which they have not been."""
        beyond = {rung.family for rung in self.found if rung.epochs > epochs}
        return {name: of for name, of in longer(self.found, epochs).items() if name not in {SEARCH, *beyond}}

    def _following(self, decision: str, epochs: int, settings: int) -> int:
        """Return how long so many settings train after these epochs: twice, or as a budget decides under a name."""
        longest = self.plan.lengths.longest
        if self.clock is None or longest <= epochs:
            return min(2 * epochs, longest)
        return self.clock.lasting(decision, self.found, epochs, longest, settings * len(self.plan.seeds))

    def _near(self, n: int, epochs: int, following: int, decision: str, beside: int) -> Sequence[Setting]:
        """Return new settings near the best one of a length, for the following one; none where there is no time.

        Args:
            n: which round this is.
            epochs: the length.
            following: the next one.
            decision: name of the decision whether there is time.
            beside: how many train for the following length in any case.
        """
        drawn, _ = around(self.plan.space, self.found, self.plan.refined, self.plan.seed + n, epochs)
        return drawn[: self._affordable(decision, following, _FURTHER * following, len(drawn), beside)]

    def _around_the_best(self, n: int, epochs: int | None) -> bool:
        """Train settings near the best one, if there are any and time for them; return whether they were.

        Args:
            n: which round this is; the first one is planned.
            epochs: length of the trainings, and at which the best is sought; None: the best one's own.
        """
        drawn, epochs = around(self.plan.space, self.found, self.plan.refined, self.plan.seed + n, epochs)
        if n:
            drawn = drawn[: self._affordable(_round(n), epochs, epochs, len(drawn))]
        if not drawn:
            return False
        self._rung(_round(n), len(self.plan.brackets), epochs, {SEARCH: drawn})
        return True

    def _cross(self, epochs: int) -> None:
        """Train crossings of the best settings of a length, once, if there are any and time for them."""
        run = _round(self.plan.rounds)
        if self.plan.rounds == 1 or not self.plan.refined or any(rung.run == run for rung in self.found):
            return
        drawn = crossings(self.plan.space, self.found, CROSSINGS, self.plan.seed + self.plan.rounds, epochs)
        drawn = drawn[: self._affordable(f"{run}-{epochs}", epochs, _FURTHER * epochs, len(drawn))]
        if drawn:
            self._rung(run, len(self.plan.brackets), epochs, {SEARCH: drawn})

    def _affordable(self, decision: str, epochs: int, after: float, settings: int, beside: int = 0) -> int:
        """Return how many settings a budget leaves time for, beside trainings of a length that follow."""
        if not settings or self.clock is None or self.plan.lengths.longest == self.plan.lengths.planned:
            return settings
        seeds = len(self.plan.seeds)
        return self.clock.affords(decision, self.found, epochs, after, settings * seeds, beside * seeds) // seeds


def _round(n: int) -> str:
    return AROUND if n == 0 else f"{AROUND}-{n + 1}"


def _stops(population: Population, selection: Rows | list[Rows]) -> list[tuple[int, float]]:
    """Return, for each setting, the epoch with the least mean validation loss, and that loss; folds count by rows."""
    history = population.history
    curves = history.metrics["validation_loss"]  # [E, S, M]
    curves = np.where(np.isfinite(curves), curves, np.inf)
    sizes = [rows.size for rows in selection] if isinstance(selection, list) else [1.0]
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
