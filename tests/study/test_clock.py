"""What a budget still allows while its study trains: how long trainings last, and how many seeds confirm."""

import math
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import dampen
from dampen.engine import worth_compiling
from dampen.engine.knobs import Setting
from dampen.search import SEARCH, Ranked, Training
from dampen.study import _documents
from dampen.study._clock import Clock
from dampen.study._defaults import Lengths
from dampen.study._pace import Chunk, Pace
from dampen.study._phases import n_calibration_folds
from dampen.study._runner import Runner as DampenRunner
from dampen.study._storage import Folder

pytestmark = pytest.mark.usefixtures("without_shape_checks")

BEST = Setting(lr=0.01, weight_decay=0.1, dropout=0.2)
PLAIN = Setting(lr=0.01, weight_decay=0.0, dropout=0.0)


def ranked(family: str, epochs: int, *settings: Setting) -> Ranked:
    n = len(settings)
    return Ranked("r", family, 0, epochs, settings, tuple(float(k) for k in range(n)), ((1, 1.0),) * n)


FOUND = [ranked(SEARCH, 20, BEST), ranked("none", 10, PLAIN)]


def times(members: int) -> float:
    """How many times as long members take together, 16 at once on two cores, as one does beside very many others."""
    chunks = np.array_split(np.arange(members), math.ceil(members / 16))
    return sum(1 + 2 * math.ceil(len(chunk) / 2) for chunk in chunks)


# of one of four seeds: the recommended one, without each of two, without all, and for the test rows, which has a
# quarter more rows; the reference and its stopped form, twice, and two of the usual length
RATE = 16 / times(16)  # of a member's epoch beside very many others
ALONE = times(4) / 4
TESTED, FIXED = ALONE * 1.25, ALONE * ((1 + 1.25) * 2 * 10 + 2 * 5)
EACH = times(16) / 4 + TESTED


class Runner:
    """A runner that has trained for so many seconds, one for an epoch of a member."""

    def __init__(self, seconds: float, folder: Folder | None = None, lengths: Lengths | None = None, **of_plan: Any):
        numbers = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32)
        data = dampen.from_arrays(numbers, numbers[:, 0], test_fraction=1 / 6)  # 100 rows train, 80 of them in a fold
        self.plan = SimpleNamespace(
            data=data,
            seed=0,
            seeds=(0,),
            scheme="folds",
            families={"none": (PLAIN,)},
            lengths=lengths or Lengths(2, 5, 10, 320),
            confirmed=1,
            rounds=4,
            confirm_seeds=(0, 1, 2, 3),
            own_dropout=False,
            calibrates_ensembles=False,
        )
        vars(self.plan).update(of_plan)
        self.seconds, self.folder, self.seconds_per_member_epoch, self.began = seconds, folder, 1.0, 5.0
        self.pace: Pace | None = None
        self.at_once = 0

    def write(self, name: str, value: Any) -> None:
        if self.folder is not None:
            self.folder.write_json(name, value)


@pytest.fixture(autouse=True)
def _a_machine_without_simple_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dampen.study._clock.seconds_of_simple_models", lambda *_: 0.0)
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)


def clock(left: float, folder: Folder | None = None, **of_plan: Any) -> Clock:
    """A clock of a budget of 10,000 seconds, 3 % of which are kept, with so many left."""
    runner: Any = Runner(9700 - left - 3.0, folder, **of_plan)
    return Clock(runner, 10_000.0, 2.0)  # it began 3 seconds before the runner did


def needed(longest: int, members: int, seeds: int = 4) -> float:
    return RATE * (times(members) * longest + seeds * (FIXED + EACH * longest))


