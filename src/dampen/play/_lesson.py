"""A lesson: everything that its page can be set to, as a value, and its way to and from the address."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from dampen.engine import Setting
from dampen.errors import InputError
from dampen.play._names import POINTS, SURFACES


@dataclass(frozen=True)
class Quantity:
    """A number of a lesson.

    Args:
        notches: the values of its slider; the smallest and the largest are the range.
        whole: whether it counts something.
        live: whether it acts from the next step on; the others start the training again.
    """

    notches: tuple[int | float, ...]
    whole: bool = False
    live: bool = False

    @property
    def low(self) -> int | float:
        """The smallest value."""
        return self.notches[0]

    @property
    def high(self) -> int | float:
        """The largest value."""
        return self.notches[-1]

    def notch(self, value: int | float) -> int:
        """Return the number of the notch that is nearest to a value."""
        return min(range(len(self.notches)), key=lambda i: abs(self.notches[i] - value))


_STRENGTHS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0)

QUANTITIES: Mapping[str, Quantity] = {
    "weight_decay": Quantity(_STRENGTHS, live=True),
    "dropout": Quantity(tuple(i / 20 for i in range(19)), live=True),
    "l1": Quantity((0.0, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0), live=True),
    "label_smoothing": Quantity(tuple(i / 20 for i in range(11)), live=True),
    "lr": Quantity((0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3), live=True),
    "batch_size": Quantity((1, 2, 4, 8, 16, 32, 64, 128, 256), whole=True),
    "noise": Quantity(tuple(i / 20 for i in range(21))),
    "n_points": Quantity((20, 50, 100, 200, 300, 500, 1000), whole=True),
    "train_share": Quantity(tuple(i / 20 for i in range(1, 19))),
    "width": Quantity((1, 2, 4, 8, 16, 32, 64), whole=True),
    "depth": Quantity((1, 2, 3, 4), whole=True),
    "n_seeds": Quantity((2, 4, 8, 12, 16), whole=True),
    "seed": Quantity((0, 9999), whole=True),
    "speed": Quantity((1, 3, 10, 30, 100, 300, 1000), whole=True, live=True),
}
"""The numbers of a lesson, in the order of the page. Two settings with 16 seeds are 32 members."""

CHOICES: Mapping[str, tuple[str, ...]] = {"points": POINTS, "surface": SURFACES}
REGRESSION = ("curve",)


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Two-dimensional points, a network, and how strongly it is regularised.

    Args:
        points: what is drawn: one of `POINTS`.
        surface: what the surfaces show: the mean over seeds, the standard deviation over seeds, or that over
            Monte-Carlo dropout.
        weight_decay: of AdamW.
        dropout: probability of dropping a hidden unit.
        l1: strength of the L1 penalty.
        label_smoothing: share of the target that every class gets; classes only.
        lr: learning rate, also of the network beside it.
        batch_size: rows a step.
        noise: how far the points lie from their shape.
        n_points: how many there are.
        train_share: how many of them train.
        width: units of a hidden layer.
        depth: hidden layers.
        n_seeds: networks of each setting.
        seed: of the points, and the first of the networks.
        speed: steps a second at most.

    Raises:
        InputError: a value outside its range.
    """

    points: str = "moons"
    surface: str = "mean"
    weight_decay: float = 0.1
    dropout: float = 0.1
    l1: float = 0.0
    label_smoothing: float = 0.0
    lr: float = 0.01
    batch_size: int = 16
    noise: float = 0.3
    n_points: int = 200
    train_share: float = 0.3
    width: int = 32
    depth: int = 2
    n_seeds: int = 8
    seed: int = 0
    speed: int = 100

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name, quantity in QUANTITIES.items():
            value = getattr(self, name)
            right = isinstance(value, int) or (isinstance(value, float) and not quantity.whole and math.isfinite(value))
            if not right or isinstance(value, bool) or not quantity.low <= value <= quantity.high:
                raise _refusal(name, value)
            object.__setattr__(self, name, value if quantity.whole else float(value))

    @property
    def task(self) -> str:
        """What is learnt: `classification` or `regression`."""
        return "regression" if self.points in REGRESSION else "classification"

    @property
    def settings(self) -> tuple[Setting, Setting]:
        """No regularisation, and the chosen one: their order everywhere."""
        smoothing = {"label_smoothing": self.label_smoothing} if self.task == "classification" else {}
        chosen = Setting(lr=self.lr, weight_decay=self.weight_decay, dropout=self.dropout, l1=self.l1, **smoothing)
        return Setting(lr=self.lr), chosen

    @property
    def seeds(self) -> range:
        """The networks' seeds."""
        return range(self.seed, self.seed + self.n_seeds)

    def trains_on(self, other: "Lesson") -> bool:
        """Return whether a training of this lesson can go on as one of the other."""
        names = [f.name for f in fields(self) if f.name != "surface" and not getattr(QUANTITIES.get(f.name), "live", 0)]
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def query(self) -> dict[str, str]:
        """Return what an address has to name: the fields that are not at their defaults."""
        usual = Lesson()
        names = [f.name for f in fields(self) if getattr(self, f.name) != getattr(usual, f.name)]
        return {name: _written(getattr(self, name)) for name in names}


def from_query(query: Mapping[str, str]) -> tuple[Lesson, list[str]]:
    """Read a lesson from an address; what can't be used stays at its default.

    Args:
        query: the address's fields; others than a lesson's are left alone.

    Returns:
        The lesson, and a line on each value that was not used as it stands.
    """
    lesson, notes = Lesson(), []
    for name in (f.name for f in fields(Lesson)):
        if name not in query:
            continue
        try:
            lesson = replace(lesson, **{name: _read(name, query[name])})
        except InputError as e:
            notes.append(f"{e}: {_written(getattr(lesson, name))} is used")
    return lesson, notes


def _read(name: str, text: str) -> Any:
    if name in CHOICES:
        return text[:_LONGEST]
    try:
        return int(text) if QUANTITIES[name].whole else float(text)
    except ValueError:
        raise _refusal(name, text[:_LONGEST]) from None


_LONGEST = 40  # letters of a value in a message


def _refusal(name: str, value: object) -> InputError:
    quantity = QUANTITIES[name]
    kind = "a whole number" if quantity.whole else "a number"
    return InputError(f"{name} must be {kind} from {quantity.low:g} to {quantity.high:g}, got {value!r}")


def _written(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
