"""The protocol of a study: its rows, its settings, its lengths. The same plan gives the same study."""

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from dampen.data import Data
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.search import Bracket, Space
from dampen.study._defaults import SMALL, Lengths
from dampen.study._metrics import Metric
from dampen.study._storage import fingerprint
from dampen.study._training import plain

FORMAT = 2  # of a plan; 1 trained all settings for one length
FOLDS = 5
HELD_OUT = 0.2  # of the training rows: a half ranks, a half gives the verdict
CONFIRM_SEED, TEST_SEED = 1_000_000, 2_000_000  # away from the search's seeds: the verdict is independent of these
CALIBRATION_SEED = 3_000_000
CALIBRATION_FOLDS, FEW = 10, 1000  # below so many rows the tenth that is left out is missed less than a fifth
CALIBRATION_ROWS = 300  # a variance of so many rows is known to 8 %: no more folds are needed


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
        seeds: of the search.
        lengths: of trainings.
        confirmed: how many of the best are trained again.
        confirm_seeds: of the confirmation and of the last training.
        margin: share of the loss below which a difference is negligible; None: 1 %, or a tenth of the spread between
            seeds where that is more.
        scheme: `folds` or `held-out`.
        seed: of splits and draws.
        training: the arguments of `Population.fit`.
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
    seeds: tuple[int, ...]
    lengths: Lengths
    confirmed: int
    confirm_seeds: tuple[int, ...]
    margin: float | None
    scheme: str
    seed: int
    training: dict[str, Any]
    budget: float | None = None
    same_start: bool = False
    own_dropout: bool = False
    notes: tuple[str, ...] = ()

    @property
    def settings(self) -> int:
        """How many settings the search tries."""
        return sum(bracket.settings for bracket in self.brackets)

    @property
    def calibrates_ensembles(self) -> bool:
        """Whether ensembles are trained to calibrate on: of values where there are folds.

        A held-out part serves all networks, and probabilities of classes are calibrated by single networks as well.
        """
        return self.scheme == "folds" and self.data.task == "regression"

    def told(self, cost: float) -> float:
        """Return a mean cost in the metric's unit."""
        return self.metric.told(cost, self.target_scale[1])

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
                    "drawn": None if bracket.drawn is None else [plain(setting) for setting in bracket.drawn],
                }
                for bracket in self.brackets
            ],
            "families": {name: [plain(setting) for setting in settings] for name, settings in self.families.items()},
            "refined": self.refined,
            "seeds": list(self.seeds),
            "lengths": vars(self.lengths),
            "confirmed": self.confirmed,
            "confirm_seeds": list(self.confirm_seeds),
            "margin": self.margin,
            "scheme": self.scheme,
            "seed": self.seed,
            "training": {name: str(value) for name, value in self.training.items()},
            "budget": self.budget,
            "versions": {"dampen": version("dampen"), "torch": torch.__version__, "python": platform.python_version()},
        }


@dataclass(frozen=True)
class Split:
    """The rows of one phase for each seed.

    Args:
        sets: what `Population.fit` takes: one `Data` for all seeds, or one for each.
        ranking: rows that rank settings, for all seeds or for each.
        judging: rows that the verdict rests on; with folds the same ones.
    """

    sets: Data | list[Data]
    ranking: Any
    judging: Any

    @property
    def of_seeds(self) -> list[Data] | None:
        """One `Data` for each seed; None where all seeds share one."""
        return self.sets if isinstance(self.sets, list) else None

    def test_share(self) -> float:
        """Return the held-out rows over the training rows, the mean over folds."""
        sets = self.of_seeds or [self.sets]
        return float(np.mean([len(data.validation_rows) / len(data.train_rows) for data in sets]))  # type: ignore[union-attr]


def split(plan: Plan, seeds: Sequence[int], again: bool) -> Split:
    """Return a phase's rows, without the test rows, which are not used before the verdict.

    Args:
        plan: the study.
        seeds: of the phase.
        again: whether folds are drawn anew, for the confirmation.
    """
    data = replace(plan.data, test_rows=plan.data.test_rows[:0])
    if plan.scheme == "folds":
        repeats = math.ceil(len(seeds) / FOLDS)
        folds = _equally_long(data.folds(FOLDS, repeats, seed=plan.seed + again)[: len(seeds)], plan.seed)
        rows = [fold.validation for fold in folds]
        return Split(folds, rows, rows)
    ranking, judging = held_out(data, plan.seed)
    return Split(judging if again else ranking, ranking.validation, judging.validation)


def calibration_folds(plan: Plan) -> list[Data]:
    """Return as many folds as calibrating an ensemble takes, each to be left out by an ensemble of its own.

    Cross-conformal prediction (Vovk 2015, "Cross-conformal predictors"; Barber et al. 2021, "Predictive inference with
    the jackknife+", section 3) uses rows so: all of them are predicted by what has not seen them.
    """
    data = replace(plan.data, test_rows=plan.data.test_rows[:0])
    few = len(data.train_rows) < FEW
    try:
        folds = data.folds(CALIBRATION_FOLDS if few else FOLDS, seed=plan.seed + 2)
    except InputError:  # a class or groups that are too few for ten
        folds = data.folds(FOLDS, seed=plan.seed + 2)
    folds = _equally_long(folds, plan.seed)
    return folds[: n_calibration_folds(plan, len(folds[0].validation_rows))]


