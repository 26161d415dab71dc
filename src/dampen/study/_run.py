"""The three trainings of a study: the search, the confirmation with fresh seeds, the last one for the test set."""

import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dampen.errors import InputError
from dampen.knobs import Setting
from dampen.population import ChunkDone, Epoch, Event, Model, Population
from dampen.search import Tpe
from dampen.store import Folder
from dampen.study._metrics import Metric
from dampen.study._plan import CONFIRM_SEED, TEST_SEED, Plan, Split, plain, split, training_and_validation_rows
from dampen.uncertainty import ClassPrediction, predict

if TYPE_CHECKING:
    import pandas as pd

_SAVE_EVERY, _SAVE_SHARE = 20.0, 0.03  # seconds between checkpoints within a phase; the share of time they may take


@dataclass(frozen=True)
class Progress:
    """Where a study is: handed to its callback.

    Args:
        phase: `search`, `confirmation` or `test`.
        epoch: epochs that all members that train now have trained for.
        epochs: how many they will.
        members: that train now.
        share: of the whole study that is done.
        best: the metric of the best setting so far, if one has been ranked.
        seconds: since the study began.
        left: seconds that the rest should take; None before anything is known.
    """

    phase: str
    epoch: int
    epochs: int
    members: int
    share: float
    best: float | None
    seconds: float
    left: float | None


@dataclass(frozen=True)
class Ranked:
    """What a rung of the search found.

    Args:
        bracket: which of the search's brackets, from 0.
        epochs: after which it ranked.
        settings: those that were still in it, the best first.
        costs: mean cost of each on the ranking rows, over seeds; infinite for one that diverged.
    """

    bracket: int
    epochs: int
    settings: tuple[Setting, ...]
    costs: tuple[float, ...]


