"""Successive halving and Hyperband: how many settings train for how long."""

import math
from dataclasses import dataclass

import numpy as np

from dampen.engine.knobs import Setting
from dampen.search._optuna import check_optuna
from dampen.search._space import Space
from dampen.search._strategies import Strategy

TPE_BATCHES = 4  # proposals of a batch are independent of each other: more batches learn more and fuse less


@dataclass(frozen=True)
class Rung:
    """A stage of successive halving.

    Args:
        epochs: after which settings are ranked.
        keep: how many go on.
    """

    epochs: int
    keep: int


@dataclass(frozen=True)
class Bracket:
    """Settings that compete with each other, rung by rung; every rung trains them anew, for its own length.

    Args:
        settings: how many.
        rungs: the longest last.
        drawn: the settings; None where the search proposes them when it gets there.
    """

    settings: int
    rungs: tuple[Rung, ...]
    drawn: tuple[Setting, ...] | None

    def member_epochs(self, seeds: int) -> float:
        """Return how often its members pass over the training rows, all together."""
        total, alive = 0.0, self.settings
        for rung in self.rungs:
            total += alive * seeds * rung.epochs
            alive = min(alive, rung.keep)
        return total


def rungs(epochs: int, settings: int, confirmed: int, eta: int, halving: bool, first: int = 1) -> tuple[Rung, ...]:
    """Return the stages of successive halving (Jamieson and Talwalkar 2016, algorithm 1), the longest last.

    Args:
        epochs: of the last one.
        settings: of the first one.
        confirmed: how many survive the last one.
        eta: one in so many survives the others, and trains so many times as long.
        halving: whether there are others.
        first: epochs that the first one has at least.
    """
    n = min(_depth(epochs / min(first, epochs), eta), _depth(max(1, settings), eta)) if halving else 0
    return _from(n, epochs, settings, confirmed, eta)


def _depth(ratio: float | int, eta: int) -> int:
    return int(math.log(ratio, eta) + 1e-9)


def _from(n: int, epochs: int, settings: int, confirmed: int, eta: int) -> tuple[Rung, ...]:
    lengths = [max(1, round(epochs / eta ** (n - i))) for i in range(n)]
    keeps = [max(confirmed, math.ceil(settings / eta ** (i + 1))) for i in range(n)]
    return (*(Rung(length, keep) for length, keep in zip(lengths, keeps, strict=True)), Rung(epochs, confirmed))


def brackets(
    space: Space, strategy: Strategy, settings: int, lengths: tuple[int, int], confirmed: int, seed: int
) -> tuple[Bracket, ...]:
    """Return the search's brackets: one, Hyperband's, or batches that TPE proposes.

    Hyperband (Li et al. 2018, algorithm 1) hedges against settings that start slowly: every bracket drops later than
    the one before and has fewer settings.

    Args:
        space: where settings are drawn from.
        strategy: how.
        settings: how many.
        lengths: epochs of the first rung, at least, and of the last one.
        confirmed: how many survive the last rung.
        seed: of the draws.

    Raises:
        InputError: a number of settings that the strategy can't use, or Optuna is not installed.
    """
    (first, epochs), eta = lengths, strategy.eta

    def stages(n: int) -> tuple[Rung, ...]:
        return rungs(epochs, n, confirmed, eta, strategy.halving, first)

    if strategy.name == "tpe":
        check_optuna()
        sizes = [len(part) for part in np.array_split(np.arange(settings), min(TPE_BATCHES, settings))]
        return tuple(Bracket(n, stages(n), None) for n in sizes)
    if strategy.name == "hyperband":
        drawn = tuple(space.draw(settings, strategy.draws, seed))
        last = len(stages(len(drawn))) - 1
        weights = np.array([math.ceil((last + 1) / (s + 1) * eta**s) for s in range(last, -1, -1)], dtype=float)
        ends = np.round(np.cumsum(weights) / weights.sum() * len(drawn)).astype(int)
        parts = [drawn[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        return tuple(
            Bracket(len(part), _from(n, epochs, len(part), confirmed, eta), part)
            for n, part in zip(range(last, -1, -1), parts, strict=True)
            if part
        )
    drawn = tuple(space.draw(settings, strategy.draws, seed))
    return (Bracket(len(drawn), stages(len(drawn)), drawn),)
