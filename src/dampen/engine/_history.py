"""The results of training: events while it runs, and the learning curves of every member."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int64

from dampen.engine.knobs import Setting

if TYPE_CHECKING:
    import pandas as pd

Span = tuple[slice, slice]
"""Which seeds and which settings of a population a chunk holds."""


@dataclass(frozen=True)
class ChunkDone:
    """A chunk of members has trained for an epoch: handed to `fit`'s callback.

    Args:
        epoch: number of the epoch, from 1.
        epochs: how many there will be.
        chunk: number of the chunk, from 1.
        chunks: how many there are.
        settings: those of its members.
        seeds: those of its members; every setting with every seed.
        metrics: by name, `[S, M]` of the chunk.
        seconds: spent on it, evaluation included.
    """

    epoch: int
    epochs: int
    chunk: int
    chunks: int
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    metrics: dict[str, Float64[np.ndarray, "S M"]]
    seconds: float


@dataclass(frozen=True)
class Epoch:
    """All members have trained for an epoch that is recorded: handed to `fit`'s callback.

    Args:
        epoch: its number, from 1.
        epochs: how many there will be.
        metrics: by name, a value for each seed and setting, `[S, M]`. A member that has diverged has NaN.
        diverged_at: the epoch in which a member diverged, 0 for none.
        seconds: since `fit` was called.
    """

    epoch: int
    epochs: int
    metrics: dict[str, Float64[np.ndarray, "S M"]]
    diverged_at: Int64[np.ndarray, "S M"]
    seconds: float


Event = ChunkDone | Epoch


@dataclass(frozen=True)
class History:
    """Learning curves of a population.

    Args:
        settings: the M settings.
        seeds: the S seeds.
        epochs: the E epochs after which something was recorded.
        metrics: by name (`train_loss`, `test_accuracy`, ...), `[E, S, M]`. Losses are per row; accuracies are shares of
            1. Train metrics are running means over the epoch's batches, in training mode; the others are
            measured after the epoch, in evaluation mode. `weight_norm` is the L2 norm of the parameters that decay. A
            member that has diverged or stopped has NaN from then on.
        diverged_at: the epoch in which a member's training loss stopped being a finite number (or, in the last
            epoch, its weights did), 0 for none.
        stopped_at: the epoch in which early stopping ended a member's training, 0 for none.
        kept_epoch: the epoch whose weights a member has: the last one, or with early stopping its best one.
    """

    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    epochs: Int64[np.ndarray, " E"]
    metrics: dict[str, Float64[np.ndarray, "E S M"]]
    diverged_at: Int64[np.ndarray, "S M"]
    stopped_at: Int64[np.ndarray, "S M"]
    kept_epoch: Int64[np.ndarray, "S M"]

    def final(self, metric: str) -> Float64[np.ndarray, "S M"]:
        """Return a metric of the weights that the members have: after the last epoch, or after their best one."""
        row = np.searchsorted(self.epochs, self.kept_epoch).clip(0, len(self.epochs) - 1)
        values = np.take_along_axis(self.metrics[metric], row[None], axis=0)[0]
        return np.where(self.diverged_at > 0, np.nan, values)

    def frame(self) -> "pd.DataFrame":
        """Return a tidy pandas frame: a row for each epoch, seed and setting, a column for each knob and metric."""
        import pandas as pd

        E, S, M = len(self.epochs), len(self.seeds), len(self.settings)
        e, s, m = (index.ravel() for index in np.indices((E, S, M)))
        knobs = dict.fromkeys(name for setting in self.settings for name in setting)
        columns: dict[str, Sequence[object] | np.ndarray] = {"setting": m, "seed": np.asarray(self.seeds)[s]}
        for knob in knobs:
            values = [setting.get(knob) for setting in self.settings]
            columns[knob] = [values[i] for i in m]
        columns["epoch"] = self.epochs[e]
        columns |= {name: values.ravel() for name, values in self.metrics.items()}
        ended = self.diverged_at[s, m]
        columns["diverged"] = (ended > 0) & (ended <= self.epochs[e])
        return pd.DataFrame(columns)


class Recorder:
    """Collects what the chunks report into whole curves.

    Args:
        shape: numbers of seeds and settings.
    """

    def __init__(self, shape: tuple[int, int]):
        self.shape = shape
        self.open: dict[str, np.ndarray] = {}
        self.closed: list[dict[str, np.ndarray]] = []
        self.epochs: list[int] = []
        self.diverged_at = np.zeros(shape, dtype=np.int64)
        self.stopped_at = np.zeros(shape, dtype=np.int64)

    def put(self, place: Span, metrics: dict[str, np.ndarray]) -> None:
        """Note a chunk's metrics in the epoch that is open."""
        for name, values in metrics.items():
            whole = self.open.setdefault(name, np.full(self.shape, np.nan))
            whole[place] = values

    def close(self, epoch: int) -> dict[str, np.ndarray]:
        """End the epoch that is open and return its metrics."""
        ended = (self.diverged_at > 0) | ((self.stopped_at > 0) & (self.stopped_at < epoch))
        for values in self.open.values():
            values[ended] = np.nan
        self.closed.append(self.open)
        self.epochs.append(epoch)
        self.open = {}
        return self.closed[-1]

    def only(self, seeds: list[int], settings: list[int]) -> "Recorder":
        """Return the curves of some of the seeds and settings."""
        index = np.ix_(seeds, settings)
        recorder = Recorder((len(seeds), len(settings)))
        recorder.open = {name: values[index] for name, values in self.open.items()}
        recorder.closed = [{name: values[index] for name, values in metrics.items()} for metrics in self.closed]
        recorder.epochs = list(self.epochs)
        recorder.diverged_at, recorder.stopped_at = self.diverged_at[index], self.stopped_at[index]
        return recorder

    def history(self, settings: tuple[Setting, ...], seeds: tuple[int, ...], kept: np.ndarray) -> History:
        """Return the curves so far."""
        names = dict.fromkeys(name for metrics in self.closed for name in metrics)
        curves = {name: np.full((len(self.closed), *self.shape), np.nan) for name in names}
        for e, metrics in enumerate(self.closed):
            for name, values in metrics.items():
                curves[name][e] = values
        epochs = np.asarray(self.epochs, dtype=np.int64)
        return History(settings, seeds, epochs, curves, self.diverged_at, self.stopped_at, kept)
