"""A setting: one value for every knob that is turned."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dampen.engine.knobs._base import OnActivation, OnBatch, Variants
from dampen.engine.knobs._registry import KNOBS, find_knob
from dampen.errors import InputError


class Setting(Mapping[str, Any]):
    """One value for each knob that is turned; knobs left out keep the values of the network and the optimizer.

    Raises:
        InputError: a knob that does not exist, a value outside its range, or two knobs that exclude each other.

    Example:
        >>> setting = Setting(weight_decay=0.1, dropout=0.3)
        >>> setting["dropout"], setting.get("lr")
        (0.3, None)
        >>> setting
        Setting(weight_decay=0.1, dropout=0.3)
    """

    __slots__ = ("_values",)

    def __init__(self, **values: Any):
        for name in values:
            find_knob(name)
        self._values = {name: knob.read(values[name]) for name, knob in KNOBS.items() if name in values}
        for name in self._values:
            for other in KNOBS[name].excludes:
                if KNOBS[name].on(self._values) and KNOBS[other].on(self._values):
                    raise InputError(f"a setting turns {name} or {other}, not both: leave one of them out")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Setting":
        """Return the setting that `to_dict` gave, or JSON that was made of it.

        Raises:
            InputError: as for a `Setting`.
        """
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it, which has no infinite numbers.

        Example:
            >>> Setting(dropout=(0.1, 0.5), max_norm=float("inf")).to_dict()
            {'dropout': [0.1, 0.5], 'max_norm': 'inf'}
        """
        return {name: _plain(value) for name, value in self.items()}

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def __repr__(self) -> str:
        return f"Setting({', '.join(f'{name}={value!r}' for name, value in self._values.items())})"


def turned(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the knobs that one of the settings turns to something else than their neutral value.

    Example:
        >>> turned([{"l1": 0.0, "ema": 0.9}, {"ema": 0.0, "swa": 0.0}])
        ['ema', 'swa']
    """
    return [name for name, knob in KNOBS.items() if any(knob.on(setting) for setting in settings)]


def side_by_side(settings: Sequence[Setting]) -> list[Setting]:
    """Return settings in an order in which those that turn the same knobs inside a step lie together, the rarest first.

    A population trains neighbours in one step, which does for each of them what any of them asks for: noise of
    deviation 0 takes as long as any other.

    Example:
        >>> side_by_side([Setting(), Setting(mixup=0.2), Setting(l1=0.1), Setting(mixup=0.2, dropconnect=0.1)])
        [Setting(dropconnect=0.1, mixup=0.2), Setting(mixup=0.2), Setting(), Setting(l1=0.1)]
    """
    inside = [name for name in turned(settings) if isinstance(KNOBS[name].acts, OnBatch | OnActivation | Variants)]
    rarest = sorted(inside, key=lambda name: sum(map(KNOBS[name].on, settings)))
    return sorted(settings, key=lambda setting: [not KNOBS[name].on(setting) for name in rarest])


def _plain(value: Any) -> Any:
    """Return a value, or rates of layers in their order or by the layers' names; infinity as a word."""
    if not isinstance(value, tuple):
        return str(value) if value == math.inf else value
    return dict(value) if value and isinstance(value[0], tuple) else list(value)
