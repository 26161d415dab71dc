"""A training: what a study ranks, compares and recommends is a setting together with a length."""

from dataclasses import dataclass
from typing import Any

from dampen.engine.knobs import Setting


@dataclass(frozen=True)
class Training:
    """A setting, how long it trains, and where it is stopped.

    Every training is a finished one: its learning rate's schedule ends with it, so that a short training is no long one
    cut off. Only early stopping cuts one off.

    Args:
        setting: its knobs.
        epochs: the length over which the schedule runs.
        stopped_at: the epoch after which it is stopped early; None: it is not.
    """

    setting: Setting
    epochs: int
    stopped_at: int | None = None

    @property
    def trained(self) -> int:
        """How many epochs it really trains."""
        return self.epochs if self.stopped_at is None else self.stopped_at

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {"setting": plain(self.setting), "epochs": self.epochs, "stopped_at": self.stopped_at}


def plain(setting: Setting) -> dict[str, Any]:
    """Return a setting as JSON can hold it."""
    return {
        name: dict(value)
        if isinstance(value, tuple) and value and isinstance(value[0], tuple)
        else list(value)
        if isinstance(value, tuple)
        else value
        for name, value in setting.items()
    }


def setting_of(values: dict[str, Any]) -> Setting:
    """Return the setting that `plain` wrote."""
    return Setting(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def setting_text(setting: Setting) -> str:
    """Return a setting in words."""

    def value(v: Any) -> str:
        if isinstance(v, tuple):
            return "(" + ", ".join(f"{p[0]}: {p[1]:.3g}" if isinstance(p, tuple) else f"{p:.3g}" for p in v) + ")"
        return f"{v:.3g}" if isinstance(v, int | float) else str(v)

    return ", ".join(f"{name.replace('_', ' ')} {value(v)}" for name, v in setting.items()) or "the network as it is"