def test_a_training_lasts_twice_as_long_and_the_last_one_as_long_as_there_is_time():
    assert clock(needed(50, 3) + 1).lasting("a", FOUND, 20, 320, 3) == 40
    assert clock(needed(49, 3) + 1).lasting("a", FOUND, 20, 320, 3) == 49  # twice would leave no time for clearly more
    assert clock(needed(49, 3) + 1).lasting("a", FOUND, 20, 45, 3) == 45
    assert clock(needed(33, 3) + 1).lasting("a", FOUND, 20, 320, 3) == 33
    assert clock(needed(22, 3) + 1).lasting("a", FOUND, 20, 320, 3) == 22
    assert clock(needed(21, 3) + 1).lasting("a", FOUND, 20, 320, 3) == 0  # hardly longer than before
    assert clock(-100.0).lasting("a", FOUND, 20, 320, 3) == 0
    assert clock(1e5).lasting("a", [ranked("none", 10, PLAIN)], 10, 320, 1) == 20  # all that was searched diverged


def test_a_round_is_as_large_as_leaves_time_to_confirm_what_follows():
    confirming = RATE * 4 * (FIXED + EACH * 30)

    def left(members: int) -> float:
        return confirming + RATE * times(members) * 20

    assert clock(left(16) + 1).affords("a", FOUND, 20, 30, 16) == 16
    assert clock(left(16) - 1).affords("a", FOUND, 20, 30, 16) == 14  # 15 take as long as 16
    assert clock(left(16) + 1).affords("a", FOUND, 20, 30, 16, beside=4) == 12
    assert clock(left(6) + 1).affords("a", FOUND, 20, 30, 16) == 6  # by the time that so many take
    assert clock(left(6) - 1).affords("a", FOUND, 20, 30, 16) == 0  # too few to look around
    assert clock(left(4) + 1).affords("a", FOUND, 20, 30, 4) == 4
    assert clock(left(4) - 1).affords("a", FOUND, 20, 30, 4) == 0


def test_no_regularisation_under_temperatures_takes_its_part():
    def calibrated(epochs: int, *costs: float) -> Ranked:
        return replace(ranked("none", epochs, PLAIN), calibrated=costs)

    fixed, each = clock(1e4)._confirming(FOUND)
    assert (fixed, each) == pytest.approx((FIXED, EACH))
    assert clock(1e4)._confirming([FOUND[0], calibrated(10, 0.5)]) == pytest.approx((FIXED, EACH))  # it is the same
    longer = [FOUND[0], calibrated(10, 0.5), replace(calibrated(15, 0.4), costs=(9.0,))]
    assert clock(1e4)._confirming(longer) == pytest.approx((FIXED + ALONE * 15, EACH))
    going = [*longer, replace(calibrated(20, 0.3), costs=(9.0,))]
    assert clock(1e4)._confirming(going) == pytest.approx((FIXED, EACH + ALONE))  # as long as the search's


def of_all(rate: float, members: float) -> Chunk:
    return Chunk(frozenset(), members, rate)


def test_the_rate_is_that_of_the_longest_trainings_where_such_are_not_planned():
    runner: Any = Runner(100.0)
    here = Clock(runner, 10_000.0, 2.0)
    left = here._seconds_left()
    assert (here._pace, here._rate_of(FOUND)) == (Pace(of_all(1.0, 16.0)), RATE)
    runner.pace = Pace(of_all(2.0, 9.0), 9, 10.0)  # with a start, for the compiler
    assert (here._pace, here._rate_of(FOUND)) == (runner.pace, pytest.approx(2.0 * 9 / times(9)))
    assert here._seconds_left() == left - 2 * 10.0
    runner.plan.lengths = Lengths(2, 5, 10, 10)
    assert (here._pace, here._seconds_left()) == (Pace(of_all(1.0, 16.0)), left)  # which starts are part of


