"""How long epochs took of members that trained together."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from dampen.engine import ChunkDone
from dampen.engine.knobs import Setting, inside_a_step


@dataclass(frozen=True)
class Pace:
    """What a training took, its first epoch, which may wait for the compiler, aside.

    Args:
        rate: seconds of a member's epoch.
        members: that take a step together.
        start: seconds that the first epoch took beyond that.
        chunks: of members that took steps together.
    """

    rate: float
    members: float
    start: float = 0.0
    chunks: "tuple[Chunk, ...]" = ()

    def of(self, settings: Sequence[Setting], beside: float = 0.0) -> float:
        """Return the seconds of a member's epoch where very many of such settings train: at most that of a chunk.

        Each member of a chunk pays for what one of them turns, so that the mean of all is too much for few knobs.

        Args:
            settings: which.
            beside: time that a step takes, whatever its members, as a number of members.
        """
        needed = set(inside_a_step(settings))
        alike = [chunk for chunk in self.chunks if chunk.knobs >= needed] or [self]
        return min(each.rate / (1 + beside / each.members) for each in alike)


@dataclass(frozen=True)
class Chunk:
    """Members that took steps together.

    Args:
        knobs: that they turned inside a step.
        members: how many they were.
        rate: seconds of a member's epoch.
    """

    knobs: frozenset[str]
    members: int
    rate: float


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
        self._chunks: dict[int, tuple[ChunkDone, list[float]]] = {}  # of each one event, and all seconds

    def saw(self, event: object, trained: float) -> None:
        """Note that something has trained.

        Args:
            event: what.
            trained: epochs of a member so far.
        """
        if self._warm is None and trained >= self._before + self._members:
            self._warm = time.perf_counter(), trained
        if isinstance(event, ChunkDone) and event.settings:  # workers do not say which
            self._first = self._first or event.epoch
            if event.epoch > self._first:
                self._chunks.setdefault(event.chunk, (event, []))[1].append(event.seconds)

    def pace(self, trained: float) -> Pace | None:
        """Return what it took until now, None where nothing was trained."""
        if trained <= self._before:
            return None
        now, (since, warm) = time.perf_counter(), self._warm or (self._began, self._before)
        members = self._members / max(1, len(self._chunks))
        if trained <= warm:  # the first epoch was the only one
            return Pace((now - self._began) / (trained - self._before), members)
        rate = (now - since) / (trained - warm)
        start = max(0.0, now - self._began - rate * (trained - self._before))
        seen = [
            Chunk(frozenset(inside_a_step(one.settings)), n := len(one.settings) * len(one.seeds), fmean(seconds) / n)
            for one, seconds in self._chunks.values()
        ]
        spent = sum(chunk.members * chunk.rate for chunk in seen) / self._members  # without checkpoints, for example
        return Pace(rate, members, start, tuple(replace(chunk, rate=chunk.rate * rate / spent) for chunk in seen))