class Runner:
    """Runs a plan's phases, from where the folder says they are.

    Args:
        model: what makes the network.
        plan: what to do.
        folder: where checkpoints go; None keeps nothing.
        callback: is told where the study is.
        references: how many settings train in the last two phases beside those of the search; for the time left.
    """

    def __init__(
        self,
        model: Model,
        plan: Plan,
        folder: Folder | None,
        callback: Callable[[Progress], object] | None,
        references: int,
    ):
        self.model, self.plan, self.folder = model, plan, folder
        self._callback, self._references = callback, references
        self._before = (self._read("time.json") or {"seconds": 0.0})["seconds"]  # of runs that died
        self._started = time.perf_counter()
        self._best: float | None = None
        self._trained = self._skipped = 0.0  # member-epochs that this run trained, that it found trained
        self._saving = 0.0  # seconds that the last checkpoint took
        self.curves: list[pd.DataFrame] = []

    @property
    def began(self) -> float:
        """When this run began, by `time.perf_counter`."""
        return self._started

    def frame(self) -> "pd.DataFrame":
        """Return the curves of all phases so far."""
        import pandas as pd

        return pd.concat(self.curves, ignore_index=True)

    @property
    def seconds(self) -> float:
        """How long the study has taken, runs that died included, up to their last checkpoint."""
        return self._before + time.perf_counter() - self._started

    @property
    def seconds_per_member_epoch(self) -> float:
        """What this run has measured.

        Raises:
            InputError: it has trained nothing.
        """
        if not self._trained:
            raise InputError("nothing has been trained yet")
        return (time.perf_counter() - self._started) / self._trained

    def search(self) -> list[Ranked]:
        """Train all settings, rung by rung; return what each rung found."""
        plan = self.plan
        rows = split(plan, plan.seeds, again=False)
        found = [_ranked(rung) for rung in self._read("search.json") or []]
        tpe = Tpe(plan.space, plan.seed, plan.brackets[0].settings) if plan.search == "tpe" else None
        for b, bracket in enumerate(plan.brackets):
            settings = bracket.drawn if bracket.drawn is not None else tpe.ask(bracket.settings) if tpe else ()
            if settings:
                self._bracket(b, settings, rows, found)
            if tpe:
                for rung in (one for one in found if one.bracket == b):
                    tpe.tell(rung.epochs, rung.settings, rung.costs, rung.epochs == plan.epochs)
                tpe.close()
        return found

    def _bracket(self, b: int, settings: Sequence[Setting], rows: Split, found: list[Ranked]) -> None:
        """Run a bracket's rungs and add to `found` what was not there."""
        plan, phase, rungs = self.plan, f"search-{b + 1}", self.plan.brackets[b].rungs
        known = [one for one in found if one.bracket == b]
        population = self._population(phase, settings, plan.seeds) if len(known) < len(rungs) else None
        for i, rung in enumerate(rungs):
            name = f"curves/{phase}-{i + 1}.parquet"
            if i < len(known):
                passes = plan.brackets[b].passes
                new = passes(rung.epochs) - passes(rungs[i - 1].epochs if i else 0)
                self._skipped += len(known[i].settings) * len(plan.seeds) * new
                if self.folder is not None:
                    self.curves.append(self.folder.read_frame(name))
                if population is not None:
                    self._keep(population, known[i], rung.keep)
                continue
            assert population is not None
            self._fit("search", phase, population, rows, rung.epochs)
            costs = mean_costs(population, rows.ranking, plan.metric).mean(0)
            order = np.argsort(costs, kind="stable")
            ranked = tuple(population.settings[m] for m in order)
            found.append(Ranked(b, rung.epochs, ranked, tuple(float(costs[m]) for m in order)))
            self._best = plan.told(min(one.costs[0] for one in found))
            going_on = ranked[: rung.keep] if rung is not rungs[-1] else ()
            self._note(name, population, [s for s in ranked if s not in going_on], "search")
            self._write("search.json", [document_of(one, plan) for one in found])
            if going_on:
                self._keep(population, found[-1], rung.keep)
                self._save(phase, population)
        if self.folder is not None:
            shutil.rmtree(self.folder.path / "checkpoints" / phase, ignore_errors=True)

    def confirm(self, settings: Sequence[Setting]) -> tuple[Population, Split]:
        """Train settings again, for the full length, with fresh seeds and, where rows are few, fresh folds."""
        seeds = tuple(CONFIRM_SEED + seed for seed in self.plan.confirm_seeds)
        rows = split(self.plan, seeds, again=True)
        return self._full("confirmation", settings, seeds, rows), rows

    def last(self, settings: Sequence[Setting]) -> Population:
        """Train settings on training and validation rows together."""
        seeds = tuple(TEST_SEED + seed for seed in self.plan.confirm_seeds)
        data = training_and_validation_rows(self.plan.data)
        return self._full("test", settings, seeds, Split(replace(data, test_rows=data.test_rows[:0]), None, None))

    def _full(self, phase: str, settings: Sequence[Setting], seeds: Sequence[int], rows: Split) -> Population:
        population = self._population(phase, settings, seeds)
        self._fit(phase, phase, population, rows, self.plan.epochs)
        self._note(None, population, population.settings, phase)
        return population

    def _population(self, phase: str, settings: Sequence[Setting], seeds: Sequence[int]) -> Population:
        if self.folder is not None:
            place = self.folder.path / "checkpoints" / phase
            if (place / "population.safetensors").is_file():
                return Population.load(place, self.model)
        return Population(self.model, list(settings), list(seeds))

    def _fit(self, stage: str, phase: str, population: Population, rows: Split, until: int) -> None:
        """Train to an epoch, keeping checkpoints; a phase that is there already is only made ready to evaluate."""
        plan, saved = self.plan, time.perf_counter()
        members, start = len(population.settings) * len(population.seeds), int(population.reached.min())
        passes = plan.brackets[0].passes if stage == "search" else float
        before = self._trained
        self._skipped += members * (start if stage != "search" else 0)

        def after(event: Event) -> None:
            nonlocal saved
            share = event.chunk / event.chunks if isinstance(event, ChunkDone) else 0.0
            epoch = event.epoch if isinstance(event, Epoch) else event.epoch - 1
            done = passes(epoch) + share * (passes(epoch + 1) - passes(epoch))
            self._trained = before + members * (done - passes(start))
            due = max(_SAVE_EVERY, self._saving / _SAVE_SHARE)
            if isinstance(event, Epoch) and time.perf_counter() - saved > due and event.epoch < until:
                self._save(phase, population)
                saved = time.perf_counter()
            if self._callback is not None:
                self._callback(self._progress(stage, epoch, until, members))

        options: dict[str, Any] = {"epochs": plan.epochs, "until": until} | plan.training
        if start >= until:
            population.prepare(rows.sets, **options)
            return
        if rows.first is not None and start == 0:
            first: dict[str, Any] = options | {"until": 1}
            population.fit(rows.first, callback=after, **first)
        if int(population.reached.min()) < until:
            population.fit(rows.sets, callback=after, **options)
        self._save(phase, population)

    def _progress(self, stage: str, epoch: int, until: int, members: int) -> Progress:
        plan = self.plan
        searched = sum(bracket.member_epochs(len(plan.seeds)) for bracket in plan.brackets)
        fully = plan.confirmed + 2 * self._references + bool(plan.brackets)
        total = searched + fully * len(plan.confirm_seeds) * plan.epochs
        done = self._trained + self._skipped
        spent = time.perf_counter() - self._started
        left = spent / self._trained * max(total - done, 0.0) if self._trained else None
        return Progress(stage, epoch, until, members, min(done / total, 1.0), self._best, self.seconds, left)

    def _keep(self, population: Population, ranked: Ranked, n: int) -> None:
        """Drop all settings but the n best, unless a checkpoint has them dropped already."""
        wanted = [setting for setting in ranked.settings[:n] if setting in population.settings]
        if len(wanted) < len(population.settings):
            population.keep(wanted)

    def _note(self, name: str | None, population: Population, settings: Iterable[Setting], phase: str) -> None:
        """Put the learning curves of settings aside, in the folder too if there is a name for them."""
        frame = population.history.frame()
        places = [population.settings.index(setting) for setting in settings]
        frame = storable(frame[frame["setting"].isin(places)].assign(phase=phase))
        self.curves.append(frame)
        if self.folder is not None and name is not None:
            self.folder.write_frame(name, frame)

    def _save(self, phase: str, population: Population) -> None:
        if self.folder is not None:
            begun = time.perf_counter()
            population.save(self.folder.path / "checkpoints" / phase)
            self._write("time.json", {"seconds": self.seconds})
            self._saving = time.perf_counter() - begun

    def _read(self, name: str) -> Any:
        return self.folder.read_json(name) if self.folder is not None else None

    def _write(self, name: str, value: object) -> None:
        if self.folder is not None:
            self.folder.write_json(name, value)


