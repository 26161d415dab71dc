"""What a study will do: which rows judge, which settings run, for how long. The same plan gives the same study."""

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from dampen.data import Data
from dampen.errors import InputError
from dampen.knobs import Setting
from dampen.search import Space, check_optuna
from dampen.store import fingerprint
from dampen.study._metrics import Metric
from dampen.study._usual import SMALL, is_table

FOLDS = 5
TPE_BATCHES = 4  # proposals of a batch do not know of each other: more batches learn more and fuse less
HELD_OUT = 0.2  # of the training rows: a half ranks, a half gives the verdict
FIRST_STEPS = 100  # that a first epoch of fewer rows has at least: fewer would not tell settings apart
CONFIRM_SEED, TEST_SEED = 1_000_000, 2_000_000  # away from the search's seeds: the verdict's luck is its own


@dataclass(frozen=True)
class Rung:
    """A stage of successive halving.

    Args:
        epochs: after which settings are ranked.
        keep: how many go on.
    """

    epochs: int
    keep: int


@dataclass(frozen=True)
class Bracket:
    """Settings that compete with each other, rung by rung.

    Args:
        settings: how many.
        rungs: full length last.
        drawn: the settings; None where the search proposes them when it gets there.
        first: share of the training rows that the first epoch passes over.
    """

    settings: int
    rungs: tuple[Rung, ...]
    drawn: tuple[Setting, ...] | None
    first: float = 1.0

    def passes(self, epochs: int) -> float:
        """Return how often a member has passed over the training rows after so many epochs."""
        return epochs - (1 - self.first) if epochs else 0.0

    def member_epochs(self, seeds: int) -> float:
        """Return how often its members pass over the training rows, all together."""
        total, alive, before = 0.0, self.settings, 0
        for rung in self.rungs:
            total += alive * seeds * (self.passes(rung.epochs) - self.passes(before))
            alive, before = min(alive, rung.keep), rung.epochs
        return total


@dataclass(frozen=True)
class Plan:
    """A study, before anything is trained.

    Args:
        model: what makes the network, by name.
        data: with test rows, and the validation rows that it came with; a regression target has mean 0, deviation 1.
        target_scale: mean and standard deviation of a regression target before that.
        metric: what ranks and judges.
        space: where the settings are drawn from.
        search: how.
        brackets: of the search; none for a comparison.
        seeds: of the search.
        epochs: length of a full training.
        confirmed: how many of the best are trained again.
        confirm_seeds: of the confirmation and of the last training.
        scheme: `folds` or `held-out`.
        seed: of splits and draws.
        training: what `Population.fit` is told.
        budget: seconds that the study may take, which then decides on the number of confirming seeds.
    """

    model: str
    data: Data
    target_scale: tuple[float, float]
    metric: Metric
    space: Space
    search: str
    brackets: tuple[Bracket, ...]
    seeds: tuple[int, ...]
    epochs: int
    confirmed: int
    confirm_seeds: tuple[int, ...]
    scheme: str
    seed: int
    training: dict[str, Any]
    budget: float | None = None

    @property
    def settings(self) -> int:
        """How many settings the search tries."""
        return sum(bracket.settings for bracket in self.brackets)

    def told(self, cost: float) -> float:
        """Return a mean cost as the metric tells it."""
        return self.metric.told(cost, self.target_scale[1])

    def document(self) -> dict[str, Any]:
        """Return what is needed to repeat the study, as JSON can hold it."""
        from importlib.metadata import version

        return {
            "data": {"name": self.data.name, "source": self.data.source, "fingerprint": fingerprint(self.data)},
            "reading": None if self.data.reading is None else dict(self.data.reading),
            "target_scale": list(self.target_scale),
            "model": self.model,
            "metric": self.metric.name,
            "space": {name: str(dimension) for name, dimension in self.space.dimensions.items()},
            "search": self.search,
            "brackets": [
                {
                    "settings": bracket.settings,
                    "rungs": [[rung.epochs, rung.keep] for rung in bracket.rungs],
                    "first": bracket.first,
                    "drawn": None if bracket.drawn is None else [plain(setting) for setting in bracket.drawn],
                }
                for bracket in self.brackets
            ],
            "seeds": list(self.seeds),
            "epochs": self.epochs,
            "confirmed": self.confirmed,
            "confirm_seeds": list(self.confirm_seeds),
            "scheme": self.scheme,
            "seed": self.seed,
            "training": {name: str(value) for name, value in self.training.items()},
            "budget": self.budget,
            "versions": {"dampen": version("dampen"), "torch": torch.__version__, "python": platform.python_version()},
        }


