"""How long epochs took: the first one's compiler is no measure, and each chunk pays for its own knobs."""

from types import SimpleNamespace

import pytest

from dampen.engine import ChunkDone
from dampen.engine.knobs import Setting
from dampen.study._pace import Chunk, Pace, Timed

MIXED = (Setting(mixup=0.2), Setting(input_noise=0.1, l1=0.1))
PLAIN = (Setting(lr=0.1), Setting(weight_decay=0.2))


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr("time.perf_counter", lambda: now.seconds)
    return now


def chunk(epoch: int, number: int, settings: tuple[Setting, ...], seconds: float) -> ChunkDone:
    return ChunkDone(epoch, 3, number, 2, settings, (0,), {}, seconds)


def test_a_first_epoch_that_waits_for_the_compiler_is_no_measure_of_the_others(now):
    timed = Timed(20.0, 4)
    assert timed.pace(20.0) is None
    now.seconds = 105.0
    timed.saw(None, 22.0)  # half an epoch
    assert timed.pace(22.0) == Pace(2.5, 4.0)  # nothing else is known yet
    now.seconds = 110.0
    timed.saw(None, 24.0)
    now.seconds = 111.0
    timed.saw(None, 28.0)
    assert timed.pace(28.0) == Pace(0.25, 4.0, 11 - 8 * 0.25)


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
    assert pace.rate == pytest.approx(22 / 8)  # two epochs of four members, and three checkpoints
    assert pace.members == 2.0
    assert [(chunk.knobs, chunk.members) for chunk in pace.chunks] == [({"mixup", "input_noise"}, 2), (set(), 2)]
    assert [chunk.rate for chunk in pace.chunks] == pytest.approx([22 / 8 * 3 / 2, 22 / 8 / 2])


def test_what_turns_few_knobs_inside_a_step_is_as_fast_as_the_fastest_chunk_that_turned_them():
    pace = Pace(3.0, 8.0, 0.0, (Chunk(frozenset({"mixup", "input_noise"}), 8, 4.0), Chunk(frozenset(), 8, 1.0)))
    assert pace.of(PLAIN) == 1.0
    assert pace.of([Setting(mixup=0.3), Setting(lr=0.1)]) == 4.0
    assert pace.of([Setting(cutmix=0.3)]) == 3.0  # no chunk did
    assert Pace(3.0, 8.0).of(PLAIN) == 3.0


def test_a_step_takes_time_whatever_its_members_so_that_many_are_faster_each():
    pace = Pace(3.0, 8.0, 0.0, (Chunk(frozenset(), 4, 1.0), Chunk(frozenset(), 16, 0.9)))
    assert pace.of(PLAIN, beside=2.0) == pytest.approx(1.0 / 1.5)
    assert Pace(3.0, 8.0).of(PLAIN, beside=2.0) == pytest.approx(3.0 / 1.25)


def test_workers_do_not_say_which_settings_a_chunk_holds():
    timed = Timed(0.0, 2)
    for epoch in (1, 2, 3):
        timed.saw(chunk(epoch, 1, (), 1.0), 2.0 * epoch)
    pace = timed.pace(6.0)
    assert pace is not None
    assert pace.chunks == ()
