"""How long epochs took: the first one's compiler is no measure, and each chunk pays for its own knobs."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import dampen
from dampen.engine import ChunkDone
from dampen.engine.knobs import Setting
from dampen.study._pace import Chunk, Pace, Timed, that_take_time

MIXED = (Setting(mixup=0.2), Setting(input_noise=0.1, l1=0.1))
PLAIN = (Setting(lr=0.1), Setting(weight_decay=0.2))


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr("time.perf_counter", lambda: now.seconds)
    return now


def of_all(rate: float, members: float) -> Chunk:
    return Chunk(frozenset(), members, rate)


def chunk(epoch: int, number: int, settings: tuple[Setting, ...], seconds: float, loss: Any = None) -> ChunkDone:
    return ChunkDone(epoch, 3, number, 2, settings, (0,), {} if loss is None else {"train_loss": loss}, seconds)


def test_a_first_epoch_that_waits_for_the_compiler_is_no_measure_of_the_others(now):
    timed = Timed(20.0, 4)
    assert timed.pace(20.0) is None
    now.seconds = 105.0
    timed.saw(None, 22.0)  # half an epoch
    assert timed.pace(22.0) == Pace(of_all(2.5, 4.0))  # nothing else is known yet
    now.seconds = 110.0
    timed.saw(None, 24.0)
    now.seconds = 111.0
    timed.saw(None, 28.0)
    assert timed.pace(28.0) == Pace(of_all(0.25, 4.0), 0, 11 - 8 * 0.25)


def test_each_chunk_has_a_rate_of_its_own_with_its_share_of_what_is_done_between_chunks(now):
    timed, trained = Timed(0.0, 4), 0.0
    for epoch in (1, 2, 3):
        for number, settings, seconds in ((1, MIXED, 6.0), (2, PLAIN, 2.0)):
            now.seconds += seconds + (50.0 if epoch == 1 else 0.0)
            trained += 2
            timed.saw(chunk(epoch, number, settings, seconds + (50.0 if epoch == 1 else 0.0)), trained)
        now.seconds += 2.0  # a checkpoint
    pace = timed.pace(trained)
    assert pace is not None
    assert pace.whole.rate == pytest.approx(22 / 8)  # two epochs of four members, and three checkpoints
    assert (pace.whole.members, pace.largest) == (2.0, 2)
    assert [(chunk.knobs, chunk.members) for chunk in pace.chunks] == [({"mixup", "input_noise", "l1"}, 2), (set(), 2)]
    assert [chunk.rate for chunk in pace.chunks] == pytest.approx([22 / 8 * 3 / 2, 22 / 8 / 2])


def test_a_chunk_whose_members_have_all_diverged_is_no_measure(now):
    timed = Timed(0.0, 4)
    for epoch, loss in ((1, 0.5), (2, np.nan), (3, np.nan)):
        for number, settings, seconds in ((1, MIXED, 2.0), (2, PLAIN, 2.0 if epoch == 1 else 0.01)):
            now.seconds += seconds
            of = np.array([[loss if number == 2 else 0.1, np.nan]])  # of the first chunk one has
            timed.saw(chunk(epoch, number, settings, seconds, of), 4.0 * (epoch - 1) + 2 * number)
    pace = timed.pace(12.0)
    assert pace is not None
    assert [each.knobs for each in pace.chunks] == [{"mixup", "input_noise", "l1"}]


def some(*knobs: str, members: float, rate: float) -> Chunk:
    return Chunk(frozenset(knobs), members, rate)


def test_what_turns_few_knobs_takes_no_longer_than_chunks_that_turned_more():
    mixed, smoothed = some("mixup", "input_noise", members=8.0, rate=4.0), some("mixup", members=6.0, rate=3.0)
    plain = some(members=8.0, rate=1.0), some(members=4.0, rate=1.2)
    pace = Pace(of_all(2.5, 7.0), 8, 0.0, (mixed, smoothed, *plain))
    assert pace.like(PLAIN) == [(mixed,), (smoothed,), plain]
    assert pace.like([Setting(mixup=0.3), Setting(lr=0.1)]) == [(mixed,), (smoothed,)]
    assert pace.like([Setting(mixup=0.3), Setting(input_noise=0.1)]) == [(mixed,)]
    assert pace.like([Setting(cutmix=0.3)]) == [(of_all(2.5, 7.0),)]  # no chunk did
    assert pace.like([Setting(mixup=0.3, ema=0.9)]) == [(smoothed,)]  # nor that, but what takes longer did a part of it
    assert Pace(of_all(2.5, 7.0)).like(PLAIN) == [(of_all(2.5, 7.0),)]


def test_few_members_are_no_measure_of_a_round_but_of_what_trains_like_them():
    mixed, plain = some("mixup", members=8.0, rate=3.0), some(members=2.0, rate=1.5)
    pace = Pace(of_all(2.5, 8.0), 8, 0.0, (mixed,)).beside(Pace(of_all(1.5, 2.0), 2, 9.0, (plain,)))
    assert pace == Pace(of_all(2.5, 8.0), 8, 0.0, (mixed, plain))
    assert pace.like(PLAIN) == [(mixed,), (plain,)]


def test_knobs_that_take_no_time_of_their_own():
    settings = [Setting(lr=0.1, weight_decay=0.2, dropout=0.1, decay_start=0.5, ema=0.9), Setting(mixup=0.0, l1=0.1)]
    assert that_take_time(settings) == {"ema", "l1"}


def test_a_study_times_the_chunks_of_its_search(tmp_path, monkeypatch):
    paces: list[Pace] = []
    pace = Timed.pace

    def kept(self: Timed, trained: float) -> Pace | None:
        found = pace(self, trained)
        paces.extend([] if found is None else [found])
        return found

    monkeypatch.setattr(Timed, "pace", kept)
    space = {"weight_decay": dampen.LogUniform(0.01, 1.0), "input_noise": [0.1, 0.2], "decay_start": [0.5]}
    dampen.tune(dampen.tabular(4), dampen.load("wine"), space, n_settings=8, n_seeds=1, epochs=6, n_confirm_seeds=2)
    assert all(each.largest == sum(chunk.members for chunk in each.chunks) for each in paces)
    assert max(each.largest for each in paces) >= 8
    assert all(
        "input_noise" in chunk.knobs and "decay_start" not in chunk.knobs for each in paces for chunk in each.chunks
    )
    assert all(chunk.rate == pytest.approx(each.whole.rate) for each in paces for chunk in each.chunks)
