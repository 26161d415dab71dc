"""The protocol of a study: its rows, its settings, its lengths. The same plan gives the same study."""

import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from dampen.data import Data, a_round
from dampen.engine import TrainConfig
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.metrics import Metric, once_calibrated
from dampen.search import Bracket, Ranked, Space
from dampen.study import _config
from dampen.study._defaults import SMALL, Lengths
from dampen.study._storage import fingerprint

FOLDS = 5  # that rows are cut into where they are few; where they are many a fifth selects and evaluates
_FEW_GROUPS = 50  # of rows, below which less than five would judge
FIT_A_TEMPERATURE = 200  # rows that evaluate, from which on each half of them is enough to compare by it
FORMAT = 2  # of a plan; 1 trained all settings for one length


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study, before anything is trained.

    Args:
        model: what makes the network, by name.
        data: with test rows, and the validation rows that it came with; a regression target has mean 0, deviation 1.
        target_scale: mean and standard deviation of a regression target before that.
        metric: for selection and evaluation.
        space: where the settings are drawn from; None for a comparison.
        search: the name of its strategy; `none` for a comparison.
        brackets: of the search; none where settings and length are known.
        families: settings that each reference tries, by its name; they compete only with each other.
        refined: how many settings are drawn around the best, at its length.
        rounds: how often that is done, each time around the best so far.
        seeds: of the search.
        lengths: of trainings.
        confirmed: how many of the best are trained again.
        confirm_seeds: of the confirmation and of the last training.
        margin: share of the loss below which a difference is negligible; None: 1 %, or a tenth of the spread between
            seeds where that is more.
        scheme: `folds` or `held-out`.
        seed: of splits and draws.
        training: how members train, without `epochs`: `lengths` has them.
        budget: seconds that the study may take, which then decides on the number of confirming seeds.
        same_start: whether the network's initial weights are the same for every seed.
        own_dropout: whether the network drops units at rates of its own, which the space does not search.
        notes: on the network.
    """

    model: str
    data: Data
    target_scale: tuple[float, float]
    metric: Metric
    space: Space | None = None
    search: str = "none"
    brackets: tuple[Bracket, ...]
    families: Mapping[str, tuple[Setting, ...]] = field(default_factory=dict)
    refined: int = 0
    rounds: int = 1
    seeds: tuple[int, ...]
    lengths: Lengths
    confirmed: int
    confirm_seeds: tuple[int, ...]
    margin: float | None
    scheme: str
    seed: int
    training: TrainConfig
    budget: float | None = None
    same_start: bool = False
    own_dropout: bool = False
    notes: tuple[str, ...] = ()

    @property
    def settings(self) -> int:
        """How many settings the search tries."""
        return sum(bracket.settings for bracket in self.brackets)

    @property
    def calibrated_metric(self) -> Metric | None:
        """The metric where each network has a temperature: of a search by an nll of classes with rows enough for it."""
        fits = self.space is not None and fits_temperatures(self.data, self.scheme)
        return once_calibrated(self.metric) if fits else None

    @property
    def calibrates_ensembles(self) -> bool:
        """Whether ensembles are trained to calibrate on: of values where there are folds.

        A held-out part serves all networks, and probabilities of classes are calibrated by single networks as well.
        """
        return self.scheme == "folds" and self.data.task == "regression"

    def in_unit(self, cost: float) -> float:
        """Return a mean cost in the metric's unit."""
        return self.metric.in_unit(cost, self.target_scale[1])

    def rung_document(self, rung: Ranked) -> dict[str, Any]:
        """Return what a rung of the search found as JSON can hold it, costs also as the metric tells them."""
        return rung.document(self.metric.name, [self.in_unit(c) if math.isfinite(c) else None for c in rung.costs])

    def document(self) -> dict[str, Any]:
        """Return what is needed to repeat the study, as JSON can hold it."""
        from importlib.metadata import version

        return {
            "format": FORMAT,
            "data": {"name": self.data.name, "source": self.data.source, "fingerprint": fingerprint(self.data)},
            "reading": None if self.data.reading is None else dict(self.data.reading),
            "target_scale": list(self.target_scale),
            "model": self.model,
            "metric": self.metric.name,
            "space": {name: str(d) for name, d in self.space.dimensions.items()} if self.space else {},
            "search": self.search,
            "brackets": [
                {
                    "settings": bracket.settings,
                    "rungs": [[rung.epochs, rung.keep] for rung in bracket.rungs],
                    "drawn": None if bracket.drawn is None else [setting.to_dict() for setting in bracket.drawn],
                }
                for bracket in self.brackets
            ],
            "families": {name: [setting.to_dict() for setting in settings] for name, settings in self.families.items()},
            "refined": self.refined,
            **({} if self.rounds == 1 else {"rounds": self.rounds}),
            "seeds": list(self.seeds),
            "lengths": vars(self.lengths),
            "confirmed": self.confirmed,
            "confirm_seeds": list(self.confirm_seeds),
            "margin": self.margin,
            "scheme": self.scheme,
            **({} if self.data.given_folds is None else {"folds_a_round": a_round(self.data.given_folds)}),
            "seed": self.seed,
            "training": _config.written(self.training),
            "budget": self.budget,
            "versions": {"dampen": version("dampen"), "torch": torch.__version__, "python": platform.python_version()},
        }


def fits_temperatures(data: Data, scheme: str) -> bool:
    """Return whether the rows that evaluate are enough to fit a temperature to each half of them.

    Rows of uneven weight count as so many of even weight as tell as much (Kish 1965).
    """
    if data.given_folds is not None:
        n = min(len(held) for _, held in data.given_folds)
    elif len(data.validation_rows):
        n = len(data.validation_rows) // 2  # the other half selects
    else:
        n = len(data.train_rows) // (FOLDS if scheme == "folds" else 2 * FOLDS)
    if data.weights is not None:
        w = data.weights[data.train_rows].double()
        n *= float(w.mean() ** 2 / w.square().mean())
    return round(n, 6) >= FIT_A_TEMPERATURE  # equal weights need not be so to the last digit


def scheme_of(data: Data, wanted: str | None) -> str:
    """Return how rows evaluate: by folds where they are given or rows, or their groups, are few, else by a part.

    Raises:
        InputError: a scheme that does not exist, or folds of data with validation rows of its own.
    """
    if wanted not in (None, "folds", "held-out"):
        raise InputError(f"validation must be folds or held-out, got {wanted!r}")
    if data.given_folds is not None:
        if wanted == "held-out":
            raise InputError(f"'{data.name}' has folds of its own: use validation='folds', or data without them")
        return "folds"
    given = len(data.validation_rows) > 0 or data.ordered
    if wanted == "folds" and given:
        why = "has rows in the order of time" if data.ordered else "has validation rows already"
        raise InputError(f"'{data.name}' {why}: use validation='held-out'")
    return wanted or ("held-out" if given or (len(data.train_rows) >= SMALL and not _few_groups(data)) else "folds")


def _few_groups(data: Data) -> bool:
    """Return whether rows are of so few groups that a held-out part would judge by a handful of them."""
    if data.groups is None or data.copies.are(data.groups):
        return False
    return len(data.groups[data.train_rows].unique()) < _FEW_GROUPS


def name_of(model: object) -> str:
    """Return a name by which a folder recognises its model."""
    return getattr(model, "__qualname__", None) or repr(model)
