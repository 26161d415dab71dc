"""Where a forward pass drops units and where knobs act: sites, the rate at each, what changes a tensor there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from dampen.engine.knobs.noise.dropout import Rates
from dampen.errors import InputError

Kind = Literal["unit", "alpha", "recurrent"]

Placed = dict[tuple[str, int], list[Callable[[Tensor], Tensor]]]
"""What changes a tensor at a site, by kind and number."""


@dataclass(frozen=True)
class Place:
    """One place of a forward pass where units are dropped.

    Args:
        module: path of the innermost module that calls it.
        kind: `unit` for dropout of units or channels, `alpha` for alpha dropout, `recurrent` for the dropout between
            the layers of a `nn.GRU`, `nn.LSTM` or `nn.RNN`.
        p: the rate that the network gives.
        shape: of the uniforms that decide, for one member.
    """

    module: str
    kind: Kind
    p: float
    shape: tuple[int, ...]


def rates_at(value: Rates | None, places: Sequence[Place]) -> list[float]:
    """Return the rate at each place of a forward pass under a setting's `dropout`; None keeps the network's own.

    Raises:
        InputError: the setting names another number of rates than there are places, or a module that drops nothing.
    """
    if value is None:
        return [place.p for place in places]
    if not isinstance(value, tuple):
        return [float(value)] * len(places)
    if value and isinstance(value[0], tuple):
        return _rates_by_name(dict(value), places)  # type: ignore[arg-type]
    if len(value) != len(places):
        raise InputError(
            f"dropout names {len(value)} rates, but the network drops units in {len(places)} places: give one rate "
            "for each, or a single rate for all"
        )
    return [float(rate) for rate in value]  # type: ignore[arg-type]


def set_rates(network: nn.Module, places: Sequence[Place], rates: Sequence[float]) -> None:
    """Let a network's own layers drop at these rates; the rates of functions stay the network's own."""
    for place, rate in zip(places, rates, strict=True):
        module = network.get_submodule(place.module)
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = rate
        elif isinstance(module, nn.MultiheadAttention | nn.RNNBase):
            module.dropout = rate


def _rates_by_name(by_name: dict[str, float], places: Sequence[Place]) -> list[float]:
    """Return each place's rate: that of the longest given name which is its module or contains it."""

    def holds(name: str, module: str) -> bool:
        return name == module or module.startswith(f"{name}.")

    for name in by_name:
        if not any(holds(name, place.module) for place in places):
            named = ", ".join(dict.fromkeys(repr(place.module) for place in places)) or "none"
            raise InputError(f"dropout names the module {name!r}, which drops nothing; those that do are {named}")
    rates: list[float] = []
    for place in places:
        names = [name for name in by_name if holds(name, place.module)]
        rates.append(by_name[max(names, key=len)] if names else place.p)
    return rates
