"""What a study does that nobody has chosen: network, length, rows a step, schedule, ranges; by the data.

For tables as `docs/estimators.md` has it measured.
"""

import math
from collections.abc import Sequence
from typing import Any

from dampen.data import Data
from dampen.models import MLP, mlp, tabular
from dampen.search import LogUniform, PerLayer, Uniform

SMALL = 5000  # training rows below which folds judge: a held-out part would be too few rows to tell settings apart
_FEW = 1000  # rows of a table below which networks are smaller and trainings shorter
_STEPS = 600, 1000  # of a training on a table with few rows and with more
_EPOCHS = 10, 200  # that such a training has at least and at most


def is_table(data: Data) -> bool:
    """Return whether rows are numbers that are no pixels."""
    return data.scaling != "pixels" and len(data.inputs) == 1


def usual_batch_size(n: int) -> int:
    """Return the rows of a step, of n training rows."""
    return 32 if n < SMALL else 128


def usual_epochs(n: int) -> int:
    """Return the length of a training on n rows."""
    return 30 if n < SMALL else 10


def usual_length(data: Data, batch_size: int) -> int:
    """Return the epochs of a study's trainings: for tables so many steps, so that few rows are seen more often."""
    n = len(data.train_rows)
    if not is_table(data):
        return usual_epochs(n)
    return min(max(math.ceil(_STEPS[n >= _FEW] / math.ceil(n / batch_size)), _EPOCHS[0]), _EPOCHS[1])


def usual_network(data: Data, hidden: Sequence[int] | None = None) -> MLP:
    """Return a builder of a network for the data.

    Args:
        data: what it is for.
        hidden: widths; by default 256 and 128, for tables of few rows 64 and 32.
    """
    if not is_table(data):
        return mlp(*(256, 128) if hidden is None else hidden)
    few = len(data.train_rows) < _FEW
    return tabular(*((64, 32) if few else (256, 128)) if hidden is None else hidden)


def usual_schedule(data: Data) -> str:
    """Return the learning rate's schedule."""
    return "cosine" if is_table(data) else "constant"


def usual_space(data: Data, dropping: int, per_layer: bool = False) -> dict[str, Any]:
    """Return what is searched for a network that drops units in so many places."""
    table = is_table(data)
    space: dict[str, Any] = {
        "weight_decay": LogUniform(1e-3, 10.0, zero=0.1) if table else LogUniform(1e-5, 1.0, zero=0.1),
        "lr": LogUniform(3e-4, 1e-2 if table else 3e-3),
    }
    if dropping:
        rate = Uniform(0.0, 0.7)
        space["dropout"] = PerLayer(rate, dropping) if per_layer and dropping > 1 else rate
    return space
