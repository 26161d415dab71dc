"""A knob's value at each site of a forward pass: one number for all, one for each, or one for each named module."""

from collections.abc import Sequence
from typing import Any

from dampen.engine.knobs._base import Site
from dampen.errors import InputError


def spread(
    knob: str, value: Any, sites: Sequence[Site], what: str, able: Sequence[bool], usual: Sequence[bool] | None = None
) -> list[float]:
    """Return the number at each site, 0 where the knob does not act.

    Args:
        knob: its name, for errors.
        value: a number for all usual sites, a tuple of one for each of them, or of (module name, number)s. A name
            holds for a module and those inside it, the longest one that does.
        sites: of the network, in the order of the forward pass.
        what: what the usual ones are, for errors: `convolutions of images`.
        able: at which sites the knob can act.
        usual: which of these a value without names is for; by default all.

    Raises:
        InputError: there is no such site, another number of them, or none in a module that is named.
    """
    usual = able if usual is None else usual
    by_name = isinstance(value, tuple) and bool(value) and isinstance(value[0], tuple)
    if not any(able if by_name else usual):
        raise InputError(f"{knob} can't act on this network: it has no {what}")
    if by_name:
        return _by_name(knob, dict(value), sites, what, able)
    count = sum(usual)
    if isinstance(value, tuple) and len(value) != count:
        raise InputError(f"{knob} names {len(value)} numbers, but the network has {count} {what}: give one for each")
    rest = iter(value if isinstance(value, tuple) else [value] * count)
    return [next(rest) if on else 0.0 for on in usual]


def _by_name(
    knob: str, by_name: dict[str, float], sites: Sequence[Site], what: str, able: Sequence[bool]
) -> list[float]:
    def holds(name: str, module: str) -> bool:
        return name == module or module.startswith(f"{name}.")

    known = list(dict.fromkeys(site.module for site, can in zip(sites, able, strict=True) if can))
    for name in by_name:
        if not any(holds(name, module) for module in known):
            those = ", ".join(map(repr, known))
            raise InputError(f"{knob} names the module {name!r}, which has no {what}; those that have are {those}")
    values: list[float] = []
    for site, can in zip(sites, able, strict=True):
        names = [name for name in by_name if can and holds(name, site.module)]
        values.append(by_name[max(names, key=len)] if names else 0.0)
    return values