def test_what_is_confirmed_takes_as_long_as_chunks_that_did_as_much():
    noisy = Setting(lr=0.01, weight_decay=0.1, input_noise=0.1)
    found = [ranked(SEARCH, 20, BEST, noisy), FOUND[1]]  # one of both will be confirmed
    chunks = [({"mixup", "input_noise"}, 6, 1.5), ({"mixup", "input_noise", "cutmix"}, 10, 2.5), (set(), 8, 1.0)]
    pace = Pace(of_all(2.0, 8.0), 10, 0.0, tuple(Chunk(frozenset(k), float(n), rate) for k, n, rate in chunks))
    rate = 1.5 * 6 / times(6)
    confirming = rate * 4 * (FIXED + EACH * 25)
    lasting = clock(confirming + rate * times(3) * 25 + 1)
    affordable = clock(confirming + 2.0 * 8 / times(8) * times(10) * 20 + 1)
    lasting._runner.pace = affordable._runner.pace = pace
    assert lasting.lasting("a", found, 20, 320, 3) == 25
    wide = Chunk(frozenset({"input_noise", "l1", "ema"}), 16.0, rate * times(16) / 16 / 2)
    faster = clock(confirming / 2 + rate * times(3) * 25 / 2 + 1)  # that turned more, and yet took half as long
    faster._runner.pace = pace.beside(Pace(wide, 16, 0.0, (wide,)))
    assert faster.lasting("a", found, 20, 320, 3) == 25
    assert affordable.affords("a", found, 20, 25, 16) == 10  # by the mean of all


def test_members_that_train_one_by_one_take_as_long_each_whatever_their_number():
    one_by_one = clock(9000.0)
    one_by_one._runner.at_once = 1
    one_by_one._runner.pace = Pace(of_all(2.0, 1.0), 1)
    rate = one_by_one._rate_of(FOUND)
    assert [rate * one_by_one._times(n) for n in (0, 1, 3, 20)] == pytest.approx([0.0, 2.0, 6.0, 40.0])


def test_few_members_leave_cores_idle(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 16)
    assert [clock(1.0)._times(n) for n in (1, 3, 4, 16)] == [17, 17, 17, 17]
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    assert [clock(1.0)._times(n) for n in (1, 2, 3, 4, 16)] == [3, 3, 5, 5, 17]  # three are two, and one alone


def test_a_budget_that_may_train_for_long_compiles_its_short_trainings_too():
    runner: Any = Runner(100.0, lengths=Lengths(2, 5, 5, 320))
    runner.plan.training = dampen.TrainConfig(epochs=1, batch_size=32)
    long = DampenRunner._long.fget
    assert long is not None
    assert [worth_compiling(n * 4) for n in (5, 80)] == [False, True]  # 100 rows are 4 steps
    runner.plan.budget = 10_000.0
    assert long(runner)
    runner.plan.budget = None
    assert not long(runner)


def test_as_many_seeds_confirm_as_there_is_time_for():
    # with time to leave one of two out, and to train without the other
    of_seed = RATE * (FIXED + (times(20) / 4 + TESTED) * 20)
    assert clock(7.5 * of_seed).confirm_seeds(FOUND) == 7
    assert clock(0.0).confirm_seeds(FOUND) == 3
    assert clock(9000.0, lengths=Lengths(1, 1, 1, 1)).confirm_seeds([ranked(SEARCH, 1, PLAIN)]) == 200


@pytest.mark.parametrize(("scheme", "fits"), [("folds", 5), ("held-out", 2)])
def test_the_simple_models_of_the_verdict_and_of_the_test_rows_take_their_time(monkeypatch, scheme, fits):
    monkeypatch.setattr("dampen.study._clock.seconds_of_simple_models", lambda *_: 10.0)
    one = clock(1000.0, scheme=scheme)
    assert one._seconds_left() == pytest.approx(1000.0 - 10.0 * fits)  # on folds of each of four seeds
    one._runner.plan.data = replace(one._runner.plan.data, test_rows=one._runner.plan.data.test_rows[:0])
    assert one._seconds_left() == pytest.approx(1000.0 - 10.0 * (fits - 1))


