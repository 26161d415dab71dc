"""A setting: one value for every knob that is turned."""

from collections.abc import Iterator, Mapping
from typing import Any

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
                if other in self._values:
                    raise InputError(f"a setting turns {name} or {other}, not both: leave one of them out")

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
