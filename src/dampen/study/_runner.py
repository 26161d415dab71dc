"""The trainings of a study: populations that are trained for a length, kept in the folder, and evaluated."""

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dampen._hooks import CLUSTERS
from dampen._io import counted
from dampen._language import shown
from dampen.data import training_and_validation_rows
from dampen.engine import ChunkDone, Epoch, Event, Model, Population, worth_compiling
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.metrics import Metric
from dampen.search import Training
from dampen.statistics import mean_by_size
from dampen.study import _documents
from dampen.study._budget import foreseen, member_epochs_beyond
from dampen.study._config import rows_a_step
from dampen.study._pace import Pace, Timed
from dampen.study._phases import (
    CALIBRATION_SEED,
    CONFIRM_SEED,
    TEST_SEED,
    Split,
    calibration_folds,
    n_calibration_folds,
    split,
)
from dampen.study._protocol import Plan
from dampen.study._storage import POPULATION, Folder
from dampen.uncertainty import ClassPrediction, predict

if TYPE_CHECKING:
    import pandas as pd

PHASES = ("search", "confirmation", "test")
CALIBRATION, ENSEMBLE = "calibration", "ensemble"  # belong to no phase: their numbers are no part of what was found
_SAVE_EVERY, _SAVE_SHARE = 20.0, 0.03  # seconds between checkpoints within a training; the share of time they may take
_KNOWN_SECONDS, _KNOWN_SHARE = 2.0, 0.05  # of this run, from which on the time that is left can be estimated
_WIDE = 6  # members, of fewer a round's pace is no measure
_POINTS = 50  # of a learning curve: more are not seen, and each is a pass over the validation rows


@dataclass(frozen=True)
class Progress:
    """Where a study is: handed to its callback.

    Args:
        phase: `search`, `confirmation` or `test`.
        epoch: epochs that all members that train now have trained for.
        epochs: how many they will.
        members: that train now.
        share: of the whole study that is done, as far as can be foreseen.
        best: the metric of the best setting so far, if one has been ranked.
        seconds: since the study began.
        left: seconds that the rest should take; None while too little has been done to estimate it.
        workers: of a cluster, which train; None: this machine does.
        rate: epochs of one member that have been trained a second, in this run.
    """

    phase: str
    epoch: int
    epochs: int
    members: int
    share: float
    best: float | None
    seconds: float
    left: float | None
    workers: int | None = None
    rate: float = 0.0

    def __str__(self) -> str:
        """Return what trains and how good the best is, in the language that is shown."""
        best = "" if self.best is None else shown(f", best so far {self.best:.4g}")
        line = shown(f"{self.phase}: {counted(self.members, 'member')} to epoch {self.epochs}") + best
        if self.workers is not None:
            line += shown(f"; {counted(self.workers, 'worker')}, {self.rate:.3g} epochs of a member a second")
        return line

    def in_time(self) -> str:
        """Return what follows that: for how long the study has trained, and how long the rest should take."""
        left = "" if self.left is None else shown(f", about {self.left:.0f} s left")
        return shown(f"; {self.seconds:.0f} s") + left


