"""How long epochs took of members that trained together."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from dampen.engine import ChunkDone
from dampen.engine.knobs import KNOBS, Scales, Setting, turned


@dataclass(frozen=True)
class Chunk:
    """Members that took steps together.

    Args:
        knobs: that they turned and that take time.
        members: how many they were.
        rate: seconds of a member's epoch.
    """

    knobs: frozenset[str]
    members: float
    rate: float


@dataclass(frozen=True)
class Pace:
    """What a training took, its first epoch, which may wait for the compiler, aside if there were more.

    Args:
        whole: all members, with how many took steps together in the mean.
        largest: members that took steps together at most; 0 where that is unknown.
        start: seconds that the first epoch took beyond the others.
        chunks: the parts that took steps together, those aside whose members had all diverged.
    """

    whole: Chunk
    largest: int = 0
    start: float = 0.0
    chunks: tuple[Chunk, ...] = ()

    def beside(self, few: "Pace") -> "Pace":
        """Return this pace with the chunks of another one beside its own."""
        return replace(self, chunks=(*self.chunks, *few.chunks))

    def like(self, settings: Sequence[Setting]) -> list[tuple[Chunk, ...]]:
        """Return chunks that take at least as long, for each member, as such settings do, by the knobs they turned.

        Each member of a chunk pays for what one of them turns, so that the mean of all is too much for few knobs.
        They are the chunks that turned all knobs that these settings turn, and perhaps others: the fastest says most.
        Without any, all members, or chunks with a part of these knobs where they take longer than that.
        """
        knobs = that_take_time(settings)
        alike = [chunk for chunk in self.chunks if chunk.knobs >= knobs]
        if alike:
            kinds = dict.fromkeys(chunk.knobs for chunk in alike)
            return [tuple(chunk for chunk in alike if chunk.knobs == kind) for kind in kinds]
        parts = [chunk for chunk in self.chunks if chunk.knobs <= knobs]
        return [(max([self.whole, *parts], key=lambda chunk: chunk.rate),)]


class Timed:
    """Times a training from now on.

    Args:
        trained: epochs of a member that were trained before.
        members: that train.
    """

    def __init__(self, trained: float, members: int):
        self._began, self._before, self._members = time.perf_counter(), trained, members
        self._warm: tuple[float, float] | None = None  # when the first epoch was over, and what was trained by then
        self._first = 0  # number of that epoch
        self._n, self._largest = 1, 0  # chunks, and members of the largest
        self._chunks: dict[int, tuple[ChunkDone, list[float]]] = {}  # of each one event, and all seconds
        self._diverged: set[int] = set()  # chunks that take no steps any more

    def saw(self, event: object, trained: float) -> None:
        """Note that something has trained.

        Args:
            event: what.
            trained: epochs of a member so far.
        """
        if self._warm is None and trained >= self._before + self._members:
            self._warm = time.perf_counter(), trained
        if isinstance(event, ChunkDone):
            self._first, self._n = self._first or event.epoch, event.chunks
            self._largest = max(self._largest, len(event.settings) * len(event.seeds))
            if event.epoch > self._first:
                self._chunks.setdefault(event.chunk, (event, []))[1].append(event.seconds)
            if "train_loss" in event.metrics and np.isnan(event.metrics["train_loss"]).all():
                self._diverged.add(event.chunk)

    def pace(self, trained: float) -> Pace | None:
        """Return what it took until now, None where nothing was trained."""
        if trained <= self._before:
            return None
        now, (since, warm) = time.perf_counter(), self._warm or (self._began, self._before)
        together = self._members / self._n
        if trained <= warm:  # the first epoch was the only one
            return Pace(Chunk(frozenset(), together, (now - self._began) / (trained - self._before)), self._largest)
        rate = (now - since) / (trained - warm)
        start = max(0.0, now - self._began - rate * (trained - self._before))
        parts = {}
        for i, (event, seconds) in self._chunks.items():
            n = len(event.settings) * len(event.seeds)
            parts[i] = Chunk(frozenset(that_take_time(event.settings)), float(n), fmean(seconds) / n)
        spent = sum(part.members * part.rate for part in parts.values()) / self._members  # checkpoints aside
        more = rate / spent if spent else 1.0
        chunks = tuple(replace(part, rate=more * part.rate) for i, part in parts.items() if i not in self._diverged)
        return Pace(Chunk(frozenset(), together, rate), self._largest, start, chunks)


def that_take_time(settings: Sequence[Setting]) -> set[str]:
    """Return the knobs that settings turn and that take time of their own in a step, for every member beside them."""
    return {name for name in turned(settings) if not isinstance(KNOBS[name].acts, Scales | None)}
