"""What Optuna lends: proposals by TPE, and a storage that its dashboard shows."""

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dampen._checks import expanded
from dampen.engine.knobs import Setting, find_knob
from dampen.errors import InputError
from dampen.search._space import Choice, Dimension, LogUniform, PerLayer, Space


class TpeSampler:
    """Proposals by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011), in batches, by ask and tell.

    The same seed and the same results give the same proposals.

    Args:
        space: where settings lie.
        seed: of the sampler.
        startup: so many settings are drawn at random first.

    Raises:
        InputError: Optuna is not installed.
    """

    def __init__(self, space: Space, seed: int, startup: int):
        check_optuna()
        import optuna

        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup, constant_liar=True)
        self._space = space
        with _quiet():
            self._study = optuna.create_study(sampler=sampler)
        self._asked: dict[Setting, list[Any]] = {}
        self._known: dict[Setting, list[tuple[int, float]]] = {}
        self._full: set[Setting] = set()

    def ask(self, n: int) -> tuple[Setting, ...]:
        """Return at most n distinct settings that have not been tried."""
        self._asked = {}
        for _ in range(4 * n):  # a small space repeats itself
            if len(self._asked) == n:
                break
            trial = self._study.ask()
            setting = self._space.setting({n: propose(trial, n, d) for n, d in self._space.dimensions.items()})
            if setting in self._known:
                self._report(trial, setting)
            else:
                self._asked.setdefault(setting, []).append(trial)
        return tuple(self._asked)

    def tell(self, epochs: int, settings: Sequence[Setting], costs: Sequence[float], last: bool) -> None:
        """Take the costs that settings had after so many epochs; `last` if that is the full length."""
        for setting, cost in zip(settings, costs, strict=True):
            self._known.setdefault(setting, []).append((epochs, cost))
        if last:
            self._full |= set(settings)

    def close(self) -> None:
        """End a batch: the settings that were dropped count as pruned."""
        for setting, trials in self._asked.items():
            for trial in trials:
                self._report(trial, setting)

    def _report(self, trial: Any, setting: Setting) -> None:
        from optuna.trial import TrialState

        for epochs, cost in self._known[setting]:
            trial.report(cost, epochs)
        cost = self._known[setting][-1][1]
        if setting in self._full and math.isfinite(cost):
            self._study.tell(trial, cost)
        else:
            self._study.tell(trial, state=TrialState.PRUNED)


def export_to_optuna(storage: str, name: str, space: Space, rungs: Sequence[tuple[int, Sequence, Sequence]]) -> None:
    """Add trials to an Optuna storage, so that its dashboard shows them.

    Args:
        storage: URL, such as `sqlite:///studies.db`.
        name: of the study there; must be new.
        space: of the search.
        rungs: epochs, settings and costs of each.

    Raises:
        InputError: Optuna is not installed, the storage can't be used, or has a study of that name.
    """
    storage = located(storage)
    check_storage(storage, name)
    import optuna
    from optuna.trial import TrialState

    costs_of: dict[Setting, dict[int, float]] = {}
    for epochs, settings, costs in rungs:
        for setting, cost in zip(settings, costs, strict=True):
            costs_of.setdefault(setting, {})[epochs] = cost
    full = max(epochs for epochs, _, _ in rungs)
    trials = []
    for setting, values in costs_of.items():
        recorder = _Recorder(setting)
        for knob, dimension in space.dimensions.items():
            propose(recorder, knob, _as_read(knob, dimension))
        done = full in values and math.isfinite(values[full])
        trials.append(
            optuna.trial.create_trial(
                state=TrialState.COMPLETE if done else TrialState.PRUNED,
                value=values[full] if done else None,
                params=recorder.params,
                distributions=recorder.distributions,
                intermediate_values=values,
            )
        )
    try:
        with _quiet():
            study = optuna.create_study(storage=storage, study_name=name)
            study.add_trials(trials)
    except Exception as e:  # SQLAlchemy has many kinds, and is Optuna's own dependency
        raise _unwritable(storage, e) from e