def even_batches(document: Mapping[str, Any]) -> bool:
    """Return whether a plan, by its document, has batches of equal size; older ones, without a word on it, have not."""
    return document.get("training", {}).get("even_batches") == "True"


def first_share(steps: float, epochs: int, eta: int) -> float:
    """Return which share of the rows the first epoch of a search by halving passes over.

    A first cut after a full epoch takes a third of the search's time where epochs are long; one in eta rows ranks
    settings nearly as well, as long as that is enough steps.

    Args:
        steps: of a full epoch.
        epochs: length of a full training.
        eta: one in so many settings survives.
    """
    return 1 / eta if epochs > 1 and steps / eta >= FIRST_STEPS else 1.0


def rungs(epochs: int, settings: int, confirmed: int, eta: int, halving: bool, first: float = 1.0) -> tuple[Rung, ...]:
    """Return the stages of successive halving (Jamieson and Talwalkar 2016, algorithm 1), full length last."""
    n = min(_depth(epochs / first, eta), _depth(max(1, settings), eta)) if halving else 0
    return _from(n, epochs, settings, confirmed, eta, first)


def _depth(ratio: float | int, eta: int) -> int:
    return int(math.log(ratio, eta) + 1e-9)


def _from(n: int, epochs: int, settings: int, confirmed: int, eta: int, first: float) -> tuple[Rung, ...]:
    found = [
        Rung(max(1, round(epochs / eta ** (n - i) + 1 - first)), max(confirmed, math.ceil(settings / eta ** (i + 1))))
        for i in range(n)
    ]
    return (*found, Rung(epochs, confirmed))


