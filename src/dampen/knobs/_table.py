"""The table of knobs: adding one is a file beside this one and a line here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from dampen.knobs import dropout, lr, weight_decay


@dataclass(frozen=True)
class Knob:
    """One regularisation quantity that can differ from member to member.

    Args:
        name: what users write in a `Setting`.
        enters: the place in a training step where it acts.
        read: turns what a user wrote into the knob's value, or raises `InputError`.
    """

    name: str
    enters: Literal["data", "target", "activation", "loss", "gradient", "parameter"]
    read: Callable[[object], Any]


KNOBS = {
    knob.name: knob
    for knob in (
        Knob("weight_decay", "parameter", weight_decay.strength),
        Knob("dropout", "activation", dropout.rates),
        Knob("lr", "parameter", lr.learning_rate),
    )
}