def storable(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Return a frame whose columns of tuples are text: a Parquet column has one type."""
    mixed = [name for name in frame if frame[name].dtype == object]
    texts = {name: frame[name].map(str) for name in mixed if any(isinstance(value, tuple) for value in frame[name])}
    return frame.assign(**texts)


def costs_of_rows(population: Population, rows: Any, metric: Metric) -> list[Float[Tensor, "M N"]]:
    """Return the cost of each row (or group) for each seed: `[M, N]`, NaN for a member that diverged."""
    diverged = population.history.diverged_at > 0
    found = []
    for s, outputs in enumerate(outputs_of(population, rows, metric)):
        costs = metric.costs(outputs, rows[s] if isinstance(rows, list) else rows)
        costs[torch.from_numpy(diverged[s])] = torch.nan
        found.append(costs)
    return found


def outputs_of(population: Population, rows: Any, metric: Metric) -> list[Tensor]:
    """Return what a metric is measured on, for each seed `[M, N, C]`.

    For one that samples these are the logarithms of mean probabilities.
    Every setting of a seed is sampled by the same numbers, at its own rates: what one rate drops, a larger one does.
    """
    if not metric.samples:
        return population.outputs(rows)
    found = []
    for s, seed in enumerate(population.seeds):
        table = rows[s] if isinstance(rows, list) else rows
        each = []
        for setting in population.settings:
            network = population.member(setting, seed).float()
            prediction = predict(
                network, table.features, metric.samples, seed, task="classification", dropout=setting.get("dropout")
            )
            assert isinstance(prediction, ClassPrediction)
            each.append(prediction.probabilities.log().clamp_min(-700))
        found.append(torch.stack(each))
    return found


def mean_costs(population: Population, rows: Any, metric: Metric) -> Float[np.ndarray, "S M"]:
    """Return the mean cost of each member, infinite for one that diverged."""
    means = np.stack([costs.double().mean(1).numpy() for costs in costs_of_rows(population, rows, metric)])
    return np.where(np.isfinite(means), means, np.inf)


def document_of(ranked: Ranked, plan: Plan) -> dict[str, Any]:
    """Return a rung as JSON can hold it, costs also as the metric tells them."""
    costs = [cost if np.isfinite(cost) else None for cost in ranked.costs]
    told = [None if cost is None else plan.told(cost) for cost in costs]
    settings = [plain(setting) for setting in ranked.settings]
    return {
        "bracket": ranked.bracket,
        "epochs": ranked.epochs,
        "settings": settings,
        "costs": costs,
        plan.metric.name: told,
    }


def _ranked(document: dict[str, Any]) -> Ranked:
    settings = tuple(setting_of(values) for values in document["settings"])
    costs = tuple(np.inf if cost is None else cost for cost in document["costs"])
    return Ranked(document["bracket"], document["epochs"], settings, costs)


def setting_of(values: dict[str, Any]) -> Setting:
    """Return the setting that `plain` wrote."""
    return Setting(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
