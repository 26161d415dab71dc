"""What a budget still allows while its study trains."""

from collections.abc import Callable, Sequence

from dampen.data import training_and_validation_rows
from dampen.search import SEARCH, Ranked, Training, best
from dampen.study import _documents
from dampen.study._budget import CONFIRM_SEEDS, full_trainings, seconds_of_simple_models, spare
from dampen.study._confirmation import simple_models
from dampen.study._phases import n_calibration_folds, split
from dampen.study._references import NONE, regularisers
from dampen.study._runner import Runner

_FEW = 6  # new settings, of which fewer are no round around the best one
_WORTH = 1.25  # times as long as before: a training that may not last longer is not begun


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
            lasting = int((self._member_epochs_left() - self._seeds * fixed) / (members + self._seeds * each))
            following = 2 * epochs if lasting >= 2 * _WORTH * epochs else lasting
            return min(following, longest) if following >= _WORTH * epochs else 0

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
            left = self._member_epochs_left() - self._seeds * (fixed + each * following)
            affordable = min(members, int(left / epochs) - beside)
            return affordable if affordable >= min(members, _FEW) else 0

        return self._decided(decision, most)

    def confirm_seeds(self, found: Sequence[Ranked]) -> int:
        """Return how many confirming seeds the seconds that are left allow."""
        held = _documents.budget(self._runner.folder) or {}
        if "confirm_seeds" not in held:
            fixed, each = self._confirming(found)
            longest = max(training.epochs for training in self._finalists(found))
            folds = self._runner.plan.scheme == "folds"  # which the simple models are fitted for, too
            of_seed = fixed + each * longest + self._simple_seconds() / self._rate * folds
            held["confirm_seeds"] = min(
                max(int(self._member_epochs_left() / of_seed), CONFIRM_SEEDS[0]), CONFIRM_SEEDS[1]
            )
            self._runner.write("budget.json", held)
        return held["confirm_seeds"]

    def _decided(self, decision: str, decide: Callable[[], int]) -> int:
        held = _documents.budget(self._runner.folder) or {}
        beyond = held.get("beyond", {})
        if decision not in beyond:
            beyond = beyond | {decision: decide()}
            if held:
                self._runner.write("budget.json", held | {"beyond": beyond})
        return beyond[decision]

    @property
    def _rate(self) -> float:
        """Seconds of a member's epoch: of the longest trainings where they are not planned, of all otherwise."""
        lengths, last = self._runner.plan.lengths, self._runner.last_rate
        return last if last and lengths.longest > lengths.planned else self._runner.seconds_per_member_epoch

    def _member_epochs_left(self) -> float:
        """Return how many epochs of a member there is time for."""
        simple = self._simple_seconds()
        left = self._budget - self._runner.seconds - (self._runner.began - self._began) - simple
        return (left - spare(self._budget)) / self._rate

    def _simple_seconds(self) -> float:
        """Return what fitting the simple models for the test rows takes, measured once."""
        if self._simple is None:
            data = self._runner.plan.data
            self._simple = seconds_of_simple_models(simple_models(data), data)
        return self._simple

    def _finalists(self, found: Sequence[Ranked]) -> list[Training]:
        return best(found, SEARCH)[: self._runner.plan.confirmed]

    def _confirming(self, found: Sequence[Ranked]) -> tuple[float, float]:
        """Return the epochs that one seed's trainings take whatever the recommended one's length, and for each of its.

        What is trained for the test rows has the validation rows, too.
        """
        plan = self._runner.plan
        stopped = NONE  # early, in a training of its own
        lengths = [best(found, name)[0].epochs for name in (*plan.families, stopped) if best(found, name)]
        most = max((len(regularisers(t.setting, plan.own_dropout)) for t in self._finalists(found)), default=0)
        n_train = split(plan, plan.confirm_seeds[:1], again=True).n_train
        rows = len(training_and_validation_rows(plan.data).train_rows) / n_train
        tested = rows * bool(len(plan.data.test_rows))
        each = full_trainings(plan.confirmed, most) - 1 + rows + n_calibration_folds(plan)
        return (1 + tested) * sum(lengths) + 2 * plan.lengths.usual, each
