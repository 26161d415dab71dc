"""The confirmation: the best trainings again with fresh seeds, their references, and what each part is worth."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dampen.data import Data
from dampen.engine import Population
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.search import SEARCH, Ranked, Training, best, best_calibrated, best_costs, best_stop
from dampen.statistics import bonferroni
from dampen.study._defaults import is_table
from dampen.study._evaluate import Candidate, Evaluation
from dampen.study._references import NONE, STOPPED, regularisers, without
from dampen.study._runner import Runner, Trained, mean_costs, outputs_of

LEVEL = 0.95
# The default margin is the larger of these shares, of the loss and of its spread over seeds.
MARGIN, OF_SPREAD = 0.01, 0.1


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """What was trained for the verdict, evaluated.

    Args:
        evaluation: of all of it.
        trained: all of it.
        recommended: what is best, without the regularisers that turned out to do nothing; no regularisation where the
            best turned out no better than that.
        chosen: what is best on the selection rows, before any was left out.
        challenger: what is best of them with a regulariser; None where none has one.
        dropped: the regularisers that were left out.
        finalists: the search's best.
        references: by name, what the recommended one is compared with.
        once_calibrated: no regularisation with the learning rate and length that are best where each network has a
            temperature of its own; None where that is not asked.
        removed: by regulariser, the recommended training without it.
        off: the recommended training without any.
        own: no regularisation with its own learning rate and length.
        usual_length: that one for the usual length.
        usual: that one with the usual learning rate, too.
        doubled: the recommended training, twice as long; None where lengths were given or follow from a budget.
        chosen_among: trainings from which the recommended one was chosen with the networks that are evaluated, of folds
            on the very rows, too; the search chooses with others.
        margin: mean cost below which a difference is negligible.
    """

    evaluation: Evaluation
    trained: Trained
    recommended: Training
    chosen: Training
    challenger: Training | None = None
    dropped: tuple[str, ...] = ()
    finalists: tuple[Training, ...]
    references: Mapping[str, Candidate]
    once_calibrated: Training | None = None
    removed: Mapping[str, Training] = field(default_factory=dict)
    off: Training | None = None
    own: Training | None = None
    usual_length: Training | None = None
    usual: Training | None = None
    doubled: Training | None = None
    chosen_among: int = 1
    margin: float

    @property
    def level(self) -> float:
        """Coverage of each comparison with the recommended training, whichever of them was the best."""
        return bonferroni(LEVEL, self.pairs)

    @property
    def pairs(self) -> int:
        """Comparisons that might have been made: with another one as the best they are others."""
        return max(1, self.chosen_among * (self.chosen_among - 1) // 2)


def simple_models(data: Data) -> tuple[str, ...]:
    """Return the names of the simple models that a network is compared with."""
    return ("constant", "linear", "boosting") if is_table(data) else ("constant",)


class Confirmation:
    """Trains and evaluates for the verdict.

    Args:
        runner: trains.
        dropping: whether the network drops units.
        spares: returns whether there is time for a form that a regulariser has been left out of, with so many left;
            None: there always is.
    """

    def __init__(self, runner: Runner, dropping: bool, spares: Callable[[Training, int], bool] | None = None):
        self._runner, self._plan, self._dropping, self._spares = runner, runner.plan, dropping, spares
        self._trained = Trained(runner, "confirmation")
        self._evaluation = Evaluation.of(self._plan, runner.rows("confirmation"))

    def of_search(self, ranked: Sequence[Ranked]) -> Confirmed:
        """Confirm what a search found.

        Raises:
            InputError: all of it diverged.
        """
        plan = self._plan
        finalists = tuple(best(ranked, SEARCH)[: plan.confirmed])
        references: dict[str, Candidate] = {f: best(ranked, f)[0] for f in plan.families if best(ranked, f)}
        stopped = best_stop(ranked, NONE)
        if stopped is not None:
            references[STOPPED] = stopped
        competing = [*finalists, *(r for name, r in references.items() if name != STOPPED)]
        # The search has chosen: neither the rows nor the seeds that are evaluated have a part in it.
        costs = {t: cost for f in (SEARCH, *plan.families) for t, cost in best_costs(ranked, f).items()}
        parts: list[Training] = []
        if plan.rounds > 1:  # a cocktail has many parts: together they take less time than one after the other
            ahead = min(competing, key=lambda training: costs[training])
            parts = [*self._without_each(ahead).values(), self._off(ahead)]
        once_calibrated = best_calibrated(ranked, NONE)
        self._train([*competing, *references.values(), *parts, *([once_calibrated] if once_calibrated else [])])
        finite = {t: costs[t] for t in competing if math.isfinite(self._evaluation.mean(t))}
        chosen = _best_of(finite)
        regularised = {t: cost for t, cost in finite.items() if self._regularisers(t)}
        margin = self._margin(chosen)
        simple = simple_models(plan.data)
        self._evaluation.add_simple(simple, len(plan.confirm_seeds))
        references |= {name: name for name in simple}
        recommended, gone = self._spared(chosen, references.get(NONE), margin)
        removed = self._removed(recommended)
        off = self._off(recommended)
        lengths, lr, none = plan.lengths, plan.training.lr, references.get(NONE)
        own = none if isinstance(none, Training) and self._regularisers(recommended) else off
        usual_length = replace(own, epochs=lengths.usual)
        rate = {"lr": lr} if "lr" in own.setting else {}
        usual = replace(usual_length, setting=Setting(**{**own.setting, **rate}))
        open_ended = lengths.longest > lengths.planned and plan.budget is None
        doubled = replace(recommended, epochs=2 * recommended.epochs) if open_ended else None
        self._train([off, usual_length, usual, *([doubled] if doubled else [])])
        return Confirmed(
            evaluation=self._evaluation,
            trained=self._trained,
            recommended=recommended,
            chosen=chosen,
            challenger=_best_of(regularised) if regularised else None,
            dropped=gone,
            finalists=finalists,
            references=references,
            once_calibrated=once_calibrated,
            removed=removed,
            off=off,
            own=own,
            usual_length=usual_length,
            usual=usual,
            doubled=doubled,
            margin=margin,
        )

    def of_comparison(self, named: Mapping[str, Training]) -> Confirmed:
        """Confirm trainings that are given by name.

        Raises:
            InputError: all of them diverged.
        """
        trainings = tuple(dict.fromkeys(named.values()))
        costs: dict[Training, float] = {}
        for population, alike in self._train(trainings):
            rows, metric = self._runner.rows("confirmation").selection, self._plan.metric
            ranking = mean_costs(population, outputs_of(population, rows, metric), rows, metric)
            costs |= dict(zip(alike, ranking.tolist(), strict=True))
        chosen = _best_of(costs)
        return Confirmed(
            evaluation=self._evaluation,
            trained=self._trained,
            recommended=chosen,
            chosen=chosen,
            finalists=trainings,
            references=dict(named),
            chosen_among=len(trainings),
            margin=self._margin(chosen),
        )

    def _train(self, candidates: Sequence[Candidate]) -> list[tuple[Population, list[Training]]]:
        """Train and evaluate those that have not been, and return the new populations with what they hold."""
        trained = self._trained.add([candidate for candidate in candidates if isinstance(candidate, Training)])
        for population, trainings in trained:
            self._evaluation.add(population, trainings)
        return trained

    def _margin(self, chosen: Training) -> float:
        """Return the margin as a mean cost; of a metric without a zero it is a number, not a share."""
        cost = abs(self._evaluation.mean(chosen)) if math.isfinite(self._plan.metric.bounds[0]) else 1.0
        if self._plan.margin is not None:
            return self._plan.margin * cost
        return max(MARGIN * cost, OF_SPREAD * self._evaluation.spread(chosen))

    def _spared(self, chosen: Training, none: Candidate | None, margin: float) -> tuple[Training, tuple[str, ...]]:
        """Return what to recommend where a training was chosen, and the regularisers left out since they do nothing.

        Regularisers are left out one by one, the one that gains least first, as long as the form without them is shown
        to be worse by less than the margin than the training that was chosen, or better (a test of non-inferiority).
        That ends where a budget has no time for what it takes.
        Where what is left is no better in the estimate than a training without any, that one is returned.
        """
        spared, n = chosen, len(self._regularisers(chosen))
        level = bonferroni(LEVEL, n * (n + 1) // 2 + 1)  # as many forms as can be compared
        while self._regularisers(spared):
            less = {training: self._evaluation.excess(training, chosen) for training in self._removed(spared).values()}
            fit = {t: e for t, e in less.items() if e.interval(2 * level - 1)[1] < margin}
            if not fit:
                break
            simpler = min(fit, key=lambda training: fit[training].mean)
            n_left = len(self._regularisers(simpler))
            if n_left and self._spares is not None and not self._spares(simpler, n_left):
                break
            spared = simpler
        if self._regularisers(spared) and isinstance(none, Training):
            excess = self._evaluation.excess(none, chosen)
            if excess.equivalent(margin, level):
                return none, ()  # another learning rate or length: that no regulariser does anything is not shown
        if self._regularisers(spared):
            off = self._off(spared)
            self._train([off])
            bare: list[Training] = [off, none] if isinstance(none, Training) else [off]
            least = min(bare, key=self._evaluation.mean)
            if self._evaluation.excess(least, spared).mean <= 0:
                return least, ()
        left = self._regularisers(spared)
        return spared, tuple(knob for knob in self._regularisers(chosen) if knob not in left)

    def _regularisers(self, training: Training) -> tuple[str, ...]:
        return regularisers(training.setting, self._plan.own_dropout)

    def _without_each(self, training: Training) -> dict[str, Training]:
        knobs = self._regularisers(training)
        return {knob: replace(training, setting=without(training.setting, [knob], self._dropping)) for knob in knobs}

    def _removed(self, training: Training) -> dict[str, Training]:
        removed = self._without_each(training)
        self._train(list(removed.values()))
        return removed

    def _off(self, training: Training) -> Training:
        knobs = self._regularisers(training)
        return replace(training, setting=without(training.setting, knobs, self._dropping)) if knobs else training


def _best_of(costs: Mapping[Training, float]) -> Training:
    lowest = min(costs, key=lambda training: costs[training], default=None)
    if lowest is None or not math.isfinite(costs[lowest]):
        raise InputError("every setting diverged: lower the learning rate (lr)")
    return lowest
