"""Who trains on: in the next rung, for twice as long, or near the best setting."""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from dampen.engine.knobs import Setting
from dampen.search._halving import Rung
from dampen.search._ranked import SEARCH, Ranked, best, best_calibrated
from dampen.search._space import Space
from dampen.search._training import Training

_WORTH = 0.005  # share of the loss: a training twice as long that gains less is the last one
_LEFT_OUT = 4  # one in so many new settings, at most, is the best one without a knob
_CROSSED = 2  # one in so many new settings crosses the best one with one of the next best
CROSSINGS = 6  # of the best settings with each other, after the rounds around the best one
_LONGER = {SEARCH: 2}  # how many of a family train longer; one of any other


def promoted(
    ranked: Mapping[str, Ranked], rung: Rung, drawn: int, families: Mapping[str, Sequence[Setting]]
) -> dict[str, Sequence[Setting]]:
    """Return each family's settings for the next rung: of a reference the same share goes on as of the search.

    Args:
        ranked: what the rung found, by family.
        rung: which one.
        drawn: how many settings the search began the bracket with.
        families: settings with which each reference began.
    """
    share = rung.keep / max(1, drawn)
    keep = {name: max(1, math.ceil(share * len(of))) for name, of in families.items()}
    going = {name: found.settings[: keep.get(name, rung.keep)] for name, found in ranked.items()}
    calibrated = {name: best_calibrated([found], name) for name, found in ranked.items()}  # its best in either sense
    return {name: _with(going[name], calibrated[name]) for name in going}


def longer(found: Sequence[Ranked], epochs: int) -> dict[str, Sequence[Setting]]:
    """Return the best of each family whose best one gained by its last doubling to `epochs`.

    A family that is known under temperatures, too, goes on beside the search while it gains under these.
    """
    going: dict[str, Sequence[Setting]] = {}
    for family in dict.fromkeys(rung.family for rung in found):
        mine = [rung for rung in found if rung.family == family]
        if _gained([(rung.epochs, rung.costs) for rung in mine], epochs):
            going[family] = _best_of(mine, family, epochs)
    for family in {rung.family for rung in found if rung.calibrated} if SEARCH in going else ():
        mine = [rung for rung in found if rung.family == family and rung.epochs <= epochs]
        ahead = best_calibrated(mine, family)
        if ahead is not None and _gained([(rung.epochs, rung.calibrated) for rung in mine], epochs):
            going[family] = _with(going.get(family, ()), ahead)
    return going


def _best_of(rungs: Sequence[Ranked], family: str, epochs: int) -> list[Setting]:
    ahead = best([rung for rung in rungs if rung.epochs == epochs], family)
    return [training.setting for training in ahead[: _LONGER.get(family, 1)]]


def _gained(costs: Sequence[tuple[int, Sequence[float]]], epochs: int) -> bool:
    """Return whether the least cost of trainings of a length is worth it beside the least of shorter ones."""
    least = min((cost for length, of in costs if length == epochs for cost in of), default=math.inf)
    shorter = min((cost for length, of in costs if length < epochs for cost in of), default=math.inf)
    return math.isfinite(least) and (math.isinf(shorter) or shorter - least > _WORTH * abs(shorter))


def _with(settings: Sequence[Setting], other: Training | None) -> Sequence[Setting]:
    return settings if other is None or other.setting in settings else [*settings, other.setting]


def not_yet_longer(found: Sequence[Ranked]) -> tuple[list[Setting], int]:
    """Return the search's best settings of its best one's length, and that; none if that one has trained longer.

    Args:
        found: by the search.
    """
    ahead = best(found, SEARCH)
    if not ahead:
        return [], 0
    epochs = ahead[0].epochs
    tried = {setting for rung in found if rung.family == SEARCH and rung.epochs > epochs for setting in rung.settings}
    if ahead[0].setting in tried:
        return [], 0
    alike = [t.setting for t in ahead if t.epochs == epochs and t.setting not in tried]
    return alike[: _LONGER[SEARCH]], epochs


