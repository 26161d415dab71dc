"""Slices of a population that train apart and come back are the population that trained as one."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from dampen import Population, Setting, TrainConfig
from dampen.engine import _dataset
from dampen.engine._slices import Slice, _balanced, balanced, cut, join

pytestmark = pytest.mark.usefixtures("without_shape_checks")

SETTINGS = [
    Setting(weight_decay=0.2, dropout=0.3, lr=0.02),
    Setting(dropout=0.6),
    Setting(weight_decay=1.0),
    Setting(lr=1e30),  # diverges
    Setting(patience=2, lr=0.5),
    Setting(ema=0.9, dropout=0.1),
]
SEEDS = (3, 9)


def network():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def rows(n=53, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 6, generator=generator), torch.randint(3, (n,), generator=generator)


DATA = [{"train": rows(53, s), "validation": rows(20, 5 + s)} for s in range(2)]
CONFIG = TrainConfig(epochs=8, batch_size=8, lr=0.01)


def apart(population, until):
    """Train every slice by itself, as another process would: from what can be pickled."""
    population.prepare(DATA, CONFIG)
    sets = _dataset.of_seeds(DATA, len(SEEDS))
    parts = []
    for one, part in cut(population, network, until):
        there, held = pickle.loads(pickle.dumps((one, part)))
        parts.append((one, there.train(sets, CONFIG, held, until=until, evaluate_every=2)))
    join(population, parts)
    return population


@pytest.mark.parametrize(
    "chunk", [5, pytest.param(2, marks=pytest.mark.slow), pytest.param(12, marks=pytest.mark.slow)]
)
def test_slices_come_to_the_very_numbers_of_the_whole(chunk):
    whole = Population(network, SETTINGS, SEEDS, chunk=chunk)
    history = whole.fit(DATA, CONFIG, evaluate_every=2)
    sliced = Population(network, SETTINGS, SEEDS, chunk=chunk)
    apart(apart(sliced, 4), 8)
    for name, t in whole.state().items():
        torch.testing.assert_close(sliced.state()[name], t, rtol=0, atol=0, equal_nan=True)
    np.testing.assert_array_equal(history.epochs, sliced.history.epochs)
    np.testing.assert_array_equal(history.diverged_at, sliced.history.diverged_at)
    np.testing.assert_array_equal(history.stopped_at, sliced.history.stopped_at)
    for name, values in history.metrics.items():
        np.testing.assert_array_equal(values, sliced.history.metrics[name], err_msg=name)
    for mine, theirs in zip(sliced.outputs(rows(7, 9)), whole.outputs(rows(7, 9)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True)


def without_batch_norm():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


@pytest.mark.parametrize(
    ("settings", "clip", "sizes"),
    [
        ([*SETTINGS[:-1], Setting()], None, [6, 6]),
        (SETTINGS[:1], None, [1, 1]),  # whose seeds part
        ([Setting(lr=1e38), Setting(lr=2e38), Setting(), Setting(lr=0.02)], None, [4, 4]),  # half of which ends at once
        ([Setting(label_smoothing=0.1), Setting(lr=0.02), Setting(label_smoothing=0.2), Setting()], None, [4, 4]),
        ([Setting(label_smoothing=0.1), Setting()], None, [2, 2]),  # by seeds: a step without smoothing is another one
        ([*SETTINGS[:-1], Setting(l1=0.1, ema=0.9)], None, [6, 6]),
        ([*SETTINGS[:-1], Setting(max_norm=1.0)], None, [12]),
        (SETTINGS[:2], 1.0, [4]),
    ],
)
def test_chunks_are_cut_for_workers_where_their_members_come_to_the_same_bits(settings, clip, sizes):
    how = {"optimizer": "adam", "lr": 0.01, "clip_grad_norm": clip, "compile": True, "device": "cpu"}
    config = TrainConfig(epochs=4, batch_size=8, **how)
    whole, sliced = (Population(without_batch_norm, settings, SEEDS, chunk=12) for _ in range(2))
    whole.fit(DATA, config)
    sets = _dataset.of_seeds(DATA, len(SEEDS))
    for until in (2, 4):
        sliced.prepare(DATA, config)
        found = balanced(cut(sliced, without_batch_norm, until), sliced, workers=2, threads=1)
        assert sorted(len(one) for one, _ in found) == sizes
        join(sliced, [(one, one.train(sets, config, part, until=until, evaluate_every=1)) for one, part in found])
    for name, t in whole.state().items():
        torch.testing.assert_close(sliced.state()[name], t, rtol=0, atol=0, equal_nan=True)
    for name, values in whole.history.metrics.items():
        np.testing.assert_array_equal(values, sliced.history.metrics[name], err_msg=name)


@pytest.mark.parametrize(
    ("settings", "seeds", "workers", "expected"),
    [(24, 1, 2, [12, 12]), (9, 1, 2, [4, 5]), (1, 3, 2, [1, 2]), (3, 5, 2, [6, 9]), (5, 1, 1, [5]), (2, 1, 8, [1, 1])],
)
def test_slices_load_workers_evenly_and_are_no_finer_than_that_takes(settings, seeds, workers, expected):
    place = slice(0, seeds), slice(0, settings)
    every = [Setting(weight_decay=0.1 * k) for k in range(settings)]
    whole = Slice(network, tuple(every), tuple(range(seeds)), place, ((6,), 3))
    assert sorted(len(one) for one, _ in _balanced([(whole, None)], workers, 1)) == expected


def test_halved_slices_are_the_whole_but_for_rounding_and_go_on_here():
    config = TrainConfig(epochs=8, batch_size=8, lr=0.01, precision="float64")
    whole, sliced = (Population(network, SETTINGS[:3], SEEDS, chunk=6) for _ in range(2))
    whole.fit(DATA, config)
    sliced.fit(DATA, config, until=2)
    sets = _dataset.of_seeds(DATA, len(SEEDS))
    parts = []
    for one, part in cut(sliced, network, 5):
        for piece, s, m in one.halves():
            parts.append((piece, piece.train(sets, config, part.only(s, m), until=5)))
    assert [len(piece) for piece, _ in parts] == [3, 3]
    join(sliced, parts)
    sliced.fit(DATA, config)
    for name, t in whole.state().items():
        assert (sliced.state()[name] - t).double().norm() <= 1e-9 * t.double().norm()
