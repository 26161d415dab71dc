"""What a knob is: its value, and the function that it brings to one of the places where a training step lets it in.

Each of these functions takes plain tensors and is independent of populations: parameters may be stacked along leading
axes, a member's number broadcasts against them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor

from dampen._checks import is_number
from dampen.errors import InputError

Enters = Literal["data", "target", "activation", "loss", "gradient", "parameter", "time"]
SiteKind = Literal["dropout", "weight", "map", "module", "addend"]


@runtime_checkable
class Draws(Protocol):
    """Random numbers of a training step, one draw for each seed, whatever the settings: call it in a fixed order."""

    n_seeds: int

    def uniform(self, *shape: int) -> Tensor:
        """Return numbers in [0, 1), `[S, *shape]`, float32."""
        ...

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers, `[S, *shape]`, float32."""
        ...


@dataclass(frozen=True)
class Site:
    """A place of a network's forward pass, in training mode, where a knob can act.

    Args:
        kind: `dropout`: what a dropout layer is given; `weight`: the weight of a linear layer or a convolution;
            `map`: what a convolution returns; `module`: what a module returns; `addend`: each of two tensors of one
            shape that are added.
        module: path of the innermost module; for `module` its own path.
        shape: of the tensor, for one member: `[B, ...]`, or that of the weight.
        residual: whether it is an addend that is added to its own skip connection.
    """

    kind: SiteKind
    module: str
    shape: tuple[int, ...]
    residual: bool = False


@dataclass(frozen=True)
class OnGradient:
    """Adds a penalty's gradient to each decaying parameter's, after clipping, whatever the optimizer.

    Args:
        gradient: `(w, value, start) -> gradient`; `value` broadcasts against `w`; `start` holds the initial weights,
            and broadcasts too, if they are needed.
        needs_start: whether they are.
    """

    gradient: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    needs_start: bool = False


@dataclass(frozen=True)
class OnWeights:
    """Changes each decaying parameter just before or just after the optimizer's step.

    Args:
        function: `(w, value, lr, lead) -> w`; `value` and `lr`, this step's, broadcast against `w`, whose first
            `lead` axes are those of members. It must return `w` itself, bit for bit, where the value is neutral.
        when: `before` or `after` the step.
        matrices: whether it needs units, so that only parameters with two axes or more take part.
        rate: `(lr, factor, normalised) -> what the function gets as lr`: from the peak rate, the schedule's share of it
            now, and whether a normalisation follows the parameter's layer; None: `lr * factor`.
        threshold: `(value, lr) -> by how much`, where the function moves every weight towards 0, and to 0 those that
            are closer, after the step: compiled steps do that themselves.
    """

    function: Callable[[Tensor, Tensor, Tensor, int], Tensor]
    when: Literal["before", "after"]
    matrices: bool = False
    rate: Callable[[Tensor, float, bool], Tensor] | None = None
    threshold: Callable[[Tensor, Tensor], Tensor] | None = None


@dataclass(frozen=True)
class OnUpdate:
    """Changes each decaying parameter after the optimizer's step, by what that step has done.

    Args:
        function: `(w, before, value, lr) -> w`; `before` is the parameter before the step; `value` and `lr`, this
            step's, broadcast against both. It must return `w` itself, bit for bit, where the value is neutral.
    """

    function: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class OnBatch:
    """Changes a member's inputs or targets in a training step.

    Tensors are stacked as `[S, M, ...]`, with 1 for M where settings share them.

    Args:
        draw: `(values, draws, inputs, targets) -> tensors`: from the M settings' values (neutral ones where the knob
            is not turned), and the seeds' own batches `[S, B, ...]`, what the other two functions take,
            `[S or 1, M or 1, ...]` each. It runs once a step, outside what is recorded, and refuses what it can't do.
        inputs: `(inputs, *tensors) -> inputs`: a list of `[S, 1 or M, B, ...]` in and out, one for each argument of
            the network.
        losses: `(loss, outputs, targets, *tensors) -> losses`: `loss(outputs, targets)` gives the losses `[S, M, B]`
            of outputs `[S, M, B, ...]` and targets `[S, B, ...]`.
        loss: name of the only loss that it can change, if there is one: `cross_entropy`.
        row_by_row: whether the loss of a row stays that row's own, so that it can be multiplied by the row's weight.
    """

    draw: Callable[[Sequence[Any], Draws, Sequence[Tensor], Tensor], list[Tensor]]
    inputs: Callable[..., list[Tensor]] | None = None
    losses: Callable[..., Tensor] | None = None
    loss: str | None = None
    row_by_row: bool = False