def check_storage(storage: str, name: str) -> None:
    """Make sure, before anything trains, that a study can be added to an Optuna storage; a new file is not made yet.

    Raises:
        InputError: Optuna is not installed, the storage can't be used, is somebody's other database, or has a study of
            that name.
    """
    check_optuna()
    storage = located(storage)
    import optuna
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.engine import make_url

    try:
        url = make_url(storage)
        in_file = url.get_backend_name() == "sqlite" and not (url.database or "").startswith("file:")
        file = Path(url.database or "")
        if in_file and (not url.database or url.database == ":memory:"):
            raise InputError(f"the Optuna storage {storage} is in memory and ends with the command: name a file")
        engine = create_engine(url)  # raises where there is no such kind of database
        if in_file and not file.exists():
            tempfile.TemporaryFile(dir=file.parent).close()
            return
        tables = inspect(engine).get_table_names()
        engine.dispose()
        if tables and "studies" not in tables:
            raise InputError(f"{storage} is another program's database, with a table {tables[0]!r}: name another file")
        with _quiet():
            names = optuna.get_all_study_names(storage) if tables else []
    except InputError:
        raise
    except Exception as e:  # SQLAlchemy has many kinds, and is Optuna's own dependency
        raise _unwritable(storage, e) from e
    if name in names:
        raise InputError(f"{storage} has a study called {name!r} already: choose another name or another storage")


def located(storage: str) -> str:
    """Return an Optuna storage's URL, with the home folder for a leading `~` of an SQLite file.

    >>> located("sqlite:///studies.db")
    'sqlite:///studies.db'
    """
    head, colon, file = storage.partition(":///")
    return f"{head}{colon}{expanded(file)}" if head.startswith("sqlite") else storage


def _unwritable(storage: str, e: Exception) -> InputError:
    reason = e.strerror if isinstance(e, OSError) and e.strerror else (str(e) or type(e).__name__).splitlines()[0]
    return InputError(f"can't write to the Optuna storage {storage}: {reason}; a file works as sqlite:///studies.db")


def check_optuna() -> None:
    """Raise `InputError` where Optuna is not installed."""
    if find_spec("optuna") is None:
        raise InputError("this needs Optuna, which is not installed: pip install 'dampen[optuna]'")


class _Recorder:
    """Stands in for a trial and notes what a setting would have been suggested, from which distribution."""

    def __init__(self, setting: Setting):
        self._setting = setting
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, Any] = {}

    def _value(self, name: str) -> Any:
        knob, _, layer = name.partition(".")
        value = self._setting[knob]
        return value[int(layer)] if layer.isdigit() else value

    def suggest_float(self, name: str, low: float, high: float, log: bool = False) -> float:
        from optuna.distributions import FloatDistribution

        self.distributions[name] = FloatDistribution(low, high, log=log)
        self.params[name] = min(max(self._value(name), low), high)
        return self.params[name]

    def suggest_categorical(self, name: str, values: Sequence[Any]) -> Any:
        from optuna.distributions import CategoricalDistribution

        self.distributions[name] = CategoricalDistribution(tuple(values))
        held = self._value(name.removesuffix(".zero"))
        self.params[name] = held == 0 if name.endswith(".zero") else values[[*map(str, values)].index(str(held))]
        return self.params[name]


def _as_read(knob: str, dimension: Dimension | PerLayer) -> Dimension | PerLayer:
    """Return a dimension whose choices are what settings hold of them, 1.0 of 1, by which they are found again."""
    if isinstance(dimension, PerLayer):
        each = _as_read(knob, dimension.each)
        assert not isinstance(each, PerLayer)
        return PerLayer(each, dimension.layers)
    return Choice([find_knob(knob).read(v) for v in dimension.values]) if isinstance(dimension, Choice) else dimension


def propose(trial: Any, name: str, dimension: Dimension | PerLayer) -> Any:
    """Return what a trial suggests for a dimension, in parameters that Optuna can store."""
    if isinstance(dimension, PerLayer):
        return tuple(propose(trial, f"{name}.{i}", dimension.each) for i in range(dimension.layers))
    if isinstance(dimension, Choice):
        if all(isinstance(value, int | float | str) for value in dimension.values):
            return trial.suggest_categorical(name, dimension.values)
        named = {str(value): value for value in dimension.values}  # Optuna stores no tuples
        return named[trial.suggest_categorical(name, list(named))]
    if isinstance(dimension, LogUniform):
        if dimension.zero and trial.suggest_categorical(f"{name}.zero", (False, True)):
            return 0.0
        return trial.suggest_float(name, dimension.low, dimension.high, log=True)
    if dimension.zero and trial.suggest_categorical(f"{name}.zero", (False, True)):
        return 0.0
    return trial.suggest_float(name, dimension.low, dimension.high)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's remarks off the user's screen."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