class Runner:
    """Trains the phases of a plan, from where the folder is.

    Args:
        model: what makes the network.
        plan: what to do.
        folder: where checkpoints go; None keeps nothing.
        callback: called with where the study is.
        workers: of a cluster, which train while it is connected; None: this machine does.
    """

    def __init__(
        self,
        model: Model,
        plan: Plan,
        folder: Folder | None,
        callback: Callable[[Progress], object] | None,
        workers: Any = None,
    ):
        self.model, self.plan, self.folder = model, plan, folder
        self._callback, self._given_workers = callback, workers
        held = _documents.time_so_far(folder)  # of runs that died
        self._before, self._before_trained = held.seconds, held.member_epochs
        self.began = time.perf_counter()
        self.best: float | None = None  # the metric of the best setting so far
        self.member_epochs = 0.0  # of the whole study so far
        self._trained = 0.0  # those of this run
        self.pace: Pace | None = None  # of the last training of the search with many members, and of few since
        self.at_once = 0  # members that take steps together at most, as far as has been seen
        self._compiled: Any = None  # by the populations so far
        self._done: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        self._share = self._share_before = 0.0
        self._saving = 0.0  # seconds that the last checkpoint took
        self.curves: list[pd.DataFrame] = []
        self._rows: dict[str, Split] = {}

    def frame(self) -> "pd.DataFrame":
        """Return the curves of all trainings so far."""
        import pandas as pd

        return _of_one_type(pd.concat(self.curves, ignore_index=True))

    @property
    def _workers(self) -> Any:
        """The workers of a connected cluster; None where this machine trains, as it does after the study."""
        return self._given_workers if self._given_workers is not None and self._given_workers.connected else None

    @property
    def trains_last(self) -> bool:
        """Whether what is recommended trains on all rows within the study, and not when it is asked for.

        It does where it is tested, kept or timed, or trains elsewhere: a study in memory may be asked for a few of its
        networks beside those of other settings, or for none.
        """
        plan, elsewhere = self.plan, self._given_workers is not None
        return bool(len(plan.data.test_rows)) or self.folder is not None or plan.budget is not None or elsewhere

    @property
    def seconds(self) -> float:
        """How long the study has taken, runs that died included, up to their last checkpoint."""
        return self._before + time.perf_counter() - self.began

    @property
    def seconds_per_member_epoch(self) -> float:
        """What all runs have measured.

        Raises:
            InputError: nothing has been trained.
        """
        trained = self._before_trained + self._trained
        if not trained:
            raise InputError("nothing has been trained yet")
        return self.seconds / trained

    def seeds(self, phase: str) -> tuple[int, ...]:
        """Return the seeds of a phase: phases are independent."""
        if phase == "search":
            return self.plan.seeds
        if phase == CALIBRATION:
            n = len(self.rows(phase).of_seeds or [])
            return tuple(range(CALIBRATION_SEED + self.plan.seed, CALIBRATION_SEED + self.plan.seed + n))
        return tuple((CONFIRM_SEED if phase == "confirmation" else TEST_SEED) + s for s in self.plan.confirm_seeds)

    def rows(self, phase: str) -> Split:
        """Return the rows of a phase: the last one trains on validation rows, too."""
        if phase not in self._rows:
            if phase in ("test", ENSEMBLE):
                data = training_and_validation_rows(self.plan.data)
                self._rows[phase] = Split(replace(data, test_rows=data.test_rows[:0]), None, None)
            elif phase == CALIBRATION:  # an ensemble of as many networks as predict leaves out each fold
                each = len(self.plan.confirm_seeds)
                folds = [fold for fold in calibration_folds(self.plan) for _ in range(each)]
                self._rows[phase] = Split(folds, None, None)
            else:
                self._rows[phase] = split(self.plan, self.seeds(phase), again=phase == "confirmation")
        return self._rows[phase]

    def train(
        self,
        phase: str,
        name: str,
        settings: Sequence[Setting],
        epochs: int,
        until: int | None,
        n_seeds: int | None = None,
    ) -> Population:
        """Train settings with the seeds and on the rows of a phase.

        Args:
            phase: of the study.
            name: of these trainings, under which the folder keeps them.
            settings: which.
            epochs: length of the schedule.
            until: the epoch after which they are stopped early; None: they are not.
            n_seeds: how many of the phase's seeds, where one set of rows serves all; None: all.
        """
        seeds, until = self.seeds(phase)[:n_seeds], until or epochs
        population = self._population(name, settings, seeds)
        population.take_over(self._compiled)
        timed = Timed(self._trained, len(settings) * len(seeds))
        self._fit(phase, name, population, epochs, until, timed)
        pace = timed.pace(self._trained) if phase == "search" else None
        if pace is not None:
            self.at_once = max(self.at_once, pace.largest)
            if len(settings) * len(seeds) >= _WIDE:
                self.pace = pace
            elif self.pace is not None:
                self.pace = self.pace.beside(pace)
        self._compiled = population.compiled or self._compiled
        if phase in (CALIBRATION, ENSEMBLE):
            return population
        frame = storable(population.history.frame().assign(phase=phase, length=epochs, run=name))
        self.curves.append(frame)
        if phase == "search" and self.folder is not None:
            self.folder.write_frame(f"curves/{name}.parquet", frame)
        self._count(phase, float(len(settings) * len(seeds) * until))
        return population

    def skip(self, name: str, members: int, epochs: int) -> None:
        """Take trainings of the search that the folder has the results of as done."""
        if self.folder is not None:
            self.curves.append(self.folder.read_frame(f"curves/{name}.parquet"))
            self.forget(name)  # left by a run that died between writing its results and this
        self._count("search", float(members * epochs))
        self._share_before = self._share

    def end(self) -> None:
        """Tell nobody any more: what trains from now on was asked for after the study."""
        self._callback = None

    def forget(self, name: str) -> None:
        """Remove a checkpoint that is no longer needed."""
        if self.folder is not None:
            self.folder.forget(name)

    def _count(self, phase: str, member_epochs: float) -> None:
        self._done[phase] += member_epochs
        self.member_epochs += member_epochs

    def _population(self, name: str, settings: Sequence[Setting], seeds: Sequence[int]) -> Population:
        if self.folder is not None:
            place = self.folder.path / "checkpoints" / name
            if (place / POPULATION).is_file():
                population = Population.load(place, self.model)
                if population.settings == tuple(settings) and population.seeds == tuple(seeds):
                    return population
        return Population(self.model, list(settings), list(seeds))

    def _fit(self, phase: str, name: str, population: Population, epochs: int, until: int, timed: Timed) -> None:
        """Train to an epoch, keeping checkpoints; what is there already is only made ready to evaluate."""
        plan, rows, saved = self.plan, self.rows(phase), time.perf_counter()
        members, start = len(population.settings) * len(population.seeds), int(population.reached.min())
        before = self._trained

        def after(event: Event) -> None:
            nonlocal saved
            share = event.chunk / event.chunks if isinstance(event, ChunkDone) else 0.0
            epoch = event.epoch if isinstance(event, Epoch) else event.epoch - 1
            self._trained = before + members * (epoch + share - start)
            if self._workers is None:  # whose epochs end when they like
                timed.saw(event, self._trained)
            if isinstance(event, Epoch) and event.epoch < until:
                checkpoint()
            if self._callback is not None:
                shown = phase if phase in PHASES else PHASES[-1]
                self._callback(self._progress(shown, epoch, until, members, members * (epoch + share)))

        def checkpoint(join: Callable[[], None] | None = None) -> None:
            nonlocal saved
            due = max(_SAVE_EVERY, self._saving / _SAVE_SHARE)
            if self.folder is not None and time.perf_counter() - saved > due:
                begun = time.perf_counter()
                if join is not None:  # members are on workers
                    join()
                self._save(name, population)
                saved = time.perf_counter()
                self._saving = saved - begun

        config = replace(plan.training, epochs=epochs)
        every = math.ceil(epochs / _POINTS)
        how: dict[str, Any] = {"until": until, "callback": after, "evaluate_every": every}
        with contextlib.ExitStack() as meanwhile:
            if config.compile == "auto" and self._long:
                config = replace(config, compile=True)
                meanwhile.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", "steps can't be (compiled|one graph)")  # nobody asked for it
            if start >= until:
                population.prepare(rows.sets, config)
                return
            if self._workers is None:
                population.fit(rows.sets, config, **how)
            else:
                self._workers.fit(population, self.model, rows.sets, config, checkpoint=checkpoint, **how)
        self._save(name, population)

    @property
    def _long(self) -> bool:
        """Whether the trainings of a whole study, those of short rungs, too, make up for the compiler's time."""
        steps = math.ceil(len(self.plan.data.train_rows) / rows_a_step(self.plan.training))
        lengths = self.plan.lengths
        return worth_compiling((lengths.planned if self.plan.budget is None else foreseen(lengths).longest) * steps)

    def _progress(self, phase: str, epoch: int, epochs: int, members: int, now: float) -> Progress:
        plan, expected = self.plan, self._expected()
        whole = sum(expected.values())
        i = PHASES.index(phase)
        start = sum(expected[earlier] for earlier in PHASES[:i]) / whole
        within = min(self._done[phase] + now, expected[phase]) / whole
        self._share = max(self._share, min(start + within, 1.0))
        new = self._share - self._share_before
        spent = time.perf_counter() - self.began
        known = spent >= _KNOWN_SECONDS and new >= _KNOWN_SHARE  # before that, recording and warming up is most of it
        left = spent / new * (1 - self._share) if known else None
        if left is not None and plan.budget is not None:  # whose confirmation is cut to what is left
            left = min(left, max(plan.budget - self.seconds, 0.0)) or None
        workers = None if self._workers is None else len(self._workers)
        rate = self._trained / max(spent, 1e-9)
        return Progress(phase, epoch, epochs, members, self._share, self.best, self.seconds, left, workers, rate)

    def _expected(self) -> dict[str, float]:
        """Return how many epochs of members each phase should take; longer trainings than planned are not foreseen."""
        plan = self.plan
        given = plan.budget is not None
        lengths = foreseen(plan.lengths) if given else replace(plan.lengths, longest=plan.lengths.planned)
        long = float(lengths.longest)
        families = sum(map(len, plan.families.values()))
        searched = sum(bracket.member_epochs(len(plan.seeds)) for bracket in plan.brackets)
        searched *= 1 + families / max(1, plan.settings)
        beyond = member_epochs_beyond(lengths, plan.refined, plan.rounds)
        full = len(plan.confirm_seeds) * long
        tested = self.trains_last + (1 + len(plan.families)) * bool(len(plan.data.test_rows))
        tested += n_calibration_folds(plan, self.folder is not None)
        return {
            "search": searched + beyond * len(plan.seeds),
            "confirmation": (plan.confirmed + len(plan.families) + 4 * bool(plan.families)) * full,
            "test": tested * full,
        }

    def _save(self, name: str, population: Population) -> None:
        if self.folder is not None:
            population.save(self.folder.path / "checkpoints" / name)
            trained = self._before_trained + self._trained
            self.write("time.json", {"seconds": self.seconds, "member_epochs": trained})

    def write(self, name: str, value: object) -> None:
        """Write a file of the folder, if there is one."""
        if self.folder is not None:
            self.folder.write_json(name, value)


