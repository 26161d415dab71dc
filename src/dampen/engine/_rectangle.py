"""The members of a population as a rectangle, seeds times settings: which there are, which stay, how it is cut."""

from collections.abc import Sequence

from dampen.engine._history import Span
from dampen.engine.execution import _memory
from dampen.engine.knobs import Setting
from dampen.errors import InputError


def distinct(what: str, values: Sequence) -> tuple:
    """Return values as a tuple.

    Args:
        what: one of them is called.
        values: which.

    Raises:
        InputError: there is none, or one twice.
    """
    values = tuple(values)
    if not values:
        raise InputError(f"a population needs at least one {what}")
    if len(set(values)) < len(values):
        seen: set = set()
        twice = next(value for value in values if value in seen or seen.add(value))
        raise InputError(f"{what} {twice!r} is given twice")
    return values


def checked_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """Return seeds as a tuple.

    Raises:
        InputError: there is none, one twice, or one that is no seed.
    """
    seeds = distinct("seed", seeds)
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise InputError(f"a seed must be a whole number from 0 to 2^63 - 1, got {seed!r}")
    return seeds


def chosen(
    settings: Sequence[Setting], seeds: Sequence[int], members: Sequence[Setting] | Sequence[tuple[Setting, int]]
) -> tuple[list[int], list[int]]:
    """Return the places of the seeds and of the settings that a choice of members keeps.

    Args:
        settings: of the population.
        seeds: of the population.
        members: settings, with all their seeds; or (setting, seed) pairs that make every setting with every seed.

    Raises:
        InputError: none, one that is not there, or pairs that do not make a rectangle.
    """
    pairs = dict.fromkeys(m if isinstance(m, tuple) else (m, seed) for m in members for seed in seeds)
    for setting, seed in pairs:
        if setting not in settings or seed not in seeds:
            raise InputError(f"there is no member with {setting} and seed {seed}")
    if not pairs:
        raise InputError("select needs at least one member")
    s = [i for i, seed in enumerate(seeds) if any(seed == pair[1] for pair in pairs)]
    m = [i for i, setting in enumerate(settings) if any(setting == pair[0] for pair in pairs)]
    if len(pairs) != len(s) * len(m):
        raise InputError(
            f"{len(pairs)} members are not every one of {len(m)} settings with every one of {len(s)} "
            "seeds: select settings with all their seeds"
        )
    return s, m


def runs(keys: Sequence[object]) -> list[slice]:
    """Return the spans of equal neighbours."""
    ends = [i for i in range(1, len(keys) + 1) if i == len(keys) or keys[i] != keys[i - 1]]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def cut(n_seeds: int, n_settings: int, at_once: int | None, alike: Sequence[slice]) -> list[Span]:
    """Return places for chunks: of seeds that have equally many rows, which train in lockstep.

    Args:
        n_seeds: how many there are.
        n_settings: likewise.
        at_once: how many members a chunk holds at most; None: those of one seed.
        alike: spans of seeds with equally many rows.
    """
    return [
        (slice(run.start + s.start, run.start + s.stop), m)
        for run in (slice(*run.indices(n_seeds)) for run in alike)
        for s, m in _memory.cut((run.stop - run.start, n_settings), at_once or n_settings)
    ]
