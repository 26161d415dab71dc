"""Learning rate schedules: the share of a member's own peak rate at each step."""

import math
from dataclasses import dataclass

from dampen._checks import integer, share
from dampen.errors import InputError

KINDS = ("constant", "cosine", "linear", "one-cycle")


@dataclass(frozen=True)
class Schedule:
    """How the learning rate moves over a training.

    Args:
        kind: `constant`; `cosine` to 0 (Loshchilov and Hutter 2017, equation 5, without restarts); `linear` to 0; or
            `one-cycle` (Smith and Topin 2018), as `torch.optim.lr_scheduler.OneCycleLR` with its usual numbers:
            from 1/25 of the peak up to it and down to 1/250000 of it, both along a cosine.
        warmup: share of all steps in which the rate rises to its peak, linearly but for `one-cycle`. None means 0,
            and 0.3 for `one-cycle`.
        cycles: how often `cosine` or `linear` falls, each time from the peak, in so many equal parts of the steps after
            the warm-up: the networks at their ends are a snapshot ensemble (Huang et al. 2017, equation 2).

    Raises:
        InputError: an unknown kind, a warm-up outside [0, 1), or cycles of a schedule that does not fall or rises anew.

    Example:
        >>> [round(Schedule("linear", warmup=0.5).factor(step, 4), 2) for step in range(4)]
        [0.5, 1.0, 1.0, 0.5]
        >>> [Schedule("linear", cycles=2).factor(step, 4) for step in range(4)]
        [1.0, 0.5, 1.0, 0.5]
    """

    kind: str = "constant"
    warmup: float | None = None
    cycles: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in KINDS:
            raise InputError(f"schedule must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.warmup is not None:
            object.__setattr__(self, "warmup", share("the schedule's warm-up", self.warmup))
        object.__setattr__(self, "cycles", integer("the schedule's cycles", self.cycles))
        if self.cycles > 1 and self.kind not in ("cosine", "linear"):
            raise InputError(f"a schedule of {self.cycles} cycles is cosine or linear, got {self.kind}")

    def factor(self, step: int, steps: int) -> float:
        """Return the share of the peak rate at `step`, from 0, of `steps`."""
        if self.kind == "one-cycle":
            return _one_cycle(step, steps, 0.3 if self.warmup is None else self.warmup)
        rising = round((self.warmup or 0) * steps)
        if step < rising:
            return (step + 1) / rising
        done = (step - rising) / max(1, steps - rising)
        if self.cycles > 1:
            cycle = max(1, math.ceil((steps - rising) / self.cycles))
            done = (step - rising) % cycle / cycle
        if self.kind == "cosine":
            return (1 + math.cos(math.pi * done)) / 2
        return 1 - done if self.kind == "linear" else 1.0


def find(schedule: object) -> Schedule:
    """Return the schedule meant by a name or a value; None means a constant rate."""
    if schedule is None:
        return Schedule()
    return schedule if isinstance(schedule, Schedule) else Schedule(schedule)  # type: ignore[arg-type]


def _one_cycle(step: int, steps: int, rising: float) -> float:
    low, lowest = 1 / 25, 1 / 250_000
    top, last = rising * steps - 1, steps - 1
    if step <= top and top > 0:
        return _along_cosine(low, 1.0, step / top)
    return _along_cosine(1.0, lowest, (step - top) / max(last - top, 1e-12)) if last > top else 1.0


def _along_cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(done, 1.0))) / 2