def test_folds_that_calibrate_take_time_where_a_study_is_kept(tmp_path):
    fixed, each = clock(1.0, calibrates_ensembles=True)._testing(FOUND, 4)
    kept = clock(1.0, Folder(tmp_path), calibrates_ensembles=True)
    assert n_calibration_folds(kept._runner.plan) == 8  # tenths of 100 rows, of which four seeds leave out 80
    assert kept._testing(FOUND, 4) == (fixed, pytest.approx(each + times(32) / 4))
    assert n_calibration_folds(clock(1.0, calibrates_ensembles=True, confirm_seeds=range(40))._runner.plan) == 10


def test_a_part_is_left_out_where_there_is_time_for_what_that_takes():
    each = times(8) / 4 + TESTED
    without_it = RATE * 4 * (ALONE * (1.25 * 2 * 10 + 2 * 5) + each * 20)
    training = Training(Setting(lr=0.01, dropout=0.2), 20)
    assert clock(without_it + 1).spares(FOUND, training, 2)
    assert not clock(without_it - 1).spares(FOUND, training, 2)
    assert clock(without_it - RATE * times(8) * 20 + 1).spares(
        FOUND, training, 1
    )  # without the only one it has trained


def test_other_studies_have_time_for_every_form_and_more_seeds_confirm():
    assert clock(7.5 * (22.5 * 2 + 10 + 6.25 * 20), rounds=1).confirm_seeds(FOUND) == 7


def test_what_is_decided_holds_for_a_resumed_study(tmp_path):
    folder = Folder(tmp_path)
    folder.write_json("budget.json", {"settings": 8, "seeds": 1, "lengths": vars(Lengths(2, 5, 10, 320))})
    first = clock(needed(50, 3) + 1, folder)
    assert first.lasting("search-longer-1", FOUND, 20, 320, 3) == 40
    assert not clock(0.0, folder).affords("search-around-2", FOUND, 40, 80, 16)
    seeds = clock(7.5 * RATE * (FIXED + (times(20) / 4 + TESTED) * 20), folder).confirm_seeds(FOUND)
    later = clock(0.0, folder)
    assert later.lasting("search-longer-1", FOUND, 20, 320, 3) == 40
    assert later.lasting("search-longer-2", FOUND, 40, 320, 3) == 0
    assert not clock(9000.0, folder).affords("search-around-2", FOUND, 40, 80, 16)
    assert later.confirm_seeds(FOUND) == seeds == 7
    held = _documents.budget(folder)
    assert held is not None
    assert held["beyond"] == {"search-longer-1": 40, "search-around-2": 0, "search-longer-2": 0}


def test_a_cocktail_in_a_budget_trains_longer_while_there_is_time_and_goes_on_the_same(tmp_path):
    words: dict[str, Any] = {"cocktail": True, "budget": 12.0, "n_settings": 16, "n_confirm_seeds": 2}
    study = dampen.tune(dampen.tabular(8), dampen.load("wine"), out=tmp_path / "a", **words)
    lengths = study.plan.lengths
    assert lengths.longest > lengths.planned
    beyond = [rung for rung in study.ranked if rung.epochs > lengths.planned]
    held = _documents.budget(Folder(tmp_path / "a"))
    assert held is not None
    longer = re.compile(r"search-longer-\d+(-crossed|-left-out)?")
    lasting = {name: epochs for name, epochs in held["beyond"].items() if longer.fullmatch(name)}
    assert {rung.epochs for rung in beyond} == {epochs for epochs in lasting.values() if epochs}
    assert study.plan.confirmed == 1
    assert study.verdict.length.doubled is None
    assert study.seconds < 2 * 12.0  # on a busy machine, too
    again = dampen.tune(dampen.tabular(8), dampen.load("wine"), out=tmp_path / "a", resume=True, **words)
    assert again.document()["recommended"] == study.document()["recommended"]
    assert [vars(rung) for rung in again.ranked] == [vars(rung) for rung in study.ranked]