def n_calibration_folds(plan: Plan, of: int | None = None) -> int:
    """Return how many folds calibrating an ensemble takes: trainings for each seed that confirms; 0 of classes.

    Args:
        plan: the study.
        of: rows of a fold; None: as many as they should be.
    """
    if not plan.calibrates_ensembles:
        return 0
    n = len(plan.data.train_rows)
    # no more rows than the confirmation's networks leave out, one fold of five each: few seeds stay a short study
    rows = min(CALIBRATION_ROWS, n * len(plan.confirm_seeds) // FOLDS)
    return max(1, math.ceil(rows / (of or max(1, n // (CALIBRATION_FOLDS if n < FEW else FOLDS))) - 0.5))


def held_out(data: Data, seed: int) -> tuple[Data, Data]:
    """Return the data twice, with the selection rows and with the evaluation rows; set aside if it has none."""
    if not len(data.validation_rows):
        data = data.with_validation(HELD_OUT, seed=seed)
    ranking, judging = (replace(data, validation_rows=data.validation_rows[half]) for half in _halves(data, seed))
    return ranking, judging


def _halves(data: Data, seed: int) -> Sequence[torch.Tensor]:
    """Return the places of two halves of the validation rows: drawn; groups whole; in time, the later one evaluates."""
    n = len(data.validation_rows)
    generator = torch.Generator().manual_seed(seed)
    if data.times is not None:
        ranks = data.times[data.validation_rows]
        cuts = (ranks[1:] != ranks[:-1]).nonzero().flatten() + 1  # rows of one time stay together
        cut = int(cuts[(cuts - n / 2).abs().argmin()]) if len(cuts) else n // 2
        return torch.arange(n).tensor_split([cut])
    if data.groups is None:
        return torch.randperm(n, generator=generator).tensor_split(2)
    groups, members = data.groups[data.validation_rows].unique(return_inverse=True)
    if len(groups) < 2:
        raise InputError(
            f"the validation rows of '{data.name}' are one group: two are needed, for selection and for evaluation"
        )
    place = torch.randperm(len(groups), generator=generator)[members]
    order = place.argsort(stable=True)
    sizes = place.bincount().cumsum(0)
    cut = int(sizes[(sizes - n / 2).abs()[:-1].argmin()])
    return order.tensor_split([cut])


def _equally_long(folds: Sequence[Data], seed: int) -> list[Data]:
    """Leave out the few rows by which some folds are longer: seeds with equally many rows train in lockstep."""
    generator = torch.Generator().manual_seed(seed)

    def cut(rows: torch.Tensor, n: int) -> torch.Tensor:
        return rows[torch.randperm(len(rows), generator=generator)[:n].sort().values] if len(rows) > n else rows

    n_train, n_validation = (min(len(getattr(f, f"{part}_rows")) for f in folds) for part in ("train", "validation"))
    return [
        replace(f, train_rows=cut(f.train_rows, n_train), validation_rows=cut(f.validation_rows, n_validation))
        for f in folds
    ]


def training_and_validation_rows(data: Data) -> Data:
    """Return the data with its validation rows among the training rows, for the last training."""
    rows = torch.cat([data.train_rows, data.validation_rows]).sort().values
    return replace(data, train_rows=rows, validation_rows=data.validation_rows[:0])


def with_unit_targets(data: Data) -> tuple[Data, float, float]:
    """Return the data with a regression target of mean 0 and deviation 1 over the training rows, and both numbers."""
    if data.task == "classification":
        return data, 0.0, 1.0
    train = data.targets[data.train_rows]
    mean, deviation = float(train.mean()), max(float(train.std(correction=0)), 1e-12)
    return replace(data, targets=(data.targets - mean) / deviation), mean, deviation


def scheme_of(data: Data, wanted: str | None) -> str:
    """Return how rows evaluate: by folds where there are few, by a held-out part otherwise.

    Raises:
        InputError: a scheme that does not exist, or folds of data with validation rows of its own.
    """
    if wanted not in (None, "folds", "held-out"):
        raise InputError(f"validation must be folds or held-out, got {wanted!r}")
    given = len(data.validation_rows) > 0 or data.ordered
    if wanted == "folds" and given:
        why = "has rows in the order of time" if data.ordered else "has validation rows already"
        raise InputError(f"'{data.name}' {why}: use validation='held-out'")
    return wanted or ("held-out" if given or len(data.train_rows) >= SMALL else "folds")


def name_of(model: object) -> str:
    """Return a name by which a folder recognises its model."""
    return getattr(model, "__qualname__", None) or repr(model)
