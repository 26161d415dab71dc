"""Spaces of settings, and how settings are drawn from them."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from dampen._io import shortened
from dampen.engine.knobs import KNOBS, Scales, Setting, find_knob
from dampen.errors import InputError

_FURTHER = 10.0  # how far beyond a logarithmic range's end the next one reaches
_NEAR = 3.0  # factor to each side within which a logarithmic range is searched again around its best value
_MILD = 1 / 3  # of a range of rates: how far what is turned on goes at first
_FEW_SWITCHED = 3  # dimensions with a 0 of their own up to which all are changed at once around a setting
_TURNS = 8  # of all knobs until enough settings that have not been tried are found
_MOST_OF_A_GRID = 4096  # settings, more than any search has unasked
METHODS = ("sobol", "random", "grid", "tpe", "hyperband")


@dataclass(frozen=True)
class LogUniform:
    """Numbers whose logarithm is uniform, and perhaps exactly 0.

    Args:
        low: smallest, larger than 0.
        high: largest.
        zero: probability of 0 instead: no decay at all is a value of its own.

    Raises:
        InputError: ends that are out of order or not positive, or a probability outside [0, 1).
    """

    low: float
    high: float
    zero: float = 0.0

    def __post_init__(self) -> None:
        _check_ends(self.low, self.high)
        if self.low <= 0:
            raise InputError(f"a logarithmic range starts above 0, got {self.low:g}; zero=0.1 adds 0 itself")
        if not 0 <= self.zero < 1:
            raise InputError(f"zero must be a probability from 0 to below 1, got {self.zero:g}")

    def at(self, share: float) -> float:
        """Return the value below which `share` of the distribution lies."""
        if share < self.zero:
            return 0.0
        along = (share - self.zero) / (1 - self.zero)
        return math.exp(math.log(self.low) + along * (math.log(self.high) - math.log(self.low)))

    def grid(self, n: int) -> list[float]:
        """Return n values from end to end, evenly in the logarithm; 0 is one of them if it belongs."""
        if not self.zero:
            return np.geomspace(self.low, self.high, n).tolist()
        return [
            0.0,
            *(np.geomspace(self.low, self.high, n - 1).tolist() if n > 2 else [math.sqrt(self.low * self.high)]),
        ]

    def around(self, value: float) -> "Dimension":
        """Return the part of this range around a value: a factor of 3 to each side, or a decay's lower end for 0."""
        if value == 0:
            return LogUniform(self.low, min(self.high, _NEAR**2 * self.low), 0.5)
        low, high = max(self.low, value / _NEAR), min(self.high, value * _NEAR)
        return LogUniform(low, high) if low < high else Choice([value])

    def other(self, value: float, off: bool, share: float) -> float:
        """Return another value: 0 for one that is turned off, any for 0, one near it otherwise.

        Args:
            value: from this range.
            off: whether to turn it off, if 0 belongs to this range.
            share: of the values to choose from that lie below the one that is returned.
        """
        return _other(self, value, off, share, share)

    def wider(self, value: float) -> "LogUniform | None":
        """Return the range to try next if `value` lies at an end of this one."""
        edge = (self.high / self.low) ** 0.05
        if 0 < value <= self.low * edge:
            return LogUniform(self.low / _FURTHER, self.high, self.zero)
        return LogUniform(self.low, self.high * _FURTHER, self.zero) if value >= self.high / edge else None

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}" + (" or 0" if self.zero else "")


@dataclass(frozen=True)
class Uniform:
    """Numbers that are equally likely from end to end, and perhaps exactly 0.

    Args:
        low: smallest.
        high: largest.
        zero: probability of 0 instead.

    Raises:
        InputError: ends that are out of order, or a probability outside [0, 1).
    """

    low: float
    high: float
    zero: float = 0.0

    def __post_init__(self) -> None:
        _check_ends(self.low, self.high)
        if not 0 <= self.zero < 1:
            raise InputError(f"zero must be a probability from 0 to below 1, got {self.zero:g}")

    def at(self, share: float) -> float:
        """Return the value below which `share` of the distribution lies."""
        if share < self.zero:
            return 0.0
        return float(self.low + (share - self.zero) / (1 - self.zero) * (self.high - self.low))

    def grid(self, n: int) -> list[float]:
        """Return n values from end to end; 0 is one of them if it belongs."""
        if not self.zero:
            return np.linspace(self.low, self.high, n).tolist()
        return [0.0, *(np.linspace(self.low, self.high, n - 1).tolist() if n > 2 else [(self.low + self.high) / 2])]

    def around(self, value: float) -> "Dimension":
        """Return the part of this range around a value: a sixth of it to each side."""
        reach = (self.high - self.low) / 6
        if self.zero and value == 0:
            return Uniform(self.low, self.low + reach, 0.5)
        low, high = max(self.low, value - reach), min(self.high, value + reach)
        return Uniform(low, high) if low < high else Choice([value])

    def other(self, value: float, off: bool, share: float) -> float:
        """Return another value: 0 for one that is turned off, one of the lower third for 0, one near it otherwise.

        Args:
            value: from this range.
            off: whether to turn it off, if 0 belongs to this range.
            share: of the values to choose from that lie below the one that is returned.
        """
        return _other(self, value, off, share, _MILD * share)

    def wider(self, value: float) -> "Uniform | None":
        """Return the range to try next if `value` lies at an end of this one and rates can go further."""
        edge = 0.05 * (self.high - self.low)
        if self.zero and value == 0:
            return None
        if value >= self.high - edge and self.high < 0.95:
            return Uniform(self.low, min(0.95, self.high + (self.high - self.low) / 2), self.zero)
        if value <= self.low + edge and self.low > 0:
            return Uniform(max(0.0, self.low - (self.high - self.low) / 2), self.high, self.zero)
        return None

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}" + (" or 0" if self.zero else "")


