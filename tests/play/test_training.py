"""The training of a lesson: two settings with the same seeds, live quantities, and the process that runs it."""

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dampen.errors import InputError
from dampen.play._lesson import Lesson
from dampen.play._live import Failure, Live
from dampen.play._training import LessonTraining, Mark, lesson_training

SMALL = Lesson(n_points=50, n_seeds=2, width=4, depth=1, weight_decay=0.0, dropout=0.0)


def advanced(lesson, n_steps):
    training = LessonTraining(lesson)
    for _ in range(n_steps):
        training.advance()
    return training


def test_without_any_regularisation_both_settings_are_the_same_networks():
    snapshot = advanced(SMALL, 20).snapshot()
    assert snapshot.test[0] == snapshot.test[1]
    assert snapshot.pictures[0] == snapshot.pictures[1]
    assert abs(snapshot.difference.mean) < 1e-6
    assert snapshot.step == 20


def test_what_a_snapshot_shows_is_that_of_the_networks_alone():
    lesson = replace(SMALL, dropout=0.3, l1=0.01)
    training = advanced(lesson, 30)
    snapshot, points = training.snapshot(), training.points
    population = training._population
    for m, setting in enumerate(lesson.settings):
        losses, norms = [], []
        for seed in lesson.seeds:
            member = population.member(setting, seed)
            losses.append(F.cross_entropy(member(points.test_inputs), points.test_targets).item())
            norms.append(math.sqrt(sum(p.square().sum().item() for p in member.parameters() if p.ndim > 1)))
        band = snapshot.test[m]
        expected = [np.mean(losses), np.mean(losses) - np.std(losses), np.mean(losses) + np.std(losses)]
        np.testing.assert_allclose([band.mean[-1], band.low[-1], band.high[-1]], expected, atol=1e-4)
        np.testing.assert_allclose(snapshot.norm[m][-1], np.mean(norms), atol=1e-4)
    assert sum(snapshot.counts[0]) == pytest.approx(1, abs=0.01)


def test_a_live_quantity_goes_on_and_is_marked_and_another_starts_again():
    training = advanced(SMALL, 10)
    training.change(replace(SMALL, dropout=0.5))
    training.change(replace(SMALL, dropout=0.6))  # a slider that is drawn along leaves one mark
    snapshot = training.snapshot()
    assert snapshot.marks == (Mark(10, "dropout", 0.6),)
    assert snapshot.step == 10
    training.change(replace(SMALL, dropout=0.6, speed=10, surface="seeds"))
    assert len(training.snapshot().marks) == 1
    training.change(replace(SMALL, dropout=0.6, width=8))
    assert training.snapshot().step == 0
    assert training.snapshot().marks == ()


def test_the_units_that_are_shown_as_dropped_follow_the_rate():
    training = LessonTraining(replace(SMALL, dropout=0.9, width=16))
    assert 0 < sum(map(sum, training.snapshot().kept)) < 8
    training.change(replace(SMALL, dropout=0.0, width=16))
    assert all(map(all, training.snapshot().kept))


def test_curves_stay_short_however_long_the_training_is(monkeypatch):
    monkeypatch.setattr("dampen.play._training._LONGEST_CURVE", 10)
    training = LessonTraining(SMALL)
    snapshots = [training.snapshot()]
    for _ in range(100):
        training.advance()
        snapshots.append(training.snapshot())
    for step, snapshot in enumerate(snapshots):
        assert len(snapshot.steps) == len(snapshot.test[0].mean) <= 11
        assert snapshot.steps[0] == 0
        assert snapshot.steps[-1] == step
        assert snapshot.steps == sorted(set(snapshot.steps))


@pytest.mark.parametrize("surface", ["seeds", "dropout"])
def test_the_spread_over_dropout_masks_is_none_without_dropout(surface):
    pictures = advanced(replace(SMALL, surface=surface, dropout=0.5), 20).snapshot().pictures
    assert (pictures[0] == pictures[1]) is False
    if surface == "dropout":
        nothing = advanced(replace(SMALL, surface=surface), 20).snapshot().pictures
        assert nothing[0] == nothing[1] == pictures[0]


def test_a_training_that_diverges_is_told_and_drawn():
    training = advanced(replace(SMALL, points="curve", l1=1.0, lr=0.3, weight_decay=10.0), 5)
    with torch.no_grad():
        for tensor in training._population._chunks[0].state:
            tensor[0, 1] = math.nan
    for _ in range(10):
        training.advance()
    snapshot = training.snapshot()
    assert snapshot.diverged == (0, 1)
    assert snapshot.difference.verdict == "unknown"


def _refused():
    raise InputError("this can't be\ntrained")


def test_a_process_trains_takes_changes_and_ends_and_what_it_refuses_is_one_line():
    async def steer():
        live, seen, came = Live(lesson_training, SMALL), [], asyncio.Event()

        def show(snapshot):
            seen.append(snapshot)
            live.send("taken")
            came.set()

        await live.start(show)
        live.send("start")
        while not seen or seen[-1].step < 5:
            came.clear()
            await asyncio.wait_for(came.wait(), 60)
        live.change(replace(SMALL, dropout=0.5))
        while not seen[-1].marks:
            came.clear()
            await asyncio.wait_for(came.wait(), 60)
        live.end()
        await asyncio.to_thread(live._process.join, 10)
        assert not live._process.is_alive()

        refused: asyncio.Future = asyncio.get_running_loop().create_future()
        other = Live(_refused)
        await other.start(lambda failure: refused.done() or refused.set_result(failure))
        assert await asyncio.wait_for(refused, 60) == Failure("this can't be trained")

    asyncio.run(steer())
