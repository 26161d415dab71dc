"""What the rungs of a search found: which settings and which lengths are best."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dampen.engine.knobs import Setting
from dampen.search._training import Training

SEARCH = "search"
"""The family of the settings that were searched; any other is that of a reference."""
AROUND = "search-around"
"""How the names of trainings around the best setting begin: those are drawn near it, not from the whole space."""


@dataclass(frozen=True)
class Ranked:
    """What a rung of the search found.

    Args:
        run: name of the trainings.
        family: `search`, or the reference that the settings are of.
        bracket: which of the search's brackets, from 0; one more than there are for trainings after the last.
        epochs: length of the trainings.
        settings: those that were still in it, the best first.
        costs: mean cost of each on the selection rows, over seeds; infinite for one that diverged.
        stops: for each the epoch with the least validation loss, and that loss; infinite for one that diverged.
        calibrated: for each likewise its cost under a temperature of its own; empty where that was not measured.
    """

    run: str
    family: str
    bracket: int
    epochs: int
    settings: tuple[Setting, ...]
    costs: tuple[float, ...]
    stops: tuple[tuple[int, float], ...]
    calibrated: tuple[float, ...] = ()

    def document(self, metric: str, values: Sequence[float | None]) -> dict[str, Any]:
        """Return it as JSON can hold it.

        Args:
            metric: in which costs are written, too.
            values: of that metric, one for each cost.
        """
        return {
            "run": self.run,
            "family": self.family,
            "bracket": self.bracket,
            "epochs": self.epochs,
            "settings": [setting.to_dict() for setting in self.settings],
            "costs": [_finite(cost) for cost in self.costs],
            metric: list(values),
            "stops": [[epoch, _finite(loss)] for epoch, loss in self.stops],
            **({"calibrated": [_finite(cost) for cost in self.calibrated]} if self.calibrated else {}),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Ranked":
        """Return what `document` wrote."""
        return cls(
            document["run"],
            document["family"],
            document["bracket"],
            document["epochs"],
            tuple(Setting.from_dict(values) for values in document["settings"]),
            _costs(document["costs"]),
            tuple((epoch, np.inf if loss is None else loss) for epoch, loss in document["stops"]),
            _costs(document.get("calibrated", ())),
        )


def best(ranked: Sequence[Ranked], family: str) -> list[Training]:
    """Return a family's settings, each at its best length, the best first; those that diverged are left out."""
    return list(best_costs(ranked, family))


def best_costs(ranked: Sequence[Ranked], family: str) -> dict[Training, float]:
    """Return the same, each with its mean cost on the selection rows."""
    found: dict[Setting, tuple[float, int]] = {}
    for rung in ranked:
        if rung.family == family:
            for setting, cost in zip(rung.settings, rung.costs, strict=True):
                found[setting] = min(found.get(setting, (math.inf, 0)), (cost, rung.epochs))
    order = sorted((cost, epochs, i) for i, (cost, epochs) in enumerate(found.values()) if math.isfinite(cost))
    settings = list(found)
    return {Training(settings[i], epochs): cost for cost, epochs, i in order}


def best_calibrated(ranked: Sequence[Ranked], family: str) -> Training | None:
    """Return the training of a family that costs least under a temperature of its own; None where none was measured."""
    rungs = [rung for rung in ranked if rung.family == family]
    costs = [
        (cost, rung.epochs, setting)
        for rung in rungs
        for setting, cost in zip(rung.settings, rung.calibrated, strict=bool(rung.calibrated))
        if math.isfinite(cost)
    ]
    if not costs or not all(rung.calibrated for rung in rungs):  # some may be of an earlier version
        return None
    _, epochs, setting = min(costs, key=lambda found: found[:2])
    return Training(setting, epochs)


def best_stop(ranked: Sequence[Ranked], family: str) -> Training | None:
    """Return the training of a family and the epoch in it with the least validation loss of all."""
    stops = [
        (loss, epoch, rung.epochs, setting)
        for rung in ranked
        if rung.family == family
        for setting, (epoch, loss) in zip(rung.settings, rung.stops, strict=True)
        if math.isfinite(loss)
    ]
    if not stops:
        return None
    _, epoch, epochs, setting = min(stops, key=lambda stop: stop[:3])
    return Training(setting, epochs, epoch)


def _costs(values: Sequence[float | None]) -> tuple[float, ...]:
    return tuple(np.inf if cost is None else cost for cost in values)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
