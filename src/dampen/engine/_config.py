"""How a population is trained: the same for all its members, except for what their settings change."""

from dataclasses import dataclass, replace
from typing import Any, TypedDict

import torch

from dampen._checks import finite, integer
from dampen.engine import _losses
from dampen.engine.knobs.weights import weight_decay
from dampen.engine.optim import _optimizers, _schedules
from dampen.errors import InputError

_WORTH_COMPILING = 300  # steps: from about here on a compiled step has made up for the second that the compiler takes
_PRECISIONS = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}


class TrainOptions(TypedDict, total=False):
    """The fields of `TrainConfig` as keywords: `fit(data, epochs=20, lr=0.01)`."""

    epochs: int | None
    batch_size: int | None
    even_batches: bool
    optimizer: _optimizers.Optimizer | str
    lr: float
    schedule: _schedules.Schedule | str | None
    clip_grad_norm: float | None
    decay_filter: weight_decay.DecayFilter
    loss: _losses.RowLoss | str | None
    precision: str
    device: torch.device | str
    early_stopping: int | None
    compile: bool | str


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How members train: what `Population.fit`, `explain`, `solo`, `tune` and `compare` take, whole or field by field.

    What is None is left to whoever trains: `fit` and `solo` have the defaults named here, a study some of its
    own, which depend on the data.

    Args:
        epochs: passes over the training rows, counted from the first: the schedule's horizon. `fit` and `solo` need it.
        batch_size: rows a step at most, 128 by default; an epoch of N rows has `ceil(N / batch_size)` steps.
        even_batches: divide the rows of an epoch evenly over its steps, so that batches differ by one row at most.
            False: full batches, then one of what is left, as a `DataLoader` has them. An epoch that was interrupted
            is finished as it began.
        optimizer: `sgd`, `adam` (both with coupled decay, as in torch), `adamw` (decoupled), or a value such as
            `SGD(momentum=0.9)`.
        lr: peak learning rate of the members whose setting has none.
        schedule: `constant` (the default), `cosine`, `linear`, `one-cycle`, or a `Schedule` with its warm-up and
            cycles.
        clip_grad_norm: largest L2 norm of a member's gradient; None for no limit.
        decay_filter: which parameters decay: `weights` (no biases, no normalisation), `all`, or a function of a
            parameter's name and value.
        loss: `cross_entropy`, `squared_error`, `half_squared_error`; `gaussian_nll` or `beta_nll`, whose networks
            return a mean and a log variance for each row; `pinball`, the median and the quantiles of 5 and 95 %; or a
            function from outputs `[N, C]` and targets `[N]` to the loss of each row; None for the usual one of the
            data's task.
        precision: `float32`, `float64`, or `bfloat16`: products in bfloat16, weights in float32.
        device: where the members live and train.
        early_stopping: end a member's training when its validation loss has not become smaller for so many epochs;
            every member ends with the weights of its best epoch. `Population.fit` alone takes it.
        compile: translate the recorded step to C on a CPU, where results agree to rounding, and make its kernels one
            CUDA graph on a GPU, where they are the same; if that is possible (`explain` says where not): `auto`, the
            default, for trainings of at least 300 steps; True always; False never.

    Raises:
        InputError: a value outside its range.

    Example:
        >>> config = TrainConfig(epochs=20, lr=0.01, schedule="cosine")
        >>> replace(config, epochs=40).lr
        0.01
    """

    epochs: int | None = None
    batch_size: int | None = None
    even_batches: bool = True
    optimizer: _optimizers.Optimizer | str = "adamw"
    lr: float = 1e-3
    schedule: _schedules.Schedule | str | None = None
    clip_grad_norm: float | None = None
    decay_filter: weight_decay.DecayFilter = "weights"
    loss: _losses.RowLoss | str | None = None
    precision: str = "float32"
    device: torch.device | str = "cpu"
    early_stopping: int | None = None
    compile: bool | str = "auto"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "early_stopping"):
            if getattr(self, name) is not None:
                integer(name, getattr(self, name))
        if not isinstance(self.even_batches, bool):
            raise InputError(f"even_batches must be True or False, got {self.even_batches!r}")
        object.__setattr__(self, "lr", finite("lr", self.lr))  # a plain number, whatever kind was given
        if self.clip_grad_norm is not None:
            object.__setattr__(self, "clip_grad_norm", finite("clip_grad_norm", self.clip_grad_norm))
        if not isinstance(self.precision, str) or self.precision not in _PRECISIONS:
            raise InputError(f"precision must be one of {', '.join(_PRECISIONS)}, got {self.precision!r}")
        if not isinstance(self.compile, bool) and self.compile != "auto":
            raise InputError(f"compile must be auto, True or False, got {self.compile!r}")
        weight_decay.check_filter(self.decay_filter)
        _optimizers.find(self.optimizer)
        _schedules.find(self.schedule)
        _losses.find(self.loss, "classification")
        _device(self.device)

    def recipe(self, task: str, weighted: bool = False) -> "Recipe":
        """Return what the loop works with on data of a task; `weighted` data has a weight for each row.

        Raises:
            InputError: it has no length.
        """
        if self.epochs is None:
            raise InputError("how long to train is not given: epochs=20, or config=TrainConfig(epochs=20)")
        loss = _losses.find(self.loss, task)
        return Recipe(
            loss=_losses.Weighted(loss, task == "classification") if weighted else loss,
            accuracy=task == "classification",
            epochs=self.epochs,
            batch_size=self.batch_size or 128,
            even_batches=self.even_batches,
            optimizer=_optimizers.find(self.optimizer),
            lr=self.lr,
            schedule=_schedules.find(self.schedule),
            clip_grad_norm=self.clip_grad_norm,
            decay_filter=self.decay_filter,
            precision=self.precision,
            device=_available(_device(self.device)),
            early_stopping=self.early_stopping,
            compile=self.compile,
        )


def worth_compiling(steps: int) -> bool:
    """Return whether trainings of so many steps make up for the compiler's time."""
    return steps >= _WORTH_COMPILING