def workers_of(cluster: Any) -> contextlib.AbstractContextManager[Any]:
    """Return a context with the workers of a cluster; with None where there is none.

    Raises:
        InputError: it is no cluster, or can't be reached.
    """
    return contextlib.nullcontext() if cluster is None else CLUSTERS["connected"](cluster)


class Trained:
    """The trainings of a phase that have no rungs: each once, those of one length together.

    Args:
        runner: trains them.
        phase: `confirmation` or `test`.
    """

    def __init__(self, runner: Runner, phase: str):
        self._runner, self.phase = runner, phase
        self._where: dict[Training, tuple[str, Population]] = {}
        self._runs = 0

    def add(self, trainings: Sequence[Training]) -> list[tuple[Population, list[Training]]]:
        """Train what has not been trained, and return the new populations with what they hold."""
        lengths: dict[tuple[int, int | None], list[Training]] = {}
        for training in dict.fromkeys(trainings):
            if training not in self._where:
                lengths.setdefault((training.epochs, training.stopped_at), []).append(training)
        populations = []
        for (epochs, stopped_at), alike in lengths.items():
            self._runs += 1
            name = f"{self.phase}-{self._runs}"
            population = self._runner.train(self.phase, name, [t.setting for t in alike], epochs, stopped_at)
            self._where |= dict.fromkeys(alike, (name, population))
            populations.append((population, alike))
        return populations

    def __contains__(self, training: Training) -> bool:
        return training in self._where

    def population(self, training: Training) -> Population:
        """Return the population that a training belongs to."""
        return self._where[training][1]

    def name(self, training: Training) -> str:
        """Return the name under which the folder keeps it."""
        return self._where[training][0]