@dataclass(frozen=True)
class Choice:
    """A few values, equally likely.

    Raises:
        InputError: there is none.
    """

    values: tuple[Any, ...]

    def __init__(self, values: Sequence[Any]):
        if not values:
            raise InputError("a choice needs at least one value")
        object.__setattr__(self, "values", tuple(values))

    def at(self, share: float) -> Any:
        """Return the value below which `share` of the distribution lies."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def grid(self, n: int) -> list[Any]:
        """Return all values, whatever n is, each once."""
        return list(dict.fromkeys(self.values))

    def around(self, value: Any) -> "Dimension":
        """Return all values, as they have no order."""
        return self

    def other(self, value: Any, off: bool, share: float) -> Any:
        """Return another value, if there is one: of numbers one next to it, as less of a change.

        Args:
            value: one of them.
            off: not used: that a value is off is not known here.
            share: of those to choose from that lie before the one that is returned.
        """
        distinct = list(dict.fromkeys(self.values))
        if all(isinstance(item, int | float) for item in distinct):
            distinct.sort()
            place = distinct.index(value)
            others = [*distinct[max(0, place - 1) : place], *distinct[place + 1 : place + 2]]
        else:
            others = [other for other in distinct if other != value]
        return Choice(others).at(share) if others else value

    def wider(self, value: Any) -> "Choice | None":
        """Return larger values to try next if `value` is the largest of three numbers or more."""
        numbers = all(isinstance(item, int | float) for item in self.values)
        if numbers and len(self.values) > 2 and value == max(self.values) > 0:
            return Choice((value, 3 * value, 10 * value))
        return None

    def __str__(self) -> str:
        return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in self.values)


def Fixed(value: Any) -> Choice:  # noqa: N802 - a dimension like the others
    """Return the dimension of a knob that does not vary."""
    return Choice([value])


Dimension = LogUniform | Uniform | Choice


def _other(range_: LogUniform | Uniform, value: float, off: bool, near: float, on: float) -> float:
    """Return another value than this one: that many of those near it, or of all for 0, lie below.

    Args:
        range_: of the values.
        value: from it.
        off: whether to turn it off, if 0 belongs to the range.
        near: share of the values near it.
        on: share of all values but 0.
    """
    if not range_.zero or (value and not off):
        return float(range_.around(value).at(near))
    if value:
        return 0.0
    return replace(range_, zero=0.0).at(on)


@dataclass(frozen=True)
class PerLayer:
    """A dimension for each place where the network drops units.

    Args:
        each: where a rate lies.
        layers: how many there are.
    """

    each: Dimension
    layers: int

    def __str__(self) -> str:
        return f"{self.each} in each of {self.layers} layers"


@dataclass(frozen=True)
class Space:
    """A dimension for each knob.

    Args:
        dimensions: by knob.

    Raises:
        InputError: there is none, or one that is not a dimension or value.

    Example:
        >>> space = Space({"weight_decay": LogUniform(1e-4, 1.0, zero=0.1), "dropout": Uniform(0, 0.7)})
        >>> len(space.draw(8, "sobol", seed=0))
        8
        >>> space.draw(2, "grid", seed=0)[:2]
        [Setting(weight_decay=0.0, dropout=0.0), Setting(weight_decay=0.0, dropout=0.7)]
    """

    dimensions: Mapping[str, Dimension | PerLayer]

    def __post_init__(self) -> None:
        check_space(self.dimensions)
        if not self.dimensions:
            raise InputError("a space needs at least one knob")
        read = {name: _dimension(name, value) for name, value in self.dimensions.items()}
        object.__setattr__(self, "dimensions", read)
        for end in (0.0, 1.0):
            self._setting([end] * self._size)  # knobs refuse what they can't take

    def draw(self, n: int, method: str, seed: int) -> list[Setting]:
        """Return at most n distinct settings.

        Args:
            n: how many. A grid has as many values along each dimension as n allows, two at least.
            method: `sobol` (a scrambled low-discrepancy sequence, Owen 1998), `random` or `grid`; other searches do
                not draw all settings at once.
            seed: of the scrambling or the draws.

        Raises:
            InputError: an unknown method, or n below 1.
        """
        if n < 1:
            raise InputError(f"a search needs at least 1 setting, got {n}")
        if method == "grid":
            return self._grid(n)
        if method not in ("sobol", "random"):
            raise InputError(f"the search must be one of {', '.join(METHODS)}, got {method!r}")
        from scipy.stats import qmc

        if method == "sobol":
            engine: Any = qmc.Sobol(self._size, rng=seed)
            points = engine.random_base2(math.ceil(math.log2(max(2, n))))[:n]
        else:
            points = np.random.default_rng(seed).random((n, self._size))
        return list(dict.fromkeys(self._setting(point) for point in points))

    def around(self, setting: Setting) -> "Space":
        """Return the part of this space around a setting of it; rates of layers share the range around their mean."""
        near: dict[str, Dimension | PerLayer] = {}
        for name, dimension in self.dimensions.items():
            value = setting[name]
            if isinstance(dimension, PerLayer):
                near[name] = PerLayer(dimension.each.around(_mean(value)), dimension.layers)
            else:
                near[name] = dimension.around(value)
        return Space(near)

    def changed(self, setting: Setting, n: int, tried: Collection[Setting], seed: int) -> list[Setting]:
        """Return up to n settings that differ from one in a single knob, all knobs in turn: on, off, or a little.

        The one-exchange neighbourhood of Hutter et al. (2009), "ParamILS", section 3.1.

        Args:
            setting: the one.
            n: how many.
            tried: none of these.
            seed: of the order and the values.
        """
        generator, found = np.random.default_rng(seed), {}
        for _ in range(_TURNS if n else 0):
            for name in generator.permutation(list(self.dimensions)).tolist():
                off, share = bool(generator.random() < 0.5), float(generator.random())
                dimension, value = self.dimensions[name], setting[name]
                if isinstance(dimension, PerLayer):
                    other = (dimension.each.other(_mean(value), off, share),) * dimension.layers
                else:
                    other = dimension.other(value, off, share)
                new = self.setting({**self._values(setting), name: other})
                if new != setting and new not in tried:
                    found[new] = None
                if len(found) == n:
                    return list(found)
        return list(found)

    def without_each(self, setting: Setting) -> list[Setting]:
        """Return a setting with each of its knobs off that may be, and that scales no other one."""
        off = {name: _off(name, dimension) for name, dimension in self.dimensions.items()}
        without = (
            self.setting({**self._values(setting), name: value})
            for name, value in off.items()
            if value is not None and not isinstance(KNOBS[name].acts, Scales)
        )
        return list(dict.fromkeys(new for new in without if new != setting))

    def crossed(
        self, one: Setting, other: Setting, tried: Collection[Setting], generator: np.random.Generator
    ) -> Setting | None:
        """Return a setting that has each knob as one of two has it, or None where all that are found are `tried`.

        Uniform crossover (Syswerda 1989, "Uniform crossover in genetic algorithms").
        """
        mine, theirs = self._values(one), self._values(other)
        for _ in range(_TURNS):
            coins = generator.random(len(mine)) < 0.5
            new = self.setting({name: mine[name] if c else theirs[name] for name, c in zip(mine, coins, strict=True)})
            if new not in tried:
                return new
        return None

    def _values(self, setting: Setting) -> dict[str, Any]:
        return {name: setting[name] for name in self.dimensions}

    @property
    def mixed(self) -> bool:
        """Whether many knobs may be off: so many that settings near another one differ in a few of them only."""
        switched = sum(isinstance(d, LogUniform | Uniform) and bool(d.zero) for d in self.dimensions.values())
        return switched > _FEW_SWITCHED

    def edges(self, setting: Setting) -> dict[str, Dimension]:
        """Return, for each knob whose value lies at an end of its range, the range to try next."""
        edges: dict[str, Dimension] = {}
        for name, dimension in self.dimensions.items():
            value = setting[name]
            each = dimension.each if isinstance(dimension, PerLayer) else dimension
            values = value if isinstance(dimension, PerLayer) and isinstance(value, tuple) else (value,)
            wider = [next_range for value in values if (next_range := each.wider(value)) is not None]
            if wider and _allowed(name, wider[0]):
                edges[name] = wider[0]
        return edges

    @property
    def _size(self) -> int:
        return sum(d.layers if isinstance(d, PerLayer) else 1 for d in self.dimensions.values())

    def _setting(self, shares: Sequence[float]) -> Setting:
        rest = iter(shares)
        return self.setting(
            {
                name: tuple(d.each.at(next(rest)) for _ in range(d.layers))
                if isinstance(d, PerLayer)
                else d.at(next(rest))
                for name, d in self.dimensions.items()
            }
        )

    def setting(self, values: Mapping[str, Any]) -> Setting:
        """Return the setting of a value for each knob; what another one makes idle or excludes is off, if it may be.

        A dimension is conditional where it holds its knob's neutral value: a schedule is off where nothing that it
        moves is on, and of two knobs that exclude each other the later one in the registry is off.
        """
        kept = dict(values)
        for name in (name for name in KNOBS if name in values):
            knob, held = KNOBS[name], {other: v for other, v in kept.items() if other != name}
            moved = knob.acts.of if isinstance(knob.acts, Scales) else ()
            others = [other for other in (*knob.excludes, *moved) if other in held]
            on = [other for other in others if KNOBS[other].on(held)]
            idle = bool(moved) and bool(others) and not on
            excluded = any(other in knob.excludes for other in on)
            if (idle or excluded) and _may_be(self.dimensions[name], knob.neutral):
                kept[name] = knob.neutral
        return Setting(**kept)

    def _grid(self, n: int) -> list[Setting]:
        varying = sum(
            d.layers if isinstance(d, PerLayer) else 1 for d in self.dimensions.values() if not isinstance(d, Choice)
        )
        fixed = math.prod(len(d.grid(1)) for d in self.dimensions.values() if isinstance(d, Choice))
        along = max(2, int((n / fixed) ** (1 / max(1, varying)) + 1e-9))
        axes = [
            list(product(*[d.each.grid(along)] * d.layers)) if isinstance(d, PerLayer) else d.grid(along)
            for d in self.dimensions.values()
        ]
        points = math.prod(map(len, axes))
        if points > max(n, _MOST_OF_A_GRID):
            raise InputError(
                f"a grid of {len(axes)} knobs has {points} settings, where {n} are asked for: search fewer knobs, or "
                "by another strategy, such as sobol"
            )
        every = (self.setting(dict(zip(self.dimensions, values, strict=True))) for values in product(*axes))
        return list(dict.fromkeys(every))


def _mean(value: Any) -> float:
    return float(np.mean(value)) if isinstance(value, tuple) else value


def check_space(dimensions: object) -> None:
    """Refuse what is no mapping from names of knobs.

    Raises:
        InputError: it is none.
    """
    if not isinstance(dimensions, Mapping) or not all(isinstance(name, str) for name in dimensions):
        raise InputError(
            "a space is a mapping from names of knobs to dimensions or values, such as {'dropout': Uniform(0, 0.7)}; "
            f"got {shortened(repr(dimensions))}"
        )


def _off(knob: str, dimension: Dimension | PerLayer) -> Any:
    """Return the value of a dimension that turns its knob off; None where it has none."""
    if isinstance(dimension, PerLayer):
        value = _off(knob, dimension.each)
        return None if value is None else (value,) * dimension.layers
    neutral = KNOBS[knob].neutral
    value = 0.0 if neutral is None else neutral  # a rate of 0 is not what a network has without a setting
    return value if _may_be(dimension, value) or (isinstance(dimension, Uniform) and dimension.low == value) else None


def _may_be(dimension: Dimension | PerLayer, neutral: object) -> bool:
    """Return whether a dimension holds a knob's neutral value."""
    if isinstance(dimension, Choice):
        return neutral in dimension.values
    return neutral == 0 and isinstance(dimension, LogUniform | Uniform) and dimension.zero > 0


def _allowed(knob: str, dimension: Dimension) -> bool:
    """Return whether a knob takes what lies at the upper end."""
    try:
        Setting(**{knob: dimension.at(1.0)})
    except InputError:
        return False
    return True


def _dimension(name: str, value: object) -> Dimension | PerLayer:
    """Return a dimension, whose values, if they are given, are as its knob reads them."""
    if isinstance(value, LogUniform | Uniform | PerLayer):
        return value
    values = value.values if isinstance(value, Choice) else value if isinstance(value, list) else [value]
    knob = find_knob(name)
    return Choice([knob.read(each) for each in values])


def _check_ends(low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"a range needs two finite ends, the smaller first, got {low:g}..{high:g}")
