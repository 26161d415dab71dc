"""How a population is trained: the same for all its members, but for what their settings say."""

import math
from dataclasses import dataclass

import torch

from dampen.engine import _losses
from dampen.engine.knobs.weights import weight_decay
from dampen.engine.optim import _optimizers, _schedules
from dampen.errors import InputError

_PRECISIONS = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}


@dataclass(frozen=True)
class Recipe:
    """What `fit` was asked for, checked.

    Args:
        loss: loss of each row.
        accuracy: whether to count right classes, too.
        epochs: length of the whole training: the schedule's horizon.
        batch_size: rows a step at most.
        even_batches: whether the rows of an epoch are divided evenly over its steps.
        optimizer: with its own numbers.
        lr: peak learning rate of members whose setting has none.
        schedule: of the learning rate.
        clip: largest norm of a member's gradient, if there is one.
        decay: which parameters decay.
        precision: `float32`, `float64`, or `bfloat16`: products in bfloat16, weights and the rest in float32.
        early_stopping: epochs without a smaller validation loss after which a member stops, if any.
    """

    loss: _losses.RowLoss
    accuracy: bool
    epochs: int
    batch_size: int
    even_batches: bool
    optimizer: _optimizers.Optimizer
    lr: float
    schedule: _schedules.Schedule
    clip: float | None
    decay: weight_decay.Rule
    precision: str
    early_stopping: int | None

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return _PRECISIONS[self.precision]

    @property
    def low(self) -> torch.dtype | None:
        """Type of the products, where it is not that of the weights."""
        return torch.bfloat16 if self.precision == "bfloat16" else None


def read(
    task: str,
    *,
    epochs: int,
    batch_size: int = 128,
    even_batches: bool = True,
    optimizer: object = "adamw",
    lr: float = 1e-3,
    schedule: object = "constant",
    clip: float | None = None,
    decay: weight_decay.Rule = "weights",
    loss: str | _losses.RowLoss | None = None,
    precision: str = "float32",
    early_stopping: int | None = None,
    weighted: bool = False,
) -> Recipe:
    """Check what a user asked for; `weighted` data says how much each of its rows counts.

    Raises:
        InputError: a value outside its range.
    """
    whole = {"epochs": epochs, "batch_size": batch_size, "early_stopping": early_stopping}
    for name, value in whole.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InputError(f"{name} must be a whole number, 1 or larger, got {value!r}")
    if not isinstance(even_batches, bool):
        raise InputError(f"even_batches must be True or False, got {even_batches!r}")
    for name, number in {"lr": lr, "clip": clip}.items():
        if number is not None and (isinstance(number, bool) or not 0 < number < math.inf):
            raise InputError(f"{name} must be a finite number larger than 0, got {number!r}")
    if precision not in _PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(_PRECISIONS)}, got {precision!r}")
    row_loss = _losses.find(loss, task)
    return Recipe(
        _losses.Weighted(row_loss, task == "classification") if weighted else row_loss,
        task == "classification",
        epochs,
        batch_size,
        even_batches,
        _optimizers.find(optimizer),
        float(lr),
        _schedules.find(schedule),
        None if clip is None else float(clip),
        decay,
        precision,
        early_stopping,
    )
