"""How a search tries settings: where they come from, and which of them train longer."""

from dataclasses import dataclass
from typing import Any, ClassVar

from dampen._checks import integer
from dampen.errors import InputError


@dataclass(frozen=True)
class Strategy:
    """What all strategies share; `dampen.tune(search=...)` takes one, or its name as a text.

    Args:
        eta: one setting in so many survives a rung, and trains so many times as long in the next.
        halving: whether settings are dropped after short trainings; if not, all train for the longest.

    Raises:
        InputError: `eta` is no whole number from 2 on.
    """

    eta: int = 2
    halving: bool = True
    name: ClassVar[str] = ""
    draws: ClassVar[str] = "sobol"
    """How `Space.draw` draws settings."""

    def __post_init__(self) -> None:
        integer("eta", self.eta, 2)


@dataclass(frozen=True)
class Sobol(Strategy):
    """Scrambled Sobol points, which fill a space more evenly than random ones (Owen 1998).

    Example:
        >>> Sobol(eta=3)
        Sobol(eta=3, halving=True)
    """

    name: ClassVar[str] = "sobol"


@dataclass(frozen=True)
class SuccessiveHalving(Sobol):
    """Successive halving (Jamieson and Talwalkar 2016, algorithm 1) of Sobol points: what `Sobol` does by default.

    `eta` is the paper's eta, Optuna's `reduction_factor`.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_halving(self)


@dataclass(frozen=True)
class Random(Strategy):
    """Independent random draws."""

    name: ClassVar[str] = "random"
    draws: ClassVar[str] = "random"


@dataclass(frozen=True)
class Grid(Strategy):
    """A grid, with as many values along each dimension as the number of settings allows."""

    name: ClassVar[str] = "grid"
    draws: ClassVar[str] = "grid"


@dataclass(frozen=True)
class TPE(Strategy):
    """Proposals by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011), in batches; needs Optuna."""

    name: ClassVar[str] = "tpe"


@dataclass(frozen=True)
class Hyperband(Strategy):
    """Brackets of successive halving that drop settings earlier or later (Li et al. 2018, algorithm 1)."""

    name: ClassVar[str] = "hyperband"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_halving(self)


def _check_halving(strategy: Strategy) -> None:
    if not strategy.halving:
        raise InputError(f"{type(strategy).__name__} drops settings by halving: use Sobol(halving=False)")


STRATEGIES: dict[str, type[Strategy]] = {kind.name: kind for kind in (Sobol, Random, Grid, TPE, Hyperband)}


def strategy_of(search: str | Strategy, **options: Any) -> Strategy:
    """Return a strategy by its name, or the one that was given.

    Args:
        search: a name of `STRATEGIES`, or a strategy.
        options: of one that is given by name.

    Raises:
        InputError: there is none of that name, or it does not take the options.

    Example:
        >>> strategy_of("tpe", eta=4)
        TPE(eta=4, halving=True)
    """
    if isinstance(search, Strategy) and type(search) is not Strategy:
        return search
    if not isinstance(search, str) or search not in STRATEGIES:
        raise InputError(f"the search must be one of {', '.join(STRATEGIES)}, got {search!r}")
    return STRATEGIES[search](**options)
