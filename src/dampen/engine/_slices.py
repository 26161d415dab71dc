"""Slices of a population: members that train elsewhere, and come back as if they had trained here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from dampen.engine import _dataset, _snapshot
from dampen.engine._config import TrainConfig
from dampen.engine._history import Recorder, Span
from dampen.engine._model import Model
from dampen.engine._population import Population
from dampen.engine._snapshot import COUNTS
from dampen.engine.execution._active_knobs import ActiveKnobs
from dampen.engine.execution._program import Program
from dampen.engine.knobs import Setting


@dataclass(frozen=True)
class Part:
    """What a slice came to.

    Args:
        snapshot: everything that its members hold, `[S, M, ...]` of the slice.
        recorder: their learning curves so far.
    """

    snapshot: _snapshot.Snapshot
    recorder: Recorder

    @property
    def epoch(self) -> int:
        """Return how many epochs the members have trained for."""
        return int(self.snapshot.members["epoch"].flat[0])

    def only(self, seeds: list[int], settings: list[int]) -> "Part":
        """Return some of the members."""
        return Part(self.snapshot.only(seeds, settings), self.recorder.only(seeds, settings))


_OF_A_SLICE = 1  # in epochs of a member: what an epoch of a slice costs besides, for draws and between its steps

Programs = dict[Any, tuple[Program, tuple[str, str] | None]]
"""What trains slices of a population, and why not at once, by the shape of rows and the knobs inside a step."""


@dataclass(frozen=True)
class Slice:
    """Members of one chunk: every setting with every seed.

    A slice that is a whole chunk comes to the very numbers that its population would. So does one that was halved,
    where members are compiled each by itself; elsewhere, to the same but for rounding.

    Args:
        model: what makes the network.
        settings: the M settings.
        seeds: the S seeds.
        place: which seeds and settings of the population these are.
        row: shape of a row, and outputs.
        every_epoch: whether every epoch is recorded, as where a member of the population waits for its best one.
    """

    model: Model
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    place: Span
    row: tuple[tuple[int, ...], int]
    every_epoch: bool = False

    def __len__(self) -> int:
        return len(self.settings) * len(self.seeds)

    def train(
        self,
        sets: Sequence[_dataset.Sets],
        config: TrainConfig,
        part: Part | None = None,
        *,
        until: int,
        evaluate_every: int | None = None,
        programs: "Programs | None" = None,
    ) -> Part:
        """Train its members from where they are.

        Args:
            sets: the rows of each seed of the population.
            config: as for `Population.fit`.
            part: what they hold; None before their first epoch.
            until: as for `Population.fit`.
            evaluate_every: likewise.
            programs: of slices of the same population that have trained here; this one's is put in.
        """
        population = Population(self.model, list(self.settings), list(self.seeds), chunk=len(self))
        programs, key = {} if programs is None else programs, self.key
        population._program, population._why = programs.get(key, (None, None))
        if part is not None:
            every = [list(range(n)) for n in part.recorder.shape]
            population._row, population._recorder = self.row, part.recorder.only(*every)  # it may be read-only
            network = population._build(self.seeds[0], *self.row)
            population._networks = [network.to(part.snapshot.dtype)]
            population._places = [(slice(0, len(self.seeds)), slice(0, len(self.settings)))]
            population._chunks = _snapshot.scatter(
                part.snapshot, population._names, self.seeds, self.settings, population._places
            )
        every = 1 if self.every_epoch else evaluate_every
        population.fit(list(sets[self.place[0]]), config, until=until, evaluate_every=every)
        assert population._program is not None
        programs[key] = population._program, population._why
        return Part(
            _snapshot.gather(population._chunks, population._places, (len(self.seeds), len(self.settings))),
            population._recorder,
        )

    @property
    def key(self) -> Any:
        """What is common to slices that one program trains: shapes of rows, and the knobs inside a step."""
        return self.row, ActiveKnobs(self.settings).key

    def halves(self, alike: bool = False) -> "list[tuple[Slice, list[int], list[int]]]":
        """Return two slices with half of the members each, and which seeds and settings of this one they have.

        Args:
            alike: whether a program's step has to be the same for both as for this one; then none where that can't be.
        """
        S, M = len(self.seeds), len(self.settings)
        every_s, every_m = list(range(S)), list(range(M))
        by_settings = M > 1 and (S == 1 or M // 2 / M >= S // 2 / S)  # the more even one
        if alike and M > 1 and not self._alike(M // 2):
            if S == 1:
                return []
            by_settings = False
        if by_settings:
            cuts = [(every_s, every_m[: M // 2]), (every_s, every_m[M // 2 :])]
        else:
            cuts = [(every_s[: S // 2], every_m), (every_s[S // 2 :], every_m)]
        first_s, first_m = self.place[0].start, self.place[1].start
        return [
            (
                replace(
                    self,
                    seeds=tuple(self.seeds[i] for i in s),
                    settings=tuple(self.settings[i] for i in m),
                    place=(slice(first_s + s[0], first_s + s[-1] + 1), slice(first_m + m[0], first_m + m[-1] + 1)),
                ),
                s,
                m,
            )
            for s, m in cuts
        ]

    def _alike(self, m: int) -> bool:
        halves = (replace(self, settings=settings) for settings in (self.settings[:m], self.settings[m:]))
        return all(half.key == self.key for half in halves)


def cut(population: Population, model: Model, until: int) -> list[tuple[Slice, Part | None]]:
    """Return the chunks of a population that have not trained up to an epoch, each with what it holds.

    Args:
        population: made ready by `prepare`.
        model: what it was made with.
        until: the epoch.
    """
    assert population._row is not None
    patient = any(setting.get("patience") for setting in population.settings)
    found: list[tuple[Slice, Part | None]] = []
    for chunk, place in zip(population._chunks, population._places, strict=True):
        if chunk.epoch >= until:
            continue
        one = Slice(model, chunk.settings, chunk.seeds, place, population._row, patient)
        if not chunk.epoch and not chunk.batch:
            found.append((one, None))
            continue
        here = [(slice(0, len(one.seeds)), slice(0, len(one.settings)))]
        snapshot = _snapshot.gather([chunk], here, (len(one.seeds), len(one.settings)))
        s, m = (list(range(*span.indices(n))) for span, n in zip(place, population._recorder.shape, strict=True))
        found.append((one, Part(snapshot, population._recorder.only(s, m))))
    return found


def balanced(
    found: list[tuple[Slice, Part | None]], population: Population, workers: int, threads: int
) -> list[tuple[Slice, Part | None]]:
    """Return a population's chunks cut further until workers are about evenly loaded.

    They stay as they are where members' numbers depend on their chunk.

    Args:
        found: the chunks, as `cut` returns them.
        population: theirs.
        workers: that train them.
        threads: of a worker.
    """
    program = population._program
    if program is None or not all(chunk.separable(program) for chunk in population._chunks):
        return found
    # A member that is alone on several threads has them inside of its products, which then round otherwise.
    return _balanced(found, workers, 1 if threads == 1 else 2)


def _balanced(found: list[tuple[Slice, Part | None]], workers: int, fewest: int) -> list[tuple[Slice, Part | None]]:
    """Halve the largest slices as long as that may end sooner, and return the cut that ends first."""
    best, most = found, len(found) + 4 * workers
    while len(found) < most:
        largest = max(range(len(found)), key=lambda i: len(found[i][0]))
        one, part = found[largest]
        if len(one) < 2 * fewest:
            break
        halves = [(half, None if part is None else part.only(s, m)) for half, s, m in one.halves(alike=True)]
        if not halves:
            break
        found = [*found[:largest], *halves, *found[largest + 1 :]]
        if _ends([len(half) for half, _ in found], workers) < _ends([len(half) for half, _ in best], workers):
            best = found
    return best


def _ends(sizes: Sequence[int], workers: int) -> int:
    """Return when the last worker ends, in epochs of a member; whoever is free takes the largest slice that is left."""
    loads = [0] * workers
    for size in sorted(sizes, reverse=True):
        loads[loads.index(min(loads))] += size + _OF_A_SLICE
    return max(loads)


def join(population: Population, parts: Sequence[tuple[Slice, Part]]) -> None:
    """Give the members of a population what they came to elsewhere.

    Args:
        population: the slices' own.
        parts: slices with what they came to.
    """
    shape = population._recorder.shape
    held = _snapshot.gather(population._chunks, population._places, shape)
    latest = max(part.epoch for _, part in parts)
    for one, part in parts:
        epoch = (
            latest if part.snapshot.members["held"].all() else part.epoch
        )  # whose members have ended came back early
        for name, t in part.snapshot.tensors.items():
            held.tensors.setdefault(name, torch.zeros(*shape, *t.shape[2:], dtype=t.dtype))[one.place] = t
        for name, values in part.snapshot.members.items():
            held.members[name][one.place] = epoch if name == "epoch" else values
    for place in population._places:  # members that have ended count no steps where they were a slice of their own
        goes_on = np.argwhere(~held.members["held"][place])
        for name in COUNTS if len(goes_on) else ():
            values = held.members[name][place]
            values[...] = values[tuple(goes_on[0])]
    dtype = parts[0][1].snapshot.dtype
    population._recorder = _joined(population._recorder, parts)
    population._scatter(_snapshot.Snapshot(held.tensors, held.members, dtype), population._places)


def _joined(whole: Recorder, parts: Sequence[tuple[Slice, Part]]) -> Recorder:
    found = Recorder(whole.shape)
    found.diverged_at, found.stopped_at = whole.diverged_at.copy(), whole.stopped_at.copy()
    curves = dict(zip(whole.epochs, whole.closed, strict=True))
    for one, part in parts:
        found.diverged_at[one.place] = part.recorder.diverged_at
        found.stopped_at[one.place] = part.recorder.stopped_at
        for epoch, metrics in zip(part.recorder.epochs, part.recorder.closed, strict=True):
            of_epoch = curves.setdefault(epoch, {})
            for name, values in metrics.items():
                of_epoch.setdefault(name, np.full(whole.shape, np.nan))[one.place] = values
    found.epochs = sorted(curves)
    found.closed = [curves[epoch] for epoch in found.epochs]
    return found
