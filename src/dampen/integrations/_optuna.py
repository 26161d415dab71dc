"""Trials of one's own Optuna study, trained as one population: asked for at once, told back one by one."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from dampen._checks import integer
from dampen._io import counted
from dampen.engine import Event, History, Model, Population, Setting, TrainConfig, TrainOptions, configured, of_seeds
from dampen.engine.knobs import find_knob
from dampen.errors import InputError
from dampen.search import Choice, LogUniform, PerLayer, Uniform, check_optuna, propose

if TYPE_CHECKING:
    import optuna

    AnyTrial = optuna.Trial | optuna.trial.FixedTrial
    Pruner = optuna.pruners.BasePruner | None

Suggest = Callable[["optuna.Trial"], Mapping[str, Any]] | Mapping[str, Any]
"""From a trial to a value for each knob; or a distribution of Optuna's, or a dimension of dampen's, for each."""

_OURS = (Choice, LogUniform, PerLayer, Uniform)


def objective(
    model: Model,
    data: Any,
    suggest: Suggest,
    config: TrainConfig | None = None,
    *,
    metric: str = "validation_loss",
    n_seeds: int = 1,
    seed: int = 0,
    callback: Callable[[Event], object] | None = None,
    **options: Unpack[TrainOptions],
) -> "Objective":
    """Return an objective for an Optuna study of one's own that trains many trials as one population.

    Args:
        model: as for `Population`.
        data: as for `Population.fit`, with validation rows unless the metric is one of others.
        suggest: a function from a trial to a value for each knob, as an objective has it; or a mapping from knobs to
            distributions of Optuna's or dimensions of dampen's.
        config: how members train; `epochs` is needed.
        metric: what a trial is told: a name in `History.metrics` after the last epoch (with early stopping the best).
        n_seeds: how many seeds train each trial; it is told their mean.
        seed: the first of them. All trials share initial weights and batches.
        callback: of `Population.fit`: for progress, or a logger.
        options: fields of `TrainConfig`, such as `epochs=20`.

    Raises:
        InputError: Optuna is not installed, or an argument outside its range.

    Example:
        >>> import optuna
        >>> import dampen
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> def suggest(trial):
        ...     return {"weight_decay": trial.suggest_float("wd", 1e-4, 1, log=True), "lr": 0.01}
        >>> data = dampen.load("iris").with_validation(0.3)
        >>> found = objective(dampen.mlp(4), data, suggest, epochs=2)
        >>> study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        >>> len(found.optimize(study, n_trials=16))
        16
        >>> study.optimize(found, n_trials=1)  # one by one, as ever
        >>> len(study.trials)
        17
    """
    return Objective(model, data, suggest, configured(config, options), metric, n_seeds, seed, callback)


class Objective:
    """What `objective` returns: called with a trial it trains that one; `optimize` trains many at once.

    The arguments are those of `objective`.
    """

    def __init__(
        self,
        model: Model,
        data: Any,
        suggest: Suggest,
        config: TrainConfig,
        metric: str,
        n_seeds: int,
        seed: int,
        callback: Callable[[Event], object] | None,
    ):
        check_optuna()
        integer("n_seeds", n_seeds)
        seed = integer("seed", int(seed) if isinstance(seed, np.integer) else seed, 0)
        if callback is not None and not callable(callback):
            raise InputError(f"callback must be a function of an Event, as for Population.fit; got {callback!r}")
        if config.epochs is None:
            raise InputError("how long to train is not given: epochs=20")
        if not callable(suggest) and not (isinstance(suggest, Mapping) and suggest):
            raise InputError(
                "suggest takes a function from a trial to a value for each knob, or a mapping from knobs to "
                f"distributions; got {type(suggest).__name__}"
            )
        for knob in suggest if isinstance(suggest, Mapping) else ():
            find_knob(_named(knob))
        kind, _, what = metric.partition("_") if isinstance(metric, str) else ("", "", "")
        tables = of_seeds(data, n_seeds)[0].tables
        if kind not in ("train", "validation", "test") or not what:
            raise InputError(f"metric must be one of a history's, such as validation_loss; got {metric!r}")
        if kind not in tables:
            hint = ": data.with_validation(0.2) sets some aside" if kind == "validation" else ""
            raise InputError(f"the metric {metric} needs {kind} rows, and the data has none{hint}")
        self._model, self._data, self._suggest, self._config = model, data, suggest, config
        self._metric, self._seeds, self._callback = metric, range(seed, seed + n_seeds), callback

    def __call__(self, trial: "AnyTrial") -> float:
        """Train one trial, as `study.optimize` has it.

        A `FixedTrial`, which has no study, trains to its end.

        Raises:
            optuna.TrialPruned: the study's pruner ends it.
            InputError: the study has the other direction, or the network fails.
        """
        import optuna

        if not isinstance(trial, optuna.trial.BaseTrial):
            raise InputError(
                "an objective is called with a trial, as by study.optimize(objective, n_trials=16); "
                f"got {type(trial).__name__}"
            )
        study = getattr(trial, "study", None)
        if study is not None:
            self._check(study)
        told = self._train(None if study is None else study.pruner, [trial], [self._setting(trial)])
        if told[0] is None:
            raise optuna.TrialPruned
        return told[0]

    def optimize(
        self,
        study: "optuna.Study",
        n_trials: int,
        *,
        at_once: int | None = None,
        callbacks: Iterable[Callable[..., object]] | None = None,
    ) -> list["optuna.trial.FrozenTrial"]:
        """Ask a study for trials, train them as one population, and tell it what they are worth.

        Trials with the same setting train once. One that diverges fails, as an objective that returns NaN does; one
        for which `suggest` raises `TrialPruned` is pruned, the others train. The study's pruner is asked after each
        epoch: what it ends trains no further. A failure, or Ctrl-C, fails the trials that have not been told. A grid
        that is used up ends it, as it ends `study.optimize`.

        Args:
            study: one's own, with one value.
            n_trials: how many at most.
            at_once: how many train together before the sampler learns of them; by default all of them, which suits
                samplers that do not learn (random, quasi-random, grid). With TPE some batches of it are better.
            callbacks: called with the study and each trial that has been told, as by `study.optimize`.

        Raises:
            InputError: an argument outside its range, the other direction, or a network that fails.
        """
        integer("n_trials", n_trials)
        if at_once is not None:
            integer("at_once", at_once)
        callbacks = _functions(callbacks)
        self._check(study)
        finished = []
        stop = _Stop()
        while len(finished) < n_trials and not stop.wanted:
            for frozen in self._batch(study, min(at_once or n_trials, n_trials - len(finished)), stop):
                finished.append(frozen)
                for callback in callbacks:
                    with stop:
                        callback(study, frozen)
        return finished

    def _batch(self, study: "optuna.Study", n: int, stop: "_Stop") -> "list[optuna.trial.FrozenTrial]":
        from optuna.trial import TrialState

        waiting: list[optuna.Trial] = []
        told = []
        try:
            settings: list[Setting | None] = []
            while len(waiting) < n and not (waiting and _used_up(study, waiting[-1], stop)):
                waiting.append(study.ask())
                settings.append(self._setting_or_pruned(waiting[-1]))
            for value in self._train_all(study.pruner, list(waiting), settings):
                trial = waiting[0]
                with stop:
                    if value is None:
                        study.tell(trial, state=TrialState.PRUNED)
                    elif math.isfinite(value):
                        study.tell(trial, value)
                    else:
                        study.tell(trial, state=TrialState.FAIL)
                told.append(trial.number)
                del waiting[0]  # only now: a storage may fail, or Ctrl-C come, while it is told
        except BaseException:
            for trial in waiting:
                with contextlib.suppress(Exception):  # what went wrong first is what is raised
                    study.tell(trial, state=TrialState.FAIL)
            raise
        trials = study.get_trials(deepcopy=False)
        return [trials[number] for number in told]

    def _train_all(
        self, pruner: "Pruner", trials: "Sequence[optuna.Trial]", settings: Sequence[Setting | None]
    ) -> list[float | None]:
        """Return what each trial is told: None for one that was pruned, or has no setting."""
        pairs = [(trial, setting) for trial, setting in zip(trials, settings, strict=True) if setting is not None]
        trained = iter(self._train(pruner, *zip(*pairs, strict=True)) if pairs else ())
        return [None if setting is None else next(trained) for setting in settings]

    def _train(self, pruner: "Pruner", trials: "Sequence[AnyTrial]", settings: Sequence[Setting]) -> list[float | None]:
        """Return what each trial is told: None for one that was pruned."""
        from optuna.pruners import NopPruner

        epochs = self._config.epochs
        assert epochs is not None
        population = Population(self._model, list(dict.fromkeys(settings)), self._seeds)
        values: dict[int, float | None] = {}
        if pruner is None or isinstance(pruner, NopPruner):
            history = population.fit(self._data, self._config, callback=self._callback)
            self._check_metric(history)
            for e, epoch in enumerate(history.epochs):
                of_setting = dict(zip(history.settings, history.metrics[self._metric][e].mean(axis=0), strict=True))
                _report(trials, settings, of_setting, int(epoch), range(len(trials)))
            ends = dict(zip(history.settings, history.final(self._metric).mean(axis=0), strict=True))
            return [float(ends[setting]) for setting in settings]
        going = list(range(len(trials)))
        for epoch in range(1, epochs + 1):
            history = population.fit(self._data, self._config, until=epoch, callback=self._callback)
            self._check_metric(history)
            now = dict(zip(history.settings, history.metrics[self._metric][-1].mean(axis=0), strict=True))
            _report(trials, settings, now, epoch, going)
            for i in list(going):
                if epoch < epochs and math.isfinite(now[settings[i]]) and trials[i].should_prune():
                    values[i] = None
                    going.remove(i)
            left = {settings[i] for i in going}
            if not left:
                break
            if len(left) < len(population.settings):
                population.select([setting for setting in population.settings if setting in left])
        else:
            history = population.history
            ends = dict(zip(history.settings, history.final(self._metric).mean(axis=0), strict=True))
            values |= {i: float(ends[settings[i]]) for i in going}
        return [values[i] for i in range(len(trials))]

    def _setting(self, trial: Any) -> Setting:
        found = self._suggest(trial) if callable(self._suggest) else dict(self._from_distributions(trial))
        if not isinstance(found, Mapping):
            raise InputError(
                f"suggest must return a value for each knob, such as {{'dropout': 0.3}}; got {type(found).__name__}"
            )
        return found if isinstance(found, Setting) else Setting(**{_named(knob): of for knob, of in found.items()})

    def _setting_or_pruned(self, trial: "optuna.Trial") -> Setting | None:
        """Return a trial's setting, None for one that `suggest` ends."""
        import optuna

        try:
            return self._setting(trial)
        except optuna.TrialPruned:
            return None

    def _from_distributions(self, trial: "optuna.Trial") -> Iterator[tuple[str, Any]]:
        assert isinstance(self._suggest, Mapping)
        for knob, of in self._suggest.items():
            yield knob, propose(trial, knob, of) if isinstance(of, _OURS) else _drawn(trial, knob, of)

    def _check(self, study: "optuna.Study") -> None:
        """Make sure that the study has one value and looks for the right end of the metric.

        Raises:
            InputError: it does not, or is none.
        """
        import optuna

        if not isinstance(study, optuna.Study):
            raise InputError(f"study must be one that optuna.create_study makes, got {type(study).__name__}")
        if len(study.directions) > 1:
            raise InputError(
                f"the study has {counted(len(study.directions), 'objective')}, and {self._metric} is one: "
                "optuna.create_study(direction=...)"
            )
        wanted = "maximize" if self._metric.endswith("accuracy") else "minimize"
        if study.direction.name.lower() != wanted:
            raise InputError(
                f"the study is to {study.direction.name.lower()}, and {self._metric} is to be {wanted}d: "
                f"optuna.create_study(direction={wanted!r})"
            )

    def _check_metric(self, history: History) -> None:
        if self._metric not in history.metrics:
            names = ", ".join(name for name in history.metrics if "_" in name and name != "weight_norm")
            raise InputError(f"metric must be one of {names}; got {self._metric!r}")


