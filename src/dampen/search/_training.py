"""A training: what a search ranks is a setting together with a length."""

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
        return {"setting": self.setting.to_dict(), "epochs": self.epochs, "stopped_at": self.stopped_at}
