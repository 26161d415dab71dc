"""What a fit recorded: every curve of every member."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int64

from dampen.knobs import Setting

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Epoch:
    """What is known after an epoch: handed to `fit`'s callback.

    Args:
        epoch: its number, from 1.
        epochs: how many there will be.
        metrics: by name, a value for each seed and setting, `[S, M]`. A member that has diverged has NaN.
    """

    epoch: int
    epochs: int
    metrics: dict[str, Float64[np.ndarray, "S M"]]


@dataclass(frozen=True)
class History:
    """Learning curves of a population.

    Args:
        settings: the M settings.
        seeds: the S seeds.
        epochs: the E epochs after which something was recorded.
        metrics: by name (`train_loss`, `test_acc`, ...), `[E, S, M]`. Losses are per row; accuracies are shares of
            1. Train metrics are running means over the epoch's batches, in training mode; the others are
            measured after the epoch, in evaluation mode. A member that has diverged has NaN from then on.
        diverged_at: the epoch in which a member's training loss stopped being a finite number (or, in the last
            epoch, its weights did), 0 for none.
    """

    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    epochs: Int64[np.ndarray, " E"]
    metrics: dict[str, Float64[np.ndarray, "E S M"]]
    diverged_at: Int64[np.ndarray, "S M"]

    def final(self, metric: str) -> Float64[np.ndarray, "S M"]:
        """Return a metric after the last epoch."""
        return self.metrics[metric][-1]

    def frame(self) -> "pd.DataFrame":
        """Return a tidy pandas frame: a row for each epoch, seed and setting, a column for each knob and metric."""
        import pandas as pd

        E, S, M = next(iter(self.metrics.values())).shape
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
