"""A setting in words."""

from collections.abc import Mapping
from typing import Any

from dampen.engine.knobs import KNOBS, turned

_FEW = 5  # knobs that are all named; of a cocktail's dozen only those that are on


def worth_saying(setting: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a setting is told by: all of few knobs; of many those that are on.

    Example:
        >>> worth_saying({"weight_decay": 0.0, "lr": 0.01})
        {'weight_decay': 0.0, 'lr': 0.01}
        >>> worth_saying({"weight_decay": 0.0, "lr": 0.01, "l1": 1e-5, "mixup": 0.0, "ema": 0.0, "input_noise": 0.0})
        {'lr': 0.01, 'l1': 1e-05}
        >>> many = dict.fromkeys(["l2", "mixup", "cutmix", "ema", "dropout", "swa"], 0.0)
        >>> worth_saying(many)  # of which 0 turns only the last one on: an average from the first epoch on
        {'swa': 0.0}
    """
    if len(setting) <= _FEW:
        return dict(setting)
    off = {name for name in setting if name in KNOBS}.difference(turned([setting]))
    if setting.get("dropout") == 0:
        off.add("dropout")  # its neutral value is whatever the network has
    return {name: value for name, value in setting.items() if name not in off}


def setting_text(setting: Mapping[str, Any], whole: bool = False, digits: int = 3) -> str:
    """Return a setting in words: what is worth saying, or the `whole` of it; numbers have so many digits."""
    told = setting if whole else worth_saying(setting)

    def value(v: Any) -> str:
        if isinstance(v, tuple):
            return "(" + ", ".join(f"{p[0]}: {value(p[1])}" if isinstance(p, tuple) else value(p) for p in v) + ")"
        return f"{v:.{digits}g}" if isinstance(v, int | float) else str(v)

    return ", ".join(f"{name.replace('_', ' ')} {value(v)}" for name, v in told.items()) or "the network as it is"