class _Stop:
    """Notes the wish to ask for no more trials: `Study.stop` raises outside of `study.optimize`.

    A grid that is used up calls it, and so do callbacks.
    """

    wanted = False

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, RuntimeError) and "Study.stop" in str(error):
            self.wanted = True
            return True
        return False


def _used_up(study: "optuna.Study", last: "optuna.Trial", stop: _Stop) -> bool:
    """Return whether the trials asked for, the last of them this one, have all the points of a sampler that has few.

    Optuna finds that out when trials are told, which those of a population are only when all have been asked for.
    """
    from optuna.samplers import BruteForceSampler, GridSampler
    from optuna.trial import TrialState

    sampler = study.sampler
    if isinstance(sampler, BruteForceSampler):
        with stop:  # running trials count for it
            sampler.after_trial(study, study.get_trials(deepcopy=False)[last.number], TrialState.PRUNED, None)
        return stop.wanted
    if isinstance(sampler, GridSampler):
        about = [t.system_attrs for t in study.get_trials(deepcopy=False) if t.state is not TrialState.WAITING]
        space, n = getattr(sampler, "_search_space", None), getattr(sampler, "_n_min_trials", math.inf)
        return len({a.get("grid_id") for a in about if a.get("search_space") == space}) >= n
    return False


def _named(knob: object) -> str:
    """Return a knob's name.

    Raises:
        InputError: it is none.
    """
    if not isinstance(knob, str):
        raise InputError(f"suggest has a value for each knob by its name, such as 'dropout'; got the name {knob!r}")
    return knob