def around(
    space: Space | None, found: Sequence[Ranked], n: int, seed: int, epochs: int | None = None
) -> tuple[list[Setting], int]:
    """Return up to n new settings near the best one, and its length: what halving dropped while trainings were short.

    Where many knobs may be off, the first ones are the best without one of its knobs, a quarter at most: what helped in
    short trainings may do harm in longer ones. Up to half cross it with the next best ones, and each of the others
    differs in a single knob: with more of them changed at a time little of what makes it good would be left.

    Args:
        space: of the search; None where nothing is searched.
        found: by the search.
        n: how many.
        seed: of the draws.
        epochs: length at which settings are compared; None: each at its best.
    """
    ahead = best([rung for rung in found if epochs in (None, rung.epochs)], SEARCH)
    if not ahead or not n or space is None:
        return [], 0
    first, tried = ahead[0], {training.setting for training in ahead}
    if not space.mixed:
        drawn = [s for s in space.around(first.setting).draw(2 * n, "sobol", seed) if s not in tried]
        return drawn[:n], first.epochs
    alike = [training.setting for training in ahead if training.epochs == first.epochs]
    new = _without(space, first.setting, n // _LEFT_OUT, tried, seed)
    new += _crossed(space, alike[: 1 + n // _CROSSED], n - len(new), {*tried, *new}, seed)
    return new + space.changed(first.setting, n - len(new), {*tried, *new}, seed), first.epochs


def crossings(space: Space | None, found: Sequence[Ranked], n: int, seed: int, epochs: int) -> list[Setting]:
    """Return up to n new settings: the best one of a length without a knob, half at most, and crossed with the next.

    What does harm in trainings of this length goes, and what each of these settings gained comes together.

    Args:
        space: of the search; none where few of its knobs may be off.
        found: by the search.
        n: how many.
        seed: of the draws.
        epochs: the length.
    """
    ahead = best([rung for rung in found if rung.epochs == epochs], SEARCH)
    if space is None or not space.mixed or not ahead:
        return []
    here = {s for rung in found if rung.family == SEARCH and rung.epochs == epochs for s in rung.settings}
    new = _without(space, ahead[0].setting, n // _CROSSED, here, seed)
    tried = {*new, *(setting for rung in found for setting in rung.settings)}
    return new + _crossed(space, [training.setting for training in ahead], n - len(new), tried, seed)


def left_out(space: Space | None, found: Sequence[Ranked], n: int, seed: int) -> list[Setting]:
    """Return up to n settings to train longer beside the best one: it without one of its knobs.

    What helped in trainings of its length may do harm in longer ones.

    Args:
        space: of the search; none where few of its knobs may be off.
        found: by the search.
        n: how many.
        seed: of the draws.
    """
    ahead = best(found, SEARCH)
    if space is None or not space.mixed or not ahead:
        return []
    beyond = {s for rung in found if rung.family == SEARCH and rung.epochs > ahead[0].epochs for s in rung.settings}
    return _without(space, ahead[0].setting, n, beyond, seed)


def _without(space: Space, setting: Setting, n: int, tried: Collection[Setting], seed: int) -> list[Setting]:
    """Return up to n settings that have not been tried, each the same without one of its knobs, in any order."""
    new = [other for other in space.without_each(setting) if other not in tried]
    return [new[i] for i in np.random.default_rng(seed).permutation(len(new))[:n]]


def _crossed(space: Space, ahead: Sequence[Setting], n: int, tried: Collection[Setting], seed: int) -> list[Setting]:
    """Return up to n settings that have not been tried, each a cross of the first with one of the others."""
    generator, crossed = np.random.default_rng(seed), []
    for other in ahead[1:]:
        if len(crossed) == n:
            break
        new = space.crossed(ahead[0], other, {*tried, *crossed}, generator)
        if new is not None:
            crossed.append(new)
    return crossed