@dataclass(frozen=True)
class OnActivation:
    """Changes a tensor inside the forward pass, in training.

    Args:
        kind: of the sites where it can act.
        rates: `(value, sites) -> numbers`, one for each site of that kind, in the order of the forward pass; 0 where
            it does not act. It raises `InputError` if it can act nowhere.
        draw: `(draws, site) -> [S, ...]`: the noise of a site; what a site draws depends on nothing else.
        apply: `(h, rate, noise) -> h` of one member and one seed; at a rate of 0 it must return `h` bit for bit.
    """

    kind: SiteKind
    rates: Callable[[Any, Sequence[Site]], list[float]]
    draw: Callable[[Draws, Site], Tensor]
    apply: Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Variants:
    """Changes tensors inside the forward pass in ways that differ by more than a rate from setting to setting.

    Args:
        of: `values -> ways`, one for each group of settings, by a name: a setting's rates are 0 in those that are not
            its own.
        beside: another knob. Values are pairs then, of this knob's and of that one's.
    """

    of: Callable[[Sequence[Any]], Mapping[str, OnActivation]]
    beside: str


@dataclass(frozen=True)
class Scales:
    """Moves other knobs' values over the training.

    Args:
        of: their names.
        factor: `(value, step, steps) -> share of the other knobs' values` at a step, from 0, of all steps.
    """

    of: tuple[str, ...]
    factor: Callable[[Any, int, int], float]


@dataclass(frozen=True)
class Averages:
    """Keeps an average of the weights, which is what the member is evaluated with and ends as.

    Args:
        each: `step` or `epoch`: when the average is renewed.
        share: `(value, done, of) -> share` of the present weights in the new average, after `done` steps or epochs of
            `of`; 1 starts it again.
        recompute: whether running statistics are found anew for the averaged weights by a pass over the training rows;
            else they are averaged like the weights.
    """

    each: Literal["step", "epoch"]
    share: Callable[[Any, int, int], float]
    recompute: bool = False


Acts = OnGradient | OnWeights | OnUpdate | OnBatch | OnActivation | Variants | Scales | Averages


@dataclass(frozen=True)
class Knob:
    """One regularisation quantity that can differ from member to member.

    Args:
        name: what users write in a `Setting`.
        enters: the place in a training step where it acts.
        read: turns what a user wrote into the knob's value, or raises `InputError`.
        about: what it does, in one sentence.
        values: what values it takes, in words.
        source: where it comes from: authors, year, equation or section.
        neutral: the value that changes nothing. Settings with it, and settings without the knob, cost nothing.
        acts: what it does in a step; None for what is the engine's own.
        excludes: knobs that a setting can't turn beside this one.
        log: whether its ranges are better searched on a logarithmic scale.
    """

    name: str
    enters: Enters
    read: Callable[[object], Any]
    about: str
    values: str
    source: str
    neutral: Any = None
    acts: Acts | None = None
    excludes: tuple[str, ...] = ()
    log: bool = False

    def on(self, setting: Any) -> bool:
        """Return whether a setting turns it to something else than its neutral value."""
        return self.name in setting and setting[self.name] != self.neutral


def number(
    name: str, low: float = 0.0, high: float = math.inf, *, above: bool = False, below: bool = False
) -> Callable[[object], float]:
    """Return a function that reads a number from `low` to `high`, or refuses it.

    Args:
        name: of the knob, for the message.
        low: smallest value.
        high: largest value; an infinite one is itself not allowed.
        above: whether `low` itself is not allowed.
        below: whether `high` itself is not allowed.

    Raises:
        InputError: by the function that is returned: another value.

    Example:
        >>> number("share", high=1.0)(0.5)
        0.5
    """
    ends = f"{'above' if above else 'from'} {low:g}" + (
        "" if math.isinf(high) else f" to {'below ' if below else ''}{high:g}"
    )
    allowed = f"a finite number, {low:g} or larger" if math.isinf(high) and not above else f"a finite number {ends}"

    def read(value: object) -> float:
        inside = is_number(value) and math.isfinite(value) and low <= value <= high
        if not is_number(value) or not inside or (above and value == low) or (below and value == high):
            raise InputError(f"{name} must be {allowed}, got {value!r}")
        return float(value)

    return read


def one_of(name: str, words: Sequence[str]) -> Callable[[object], str]:
    """Return a function that reads one of a few words, or raises `InputError`."""

    def read(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise InputError(f"{name} must be one of {', '.join(words)}, got {value!r}")
        return value

    return read