def _functions(callbacks: object) -> tuple[Callable[..., object], ...]:
    """Return callbacks as `study.optimize` takes them.

    Raises:
        InputError: they are none.
    """
    found: tuple[Any, ...] = tuple(callbacks or ()) if isinstance(callbacks, Iterable | None) else (callbacks,)
    if not isinstance(callbacks, Iterable | None) or not all(map(callable, found)):
        raise InputError(f"callbacks must be a list of functions of a study and a trial, got {callbacks!r}")
    return found


def _drawn(trial: "optuna.Trial", knob: str, distribution: Any) -> Any:
    """Return a trial's value from a distribution of Optuna's.

    Raises:
        InputError: it is none.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(knob, distribution.choices)
    if isinstance(distribution, IntDistribution):
        d = distribution
        return trial.suggest_int(knob, d.low, d.high, step=d.step, log=d.log)
    if isinstance(distribution, FloatDistribution):
        d = distribution
        return trial.suggest_float(knob, d.low, d.high, step=d.step, log=d.log)
    raise InputError(
        f"suggest[{knob!r}] must be a distribution of Optuna's, such as FloatDistribution(0, 0.7), or a dimension of "
        f"dampen's, such as Uniform(0, 0.7); got {distribution!r}"
    )


def _report(
    trials: "Sequence[AnyTrial]",
    settings: Sequence[Setting],
    values: Mapping[Setting, np.floating[Any]],
    epoch: int,
    which: Sequence[int],
) -> None:
    """Give the study's pruner and its dashboard what trials are worth after an epoch."""
    for i in which:
        if math.isfinite(values[settings[i]]):
            trials[i].report(float(values[settings[i]]), epoch)
