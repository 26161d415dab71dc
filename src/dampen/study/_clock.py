"""What a budget still allows while its study trains."""

import math
from collections.abc import Callable, Sequence
from statistics import fmean

import torch

from dampen.data import training_and_validation_rows
from dampen.search import SEARCH, Ranked, Training, best, best_calibrated
from dampen.study import _documents
from dampen.study._budget import CONFIRM_SEEDS, forms, seconds_of_simple_models, spare
from dampen.study._confirmation import simple_models
from dampen.study._pace import Chunk, Pace
from dampen.study._phases import n_calibration_folds, split
from dampen.study._references import NONE, regularisers
from dampen.study._runner import Runner

_FEW = 6  # new settings, of which fewer are no round around the best one
_BESIDE = 1  # members' worth of time that a step takes besides: 0.9 on Fashion-MNIST and 3 on digits, on two cores
_AT_ONCE = 16  # members that take steps together where that has not been seen
_LIKELY = 2  # of the best settings, which knobs what is confirmed may have
_STARTS = 2  # first epochs that take as much longer as the last one did: of what trains next, and of the confirmation
_WORTH = 1.25  # times as long as before, for which there has to be time after a training that is as long as planned
_LEAST = 1.1  # times as long as before: a training that may not last longer is not begun


class Clock:
    """Decides by the seconds that are left; the folder keeps each decision, so that a resumed study makes the same.

    Args:
        runner: of the study.
        budget: seconds that it may take.
        began: when it began, by `time.perf_counter`.
    """

    def __init__(self, runner: Runner, budget: float, began: float):
        self._runner, self._budget, self._began = runner, budget, began
        self._seeds = len(runner.plan.confirm_seeds)  # that longer trainings leave time for
        self._models = runner.plan.rounds > 1  # the time of a step; else all trainings count by their epochs
        self._simple: float | None = None  # seconds of the simple models

    def lasting(self, decision: str, found: Sequence[Ranked], epochs: int, longest: int, members: int) -> int:
        """Return for how long so many members train next, 0 where there is no time for clearly more than before.

        They train twice as long, but for the last of these trainings, which takes the time that there is.

        Args:
            decision: its name.
            found: by the search so far.
            epochs: for how long they have trained.
            longest: for how long they may.
            members: how many.
        """

        def most() -> int:
            fixed, each = self._confirming(found)
            here = self._times(members) + self._seeds * each
            lasting = int((self._seconds_left() / self._rate_of(found) - self._seeds * fixed) / here)
            following = 2 * epochs if lasting >= 2 * _WORTH * epochs else lasting
            return min(following, longest) if following >= _LEAST * epochs else 0

        return self._decided(decision, most)

    def affords(
        self, decision: str, found: Sequence[Ranked], epochs: int, following: float, members: int, beside: int = 0
    ) -> int:
        """Return how many members can train so that trainings that follow can still be confirmed; 0 for very few.

        Args:
            decision: its name.
            found: by the search so far.
            epochs: for how long they train.
            following: length of the trainings that follow.
            members: how many there are.
            beside: how many train as long in any case.
        """

        def most() -> int:
            fixed, each = self._confirming(found)
            left = self._seconds_left() - self._rate_of(found) * self._seeds * (fixed + each * following)
            longest = left / (self._wide_rate([self._pace.whole]) * epochs)
            affordable = members
            while affordable and self._times(affordable + beside) > longest:
                affordable -= 1
            return affordable if affordable >= min(members, _FEW) else 0

        return self._decided(decision, most)

    def confirm_seeds(self, found: Sequence[Ranked]) -> int:
        """Return how many confirming seeds the seconds that are left allow."""
        held = _documents.budget(self._runner.folder) or {}
        if "confirm_seeds" not in held:
            fixed, each = self._confirming(found, sparing=True)
            longest = max(training.epochs for training in self._finalists(found))
            folds = self._runner.plan.scheme == "folds"  # which the simple models are fitted for, too
            of_seed = self._rate_of(found) * (fixed + each * longest) + self._simple_seconds() * folds
            left = self._seconds_left(int(not folds))
            held["confirm_seeds"] = min(max(int(left / of_seed), CONFIRM_SEEDS[0]), CONFIRM_SEEDS[1])
            self._runner.write("budget.json", held)
        return held["confirm_seeds"]

    def spares(self, found: Sequence[Ranked], training: Training, left: int) -> bool:
        """Return whether a form that a regulariser was left out of can train without each of those that are left.

        Args:
            found: by the search.
            training: the form.
            left: how many regularisers it has.
        """

        def enough() -> int:
            seeds = len(self._runner.plan.confirm_seeds)
            fixed, tested = self._testing(found, seeds)
            without_each = left if left > 1 else 0  # without the only one: without any
            each = self._of_seed(without_each, seeds) + tested
            return int(self._rate_of(found) * seeds * (fixed + each * training.epochs) <= self._seconds_left(0))

        return bool(self._decided(f"{left}-left", enough))

    def _times(self, members: int) -> float:
        """Return how many times as long members take together as one does beside very many others."""
        chunks = math.ceil(members / self._at_once)
        if not chunks:
            return 0.0
        each, larger = divmod(members, chunks)
        return larger * (each + 1) * self._narrow(each + 1) + (chunks - larger) * each * self._narrow(each)

    @property
    def _at_once(self) -> int:
        return self._runner.at_once or _AT_ONCE

    def _narrow(self, together: float) -> float:
        """Return how many times as long each of so many takes that take steps together: threads share whole members."""
        threads = torch.get_num_threads()
        shared = max(together, threads * math.ceil(int(together) / threads))
        return (_BESIDE + shared) / together if self._models else 1.0

    def _wide_rate(self, chunks: Sequence[Chunk]) -> float:
        """Return the seconds of a member's epoch of such members, beside very many."""
        rates = [chunk.rate / self._narrow(chunk.members) for chunk in chunks]
        return fmean(rates, [chunk.members for chunk in chunks])

    def _decided(self, decision: str, decide: Callable[[], int]) -> int:
        held = _documents.budget(self._runner.folder) or {}
        beyond = held.get("beyond", {})
        if decision not in beyond:
            beyond = beyond | {decision: decide()}
            if held:
                self._runner.write("budget.json", held | {"beyond": beyond})
        return beyond[decision]

    @property
    def _pace(self) -> Pace:
        """That of the last training where such long ones are not planned, of all otherwise, which has starts in it."""
        lengths, last = self._runner.plan.lengths, self._runner.pace
        if last and lengths.longest > lengths.planned:
            return last
        return Pace(Chunk(frozenset(), float(self._at_once), self._runner.seconds_per_member_epoch))

    def _rate_of(self, found: Sequence[Ranked]) -> float:
        """Return the seconds of a member's epoch of what is confirmed, beside very many."""
        likely = best(found, SEARCH)[: max(_LIKELY, self._runner.plan.confirmed)]
        return min(map(self._wide_rate, self._pace.like([training.setting for training in likely])))

    def _seconds_left(self, fits: int | None = None) -> float:
        """Return the seconds that there are for training.

        Args:
            fits: of each simple model that the verdict still takes; None: all, on folds one for each seed.
        """
        plan, once = self._runner.plan, self._simple_seconds()
        for_verdict = (self._seeds if plan.scheme == "folds" else 1) if fits is None else fits
        simple = once * (for_verdict + bool(len(plan.data.test_rows)))
        left = self._budget - self._runner.seconds - (self._runner.began - self._began) - simple
        return left - spare(self._budget) - _STARTS * self._pace.start

    def _simple_seconds(self) -> float:
        """Return what fitting the simple models takes, measured once."""
        if self._simple is None:
            data = self._runner.plan.data
            self._simple = seconds_of_simple_models(simple_models(data), data)
        return self._simple

    def _finalists(self, found: Sequence[Ranked]) -> list[Training]:
        return best(found, SEARCH)[: self._runner.plan.confirmed]

    def _confirming(self, found: Sequence[Ranked], sparing: bool = False) -> tuple[float, float]:
        """Return the epochs that one seed's trainings take whatever the recommended one's length, and for each of its.

        Args:
            found: by the search.
            sparing: whether there is time for forms that a regulariser is left out of, and for these without each. A
                cocktail has it where longer trainings leave it.
        """
        plan = self._runner.plan
        most = max((len(regularisers(t.setting, plan.own_dropout)) for t in self._finalists(found)), default=0)
        parts = most if plan.rounds > 1 and not sparing else forms(most)
        fixed, tested = self._testing(found, self._seeds)
        each = self._of_seed(plan.confirmed + 1 + parts, self._seeds) + tested
        own, alone = best_calibrated(found, NONE), self._of_seed(1, self._seeds)
        if own is not None and own.epochs == max(rung.epochs for rung in found):  # it trains on with the search
            each += alone
        elif own is not None and own not in best(found, NONE)[:1]:
            fixed += alone * own.epochs
        return alone * sum(self._lengths(found)) + fixed, each

    def _of_seed(self, settings: int, seeds: int) -> float:
        """Return the part of each seed in what so many settings with so many seeds take together."""
        return self._times(settings * seeds) / seeds

    def _testing(self, found: Sequence[Ranked], seeds: int) -> tuple[float, float]:
        """Return likewise what is left after the recommended one's trainings without each of its regularisers.

        What is trained for the test rows has the validation rows, too.
        """
        plan, alone = self._runner.plan, self._of_seed(1, seeds)
        n_train = split(plan, plan.confirm_seeds[:1], again=True).n_train
        rows = alone * len(training_and_validation_rows(plan.data).train_rows) / n_train
        references = rows * sum(self._lengths(found)) * bool(len(plan.data.test_rows))
        calibrating = self._of_seed(n_calibration_folds(plan, self._runner.folder is not None), seeds)
        return references + 2 * alone * plan.lengths.usual, rows + calibrating

    def _lengths(self, found: Sequence[Ranked]) -> list[int]:
        stopped = NONE  # early, in a training of its own
        return [best(found, name)[0].epochs for name in (*self._runner.plan.families, stopped) if best(found, name)]