def storable(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Return a frame whose columns of tuples are text: a Parquet column has one type."""
    mixed = [name for name in frame if frame[name].dtype == object]
    texts = {name: frame[name].map(str) for name in mixed if any(isinstance(value, tuple) for value in frame[name])}
    return frame.assign(**texts)


def _of_one_type(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Return a frame whose columns are texts where a training's are: rates of layers beside a single rate."""

    def text(value: Any) -> Any:
        return value if value is None or value != value else str(value)

    mixed = [n for n in frame if frame[n].dtype == object and any(isinstance(value, str) for value in frame[n])]
    return frame.assign(**{name: frame[name].map(text) for name in mixed})


def costs_of_rows(population: Population, rows: Any, metric: Metric) -> list[Float[Tensor, "M N"]]:
    """Return the cost of each row (or group) for each seed: `[M, N]`, NaN for a member that diverged."""
    return costs_of_outputs(population, outputs_of(population, rows, metric), rows, metric)


def costs_of_outputs(
    population: Population, outputs: Sequence[Tensor], rows: Any, metric: Metric, places: Sequence[int] | None = None
) -> list[Float[Tensor, "M N"]]:
    """Return the cost of each row (or group) for each seed, from outputs `[M, N, C]` of each.

    Args:
        population: whose outputs these are.
        outputs: of each seed.
        rows: of all seeds, or of each.
        metric: what is measured.
        places: of the settings that are asked for; None: all of them.
    """
    diverged = population.history.diverged_at > 0
    which = list(range(len(population.settings)) if places is None else places)
    costs_of_seeds = []
    for s, of_seed in enumerate(outputs):
        costs = metric.costs(of_seed if places is None else of_seed[which], rows[s] if isinstance(rows, list) else rows)
        costs[torch.from_numpy(diverged[s][which])] = torch.nan
        costs_of_seeds.append(costs)
    return costs_of_seeds


def outputs_of(population: Population, rows: Any, metric: Metric) -> list[Tensor]:
    """Return what a metric is measured on, for each seed `[M, N, C]`.

    For one that samples these are the logarithms of mean probabilities.
    Every setting of a seed is sampled by the same numbers, at its own rates: what one rate drops, a larger one does.
    """
    if not metric.samples:
        return population.outputs(rows)
    outputs = []
    for s, seed in enumerate(population.seeds):
        table = rows[s] if isinstance(rows, list) else rows
        each = []
        for setting in population.settings:
            network = population.member(setting, seed).float()
            dropout = setting.get("dropout")
            samples = None if _all_zero(dropout) else metric.samples  # one pass is what each sample would be
            rates = None if samples is None else dropout
            prediction = predict(network, table.features, samples, seed, task="classification", dropout=rates)
            assert isinstance(prediction, ClassPrediction)
            each.append(prediction.probabilities.log().clamp_min(-700))
        outputs.append(torch.stack(each))
    return outputs


def _all_zero(dropout: Any) -> bool:
    rates = dropout if isinstance(dropout, tuple) else (dropout,)
    return all(rate is not None and (rate[1] if isinstance(rate, tuple) else rate) == 0 for rate in rates)


def mean_costs(
    population: Population, outputs: Sequence[Tensor], rows: Any, metric: Metric, places: Sequence[int] | None = None
) -> Float[np.ndarray, " M"]:
    """Return the mean cost of each setting over seeds, by their rows; infinite where one of them diverged.

    Args: as for `costs_of_outputs`.
    """
    costs = [of_seed.double() for of_seed in costs_of_outputs(population, outputs, rows, metric, places)]
    means = np.stack([of_seed.mean(1).numpy() for of_seed in costs])
    sizes = [part.size for part in (rows if isinstance(rows, list) else [rows] * len(costs))]
    means = np.where(np.isfinite(means), means, np.inf)
    return mean_by_size(means, sizes)