def brackets(
    space: Space,
    search: str,
    settings: int,
    epochs: int,
    confirmed: int,
    eta: int,
    halving: bool,
    seed: int,
    steps: float,
) -> tuple[Bracket, ...]:
    """Return the search's brackets: one, Hyperband's, or batches that TPE proposes.

    Hyperband (Li et al. 2018, algorithm 1) hedges against settings that start slowly: every bracket drops later than
    the one before and has fewer settings.

    Args:
        space: where settings are drawn from.
        search: how.
        settings: how many.
        epochs: length of a full training.
        confirmed: how many survive the last rung.
        eta: one in so many survives the others.
        halving: whether there are others.
        seed: of the draws.
        steps: of a full epoch.

    Raises:
        InputError: an unknown search, or a number of settings that it can't use.
    """
    first = first_share(steps, epochs, eta) if halving else 1.0
    if search == "tpe":
        check_optuna()
        sizes = [len(part) for part in np.array_split(np.arange(settings), min(TPE_BATCHES, settings))]
        return tuple(Bracket(n, rungs(epochs, n, confirmed, eta, halving, first), None, first) for n in sizes)
    if search == "hyperband":
        drawn = tuple(space.draw(settings, "sobol", seed))
        last = len(rungs(epochs, len(drawn), confirmed, eta, halving, first)) - 1
        weights = np.array([math.ceil((last + 1) / (s + 1) * eta**s) for s in range(last, -1, -1)], dtype=float)
        ends = np.round(np.cumsum(weights) / weights.sum() * len(drawn)).astype(int)
        parts = [drawn[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        return tuple(
            Bracket(len(part), _from(n, epochs, len(part), confirmed, eta, first), part, first)
            for n, part in zip(range(last, -1, -1), parts, strict=True)
            if part
        )
    drawn = tuple(space.draw(settings, search, seed))
    return (Bracket(len(drawn), rungs(epochs, len(drawn), confirmed, eta, halving, first), drawn, first),)


def references(best: Setting, dropping: bool, data: Data, lr: float) -> dict[str, Setting]:
    """Return what the recommended setting must beat.

    `none` has no regularisation and the learning rate of the search's best setting. `default` is AdamW as torch gives
    it: decay 0.01, no dropout. Tables have `tabular-default`, too: decay 0.02 and dropout 0.15, of Holzmüller,
    Grinsztajn and Steinwart (2024), "Better by default", table A.1, at the best setting's learning rate.
    """
    none = {"dropout": 0.0} if dropping else {}
    found = {
        "none": Setting(weight_decay=0.0, lr=best.get("lr", lr), **none),
        "default": Setting(weight_decay=0.01, lr=lr, **none),
    }
    if has_table_default(dropping, data):
        found["tabular-default"] = Setting(weight_decay=0.02, lr=best.get("lr", lr), dropout=0.15)
    return found


def has_table_default(dropping: bool, data: Data) -> bool:
    """Return whether the published default for tables is a reference."""
    return dropping and is_table(data)


@dataclass(frozen=True)
class Split:
    """The rows of one phase for each seed.

    Args:
        sets: what `Population.fit` takes: one `Data` for all seeds, or one for each.
        ranking: rows that rank settings, for all seeds or for each.
        judging: rows that the verdict rests on; with folds the same ones.
        first: what the first epoch of a search passes over instead, where it is given fewer rows.
    """

    sets: Data | list[Data]
    ranking: Any
    judging: Any
    first: Data | None = None


def split(plan: Plan, seeds: Sequence[int], again: bool) -> Split:
    """Return a phase's rows, without the test rows: nobody sees those before the verdict.

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
    first = None
    if not again and plan.brackets and (share := plan.brackets[0].first) < 1:
        train = ranking.train_rows
        drawn = torch.randperm(len(train), generator=torch.Generator().manual_seed(plan.seed))
        first = replace(ranking, train_rows=train[drawn[: round(share * len(drawn))].sort().values])
    return Split(judging if again else ranking, ranking.validation, judging.validation, first)


def held_out(data: Data, seed: int) -> tuple[Data, Data]:
    """Return the data twice, with the validation rows that rank and with those that judge; set aside if it has none."""
    if not len(data.validation_rows):
        data = data.with_validation(HELD_OUT, seed=seed)
    ranking, judging = (replace(data, validation_rows=data.validation_rows[half]) for half in _halves(data, seed))
    return ranking, judging


def _halves(data: Data, seed: int) -> Sequence[torch.Tensor]:
    """Return the places of two halves of the validation rows: drawn; groups whole; in time, the later one judges."""
    n = len(data.validation_rows)
    generator = torch.Generator().manual_seed(seed)
    if data.ordered:
        return torch.arange(n).tensor_split(2)
    if data.groups is None:
        return torch.randperm(n, generator=generator).tensor_split(2)
    groups, members = data.groups[data.validation_rows].unique(return_inverse=True)
    if len(groups) < 2:
        raise InputError(f"the validation rows of '{data.name}' are one group: two are needed, to rank and to judge")
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


def training_rows(data: Data, scheme: str) -> float:
    """Return how many rows train a member before the test set is opened."""
    if scheme == "folds":
        return len(data.train_rows) * (1 - 1 / FOLDS)
    return len(data.train_rows) * (1.0 if len(data.validation_rows) else 1 - HELD_OUT)


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
    """Return how rows judge: by folds where there are few, by a held-out part otherwise.

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