@dataclass(frozen=True)
class Recipe:
    """A `TrainConfig` with its names resolved: loss, optimizer, schedule and device as values.

    Args:
        loss: of each row.
        accuracy: whether right classes are counted, too.

    The other fields are those of `TrainConfig`.
    """

    loss: _losses.RowLoss
    accuracy: bool
    epochs: int
    batch_size: int
    even_batches: bool
    optimizer: _optimizers.Optimizer
    lr: float
    schedule: _schedules.Schedule
    clip_grad_norm: float | None
    decay_filter: weight_decay.DecayFilter
    precision: str
    device: torch.device
    early_stopping: int | None
    compile: bool | str = "auto"

    def compiles(self, steps_per_epoch: int) -> bool:
        """Return whether steps are to be compiled: a rule without a clock, so that results do not depend on one."""
        if self.device.type not in ("cpu", "cuda"):
            return False
        return worth_compiling(self.epochs * steps_per_epoch) if self.compile == "auto" else bool(self.compile)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return _PRECISIONS[self.precision]

    @property
    def low(self) -> torch.dtype | None:
        """Type of the products, where it is not that of the weights."""
        return torch.bfloat16 if self.precision == "bfloat16" else None


def configured(config: TrainConfig | None, options: TrainOptions, **defaults: Any) -> TrainConfig:
    """Return a configuration with some of its fields replaced.

    Args:
        config: what to begin with; None for the defaults of `TrainConfig`.
        options: fields that are given by keyword; they replace those of `config`.
        defaults: fields that are used where they are None.

    Raises:
        InputError: a value outside its range, or something else than a `TrainConfig`.
        TypeError: there is no such field.
    """
    if config is not None and not isinstance(config, TrainConfig):
        raise InputError(f"config must be a TrainConfig, got {type(config).__name__}: TrainConfig(epochs=20)")
    for name in options:
        if name not in TrainOptions.__annotations__:
            known = ", ".join(TrainOptions.__annotations__)
            raise TypeError(f"unexpected keyword argument {name!r}; of a training there are {known}")
    found = replace(config or TrainConfig(), **options)
    return replace(found, **{name: value for name, value in defaults.items() if getattr(found, name) is None})


def _device(device: object) -> torch.device:
    try:
        return torch.device(device)  # type: ignore[arg-type]
    except (RuntimeError, TypeError) as e:
        raise InputError(f"device must be cpu, cuda, cuda:0 or another of torch's, got {device!r}") from e


def _available(device: torch.device) -> torch.device:
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        n = torch.cuda.device_count()
        raise InputError(f"there is no device {device}: torch sees {n} CUDA device{'s' * (n != 1)} here")
    return device
