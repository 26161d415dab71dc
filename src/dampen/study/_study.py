"""`tune` and `compare`: a search over settings, and a verdict that holds."""

import json
import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from dampen.data import Data, Preprocessing, Rows
from dampen.errors import InputError, NotExported
from dampen.knobs import Setting
from dampen.population import Model, Population, Schedule
from dampen.search import Choice, Space, export_to_optuna
from dampen.statistics import over_rows, over_seeds_and_rows
from dampen.store import Folder, fingerprint
from dampen.study import _budget, _metrics, _plan, _unseen, _usual
from dampen.study._run import Progress, Ranked, Runner, document_of, outputs_of
from dampen.study._verdict import LEVEL, Verdict, judge, tell
from dampen.study._winner import Exported, Winner, winner_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Study:
    """A finished search: what was tried, what it showed, and the network that came out.

    Args:
        plan: what was done.
        ranked: what each rung of the search found; empty for a comparison.
        references: what the recommended setting was compared with, by name.
        verdict: which setting, how sure, against what.
        test: by `recommended`, the references' names and `ensemble`: metrics on the test rows, each with its mean and
            interval; empty where there are no test rows.
        seconds: spent.
        folder: where it is kept, if anywhere.
    """

    plan: _plan.Plan
    ranked: tuple[Ranked, ...]
    references: Mapping[str, Setting]
    verdict: Verdict
    test: dict[str, dict[str, Any]]
    seconds: float
    _curves: "pd.DataFrame"
    _confirmed: int
    _last: Population
    folder: Path | None = None

    def model(self) -> nn.Module:
        """Return a network with the recommended setting, trained on training and validation rows, evaluation mode.

        For numbers it gives `(target - mean) / deviation` with the two of `plan.target_scale`.
        """
        return self._last.member(self.verdict.recommended, self._last.seeds[0])

    def ensemble(self) -> list[nn.Module]:
        """Return the networks of the recommended setting, one for each seed."""
        return [self._last.member(self.verdict.recommended, seed) for seed in self._last.seeds]

    def preprocessing(self) -> Preprocessing | None:
        """Return how raw rows become the network's inputs, for rows to come; None where the data is no table."""
        return Preprocessing.of(_plan.training_and_validation_rows(self.plan.data))

    def frame(self) -> "pd.DataFrame":
        """Return all learning curves as a tidy pandas frame, with the phase that each belongs to."""
        return self._curves

    @property
    def member_epochs(self) -> float:
        """How often members passed over the training rows, all members of all phases together."""
        found, before = 0.0, (-1, 0)
        for rung in self.ranked:
            passes = self.plan.brackets[rung.bracket].passes
            start = passes(before[1]) if before[0] == rung.bracket else 0.0
            found += len(rung.settings) * len(self.plan.seeds) * (passes(rung.epochs) - start)
            before = rung.bracket, rung.epochs
        full = self._confirmed + len(self._last.settings)
        return found + full * len(self.plan.confirm_seeds) * self.plan.epochs

    def report(self, path: str | Path) -> None:
        """Write the report as one HTML file that needs no network.

        Raises:
            InputError: it can't be written.
        """
        pages = import_module("dampen.report")  # a higher row: looked up only when someone asks for it here
        rungs = [document_of(rung, self.plan) for rung in self.ranked]
        pages.write_study(Path(path), self.document(), self.frame(), rungs)

    def winner(self) -> Winner:
        """Return the network of `model`, and all that its training followed from."""
        plan, rows = self.plan, _plan.training_and_validation_rows(self.plan.data)
        recommended = self.verdict.recommended
        return winner_of(self._last, plan.model, rows, plan.target_scale, recommended, plan.epochs, plan.training)

    def export(self, folder: str | Path, *, onnx: bool = False, data: bool | None = None) -> Exported:
        """Write the recommended network for use without dampen; see `dampen.export.write`, which says what is written.

        Args:
            folder: new, empty, or of an earlier export.
            onnx: whether to write `model.onnx`, too.
            data: whether to write the rows; None: if they are no more than 64 MiB.

        Raises:
            InputError: the folder holds something else or can't be written, or ONNX is not installed or can't hold the
                network.

        Warns:
            NotExported: `train.py` could not be written; the message says why.
        """
        found = import_module("dampen.export").write(self.winner(), Path(folder), onnx=onnx, data=data)
        if found.refused is not None:
            warnings.warn(found.refused, NotExported, stacklevel=2)
        return found

    def export_to_optuna(self, storage: str, name: str | None = None) -> None:
        """Add the search's settings to an Optuna storage, so that optuna-dashboard shows them.

        Args:
            storage: URL, such as `sqlite:///studies.db`.
            name: of the study there; by default the data's.

        Raises:
            InputError: nothing was searched, Optuna is not installed, or the storage can't take it.
        """
        if not self.ranked:
            raise InputError("a comparison has no search to export")
        rungs = [(rung.epochs, rung.settings, rung.costs) for rung in self.ranked]
        export_to_optuna(storage, name or self.plan.data.name, self.plan.space, rungs)

    def document(self) -> dict[str, Any]:
        """Return what was found as JSON can hold it."""
        plan = self.plan
        return {
            "data": plan.data.name,
            "columns": [] if plan.data.columns is None else plan.data.columns.document(plan.data.outputs),
            "notes": list(plan.data.notes),
            **self.verdict.document(),
            "sentences": self.verdict.sentences(),
            "test": self.test,
            "trained": {
                "settings": plan.settings,
                "seeds": len(plan.seeds),
                "members": plan.settings * len(plan.seeds),
                "epochs": plan.epochs,
                "member_epochs": self.member_epochs,
            },
            "seconds": self.seconds,
            "folder": None if self.folder is None else str(self.folder),
            "plan": plan.document(),
        }


def tune(
    model: Model,
    data: Data,
    space: Mapping[str, Any] | None = None,
    *,
    settings: int | None = None,
    seeds: int | None = None,
    epochs: int | None = None,
    metric: str | None = None,
    search: str = "sobol",
    halving: bool = True,
    eta: int = 3,
    per_layer: bool = False,
    confirmed: int = 3,
    confirm_seeds: int | None = None,
    budget: float | None = None,
    validation: str | None = None,
    batch_size: int | None = None,
    lr: float = 1e-3,
    schedule: str | None = None,
    precision: str = "float32",
    device: str = "cpu",
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    callback: Callable[[Progress], object] | None = None,
) -> Study:
    """Find how much regularisation a network needs, and say how sure that is.

    All settings train at once; successive halving drops the worse ones; the best few, no regularisation and the
    framework's default train again with fresh seeds, and the verdict rests on those. The test rows are looked at once,
    at the end.

    Args:
        model: as for `Population`.
        data: with or without validation rows; test rows are optional.
        space: a dimension for each knob, or a value; by default weight decay, learning rate and, if the network drops
            units, dropout.
        settings: how many are tried; by default 64.
        seeds: of each setting in the search; by default 3.
        epochs: length of a full training; by default 30 below 5000 training rows, 10 above; for tables 600 steps below
            1000 rows, 1000 above, but 10 to 200 epochs.
        metric: `nll`, `accuracy`, `brier`, `mc-nll` (of the mean under Monte-Carlo dropout) for classes; `mse`, `rmse`,
            `mae`, `r2`, `nll` (noise fitted) for numbers.
        search: `sobol`, `random`, `grid`, `tpe` (Optuna's, in batches) or `hyperband`.
        halving: whether to drop settings before they are fully trained.
        eta: one in so many survives a rung.
        per_layer: a dropout rate for each layer, in the default space.
        confirmed: how many of the best train again.
        confirm_seeds: of each of these; by default 10 below 5000 training rows, 5 above.
        budget: seconds that the study may take: settings, seeds, epochs and confirming seeds that are not given follow
            from it and from a measured training.
        validation: `folds` or `held-out`; by default folds below 5000 training rows.
        batch_size: rows a step; by default 32 below 5000 training rows, 128 above.
        lr: learning rate where the space has none, and of the default reference.
        schedule: of the learning rate: `constant`, `cosine`, `linear` or `one-cycle`, as for `Population.fit`; by
            default `cosine` for tables, else `constant`.
        precision: as for `Population.fit`.
        device: as for `Population.fit`.
        seed: of draws, splits and members.
        out: folder for the results; None keeps them in memory.
        resume: go on with the study that `out` holds.
        callback: is told where the study is.

    Raises:
        InputError: an argument outside its range, unfit data, or a folder with another study.
    """
    whole = {"settings": (settings, 1), "seeds": (seeds, 2), "epochs": (epochs, 1), "eta": (eta, 2)}
    for name, (value, least) in (whole | {"confirmed": (confirmed, 1), "confirm_seeds": (confirm_seeds, 2)}).items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise InputError(f"{name} must be a whole number, {least} or larger, got {value!r}")
    if budget is not None and not (math.isfinite(budget) and budget > 0):
        raise InputError(f"budget must be a number of seconds above 0, got {budget!r}")
    data, scale, training = _prepared(data, batch_size, lr, schedule, precision, device)
    small = len(data.train_rows) < _usual.SMALL
    dropping = _dropping(model, data, training)
    chosen = Space(dict(space) if space is not None else _usual.usual_space(data, dropping, per_layer))
    if "dropout" in chosen.dimensions and not dropping:
        raise InputError("the network drops no units, so that dropout changes nothing: leave dropout out of the space")
    _refuse_patience(chosen.dimensions)
    judged_by, scheme = _metrics.find(metric, data.task, data.weights is not None), _plan.scheme_of(data, validation)
    n_references = 2 + _plan.has_table_default(dropping > 0, data)

    steps = _plan.training_rows(data, scheme) / training["batch_size"]

    def brackets(settings: int, epochs: int) -> tuple[_plan.Bracket, ...]:
        return _plan.brackets(chosen, search, settings, epochs, confirmed, eta, halving, seed, steps)

    length = epochs or _usual.usual_length(data, training["batch_size"])
    clock = time.perf_counter()
    if budget is not None:
        full = confirmed + 1 + 2 * n_references
        asked = settings, seeds, epochs, length
        settings, seeds, length = _within(budget, model, data, training, out, full, brackets, asked)
    seeds, n_confirm = seeds or 3, confirm_seeds or (10 if small else 5)
    plan = _plan.Plan(
        _plan.name_of(model),
        data,
        scale,
        judged_by,
        chosen,
        search,
        brackets(settings or 64, length),
        tuple(range(seed, seed + seeds)),
        length,
        confirmed,
        tuple(range(seed, seed + n_confirm)),
        scheme,
        seed,
        training,
        budget,
    )
    _plan.split(plan, plan.seeds, again=False)  # raises what is to be raised before anything is written
    runner = Runner(model, plan, _open(out, plan, resume), callback, n_references)
    ranked = runner.search()
    best = [s for _, s in sorted(_last_rungs(ranked, plan), key=lambda found: found[0])][:confirmed]
    references = _plan.references(best[0], dropping > 0, data, lr)
    if budget is not None and confirm_seeds is None:
        runner.plan = _confirm_within(budget, runner, clock, len({*best, *references.values()}) + 1 + len(references))
    return _finish(runner, best, references, tuple(ranked))


def _last_rungs(ranked: Sequence[Ranked], plan: _plan.Plan) -> list[tuple[float, Setting]]:
    """Return costs and settings that were trained for the full length, each once."""
    rungs = [rung for rung in ranked if rung.epochs == plan.epochs]
    full = {setting: cost for rung in rungs for setting, cost in zip(rung.settings, rung.costs, strict=True)}
    return [(cost, setting) for setting, cost in full.items()]


def _within(
    budget: float,
    model: Model,
    data: Data,
    training: dict[str, Any],
    out: str | Path | None,
    full: int,
    brackets: Callable[[int, int], tuple[_plan.Bracket, ...]],
    asked: tuple[int | None, int | None, int | None, int],
) -> tuple[int, int, int]:
    """Return the settings, seeds and epochs of a budget, or those that the folder says it had."""
    held = Folder(Path(out)).read_json("budget.json") if out is not None else None
    if held is None:
        settings, seeds, epochs, length = asked
        rate = _budget.seconds_per_member_epoch(model, data, training)
        sizes = _budget.fit_search(
            budget,
            rate,
            full,
            lambda n, of_seeds, epochs: sum(b.member_epochs(of_seeds) for b in brackets(n, epochs)),
            settings,
            seeds,
            length,
            epochs is not None,
        )
        held = {"sizes": sizes}
        if out is not None:
            Folder(Path(out)).write_json("budget.json", held)
    return tuple(held["sizes"])  # type: ignore[return-value]


def _confirm_within(budget: float, runner: Runner, clock: float, full: int) -> _plan.Plan:
    """Return the plan with as many confirming seeds as the budget still allows, or as the folder says it had."""
    held = runner.folder.read_json("budget.json") if runner.folder is not None else {}
    if "confirm_seeds" not in held:
        left = budget - runner.seconds - (runner.began - clock)
        held["confirm_seeds"] = _budget.confirm_seeds(
            left, budget, runner.seconds_per_member_epoch, full, runner.plan.epochs
        )
        if runner.folder is not None:
            runner.folder.write_json("budget.json", held)
    seed = runner.plan.seed
    return replace(runner.plan, confirm_seeds=tuple(range(seed, seed + held["confirm_seeds"])))


def compare(
    model: Model,
    data: Data,
    settings: Mapping[str, Setting] | Sequence[Setting],
    seeds: int = 10,
    *,
    epochs: int = 10,
    metric: str | None = None,
    validation: str | None = None,
    batch_size: int | None = None,
    lr: float = 1e-3,
    schedule: str | None = None,
    precision: str = "float32",
    device: str = "cpu",
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    callback: Callable[[Progress], object] | None = None,
) -> Study:
    """Compare settings that are known already: the best of them against each of the others.

    Args:
        model: as for `Population`.
        data: as for `tune`.
        settings: two or more; names, if given, are those of the references in the verdict.
        seeds: of each.
        epochs: length of training.
        metric: as for `tune`, and so are all that follow.
        validation: see there.
        batch_size: see there.
        lr: of settings that have none.
        schedule: as for `tune`.
        precision: see there.
        device: see there.
        seed: see there.
        out: see there.
        resume: see there.
        callback: see there.

    Raises:
        InputError: fewer than two settings or seeds; or as for `tune`.
    """
    named = dict(settings) if isinstance(settings, Mapping) and not isinstance(settings, Setting) else {}
    named = named or {tell(setting): setting for setting in settings if isinstance(setting, Setting)}
    if len(set(named.values())) < 2 or seeds < 2:
        raise InputError(f"compare needs at least 2 different settings and 2 seeds, got {len(named)} and {seeds}")
    for setting in named.values():
        _refuse_patience(setting)
    data, scale, training = _prepared(data, batch_size, lr, schedule, precision, device)
    plan = _plan.Plan(
        _plan.name_of(model),
        data,
        scale,
        _metrics.find(metric, data.task, data.weights is not None),
        Space({"weight_decay": Choice([setting.get("weight_decay", 0.0) for setting in named.values()])}),
        "none",
        (),
        (),
        epochs,
        0,
        tuple(range(seed, seed + seeds)),
        _plan.scheme_of(data, validation),
        seed,
        training,
    )
    runner = Runner(model, plan, _open(out, plan, resume, named), callback, len(named))
    return _finish(runner, [], named, ())


def _refuse_patience(knobs: Iterable[str]) -> None:
    if "patience" in knobs:
        raise InputError(
            "patience can't be part of a study: its last trainings, on all rows, have no validation rows to stop by; "
            "leave it out, or use Population.fit"
        )


def _prepared(
    data: Data, batch_size: int | None, lr: float, schedule: str | None, precision: str, device: str
) -> tuple[Data, tuple[float, float], dict[str, Any]]:
    """Return the data with targets of unit deviation, their scale, and what `Population.fit` is told."""
    data, mean, deviation = _plan.with_unit_targets(data)
    training = {
        "batch_size": batch_size or _usual.usual_batch_size(len(data.train_rows)),
        "optimizer": "adamw",
        "lr": lr,
        "schedule": Schedule(schedule if schedule is not None else _usual.usual_schedule(data)).kind,
        "precision": precision,
        "device": device,
    }
    return data, (mean, deviation), training


def _finish(
    runner: Runner, best: list[Setting], references: Mapping[str, Setting], ranked: tuple[Ranked, ...]
) -> Study:
    """Confirm, judge, and open the test set."""
    plan, folder = runner.plan, runner.folder
    held = folder.read_json("study.json") if folder is not None else None  # of a study that is finished
    population, rows = runner.confirm(list(dict.fromkeys([*best, *references.values()])))
    verdict = judge(plan, population, rows, references)
    # without test rows nobody asks how the references do on them
    wanted = [verdict.recommended, *(references.values() if len(plan.data.test_rows) else ())]
    last = runner.last(list(dict.fromkeys(wanted)))
    study = Study(
        plan,
        ranked,
        references,
        verdict,
        _test(plan, last, {"recommended": verdict.recommended, **references}),
        held["seconds"] if held else runner.seconds,
        runner.frame(),
        len(population.settings),
        last,
        None if folder is None else folder.path,
    )
    if folder is not None and not held:
        _write(folder, study, rows)
    elif folder is not None and not (folder.path / _unseen.FILE).is_file():  # of an older version
        _write_unseen(folder, plan, rows)
    return study


def _test(plan: _plan.Plan, population: Population, settings: Mapping[str, Setting]) -> dict[str, dict[str, Any]]:
    """Return metrics on the test rows, with intervals over seeds and rows; the ensemble's is over rows alone."""
    rows = _plan.training_and_validation_rows(plan.data).test  # scaled as the rows of the last training are
    if not len(rows):
        return {}
    places = {name: population.settings.index(setting) for name, setting in settings.items()}
    found: dict[str, dict[str, Any]] = {name: {} for name in (*places, "ensemble")}
    sampled = [plan.metric] if plan.metric.samples else []
    for metrics in (sampled, _metrics.of(plan.data.task, plan.data.weights is not None)):
        if not metrics:
            continue
        outputs = torch.stack(outputs_of(population, rows, metrics[0]))  # [S, M, N, C]
        for name, m in places.items():
            found[name] |= _told(plan, metrics, outputs[:, m], rows)
        mean = _metrics.mean_probabilities(outputs[:, places["recommended"]], plan.data.task)
        found["ensemble"] |= _told(plan, metrics, mean[None], rows)
    return found


def _told(plan: _plan.Plan, metrics: Sequence[_metrics.Metric], outputs: Tensor, rows: Rows) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for metric in metrics:
        costs = metric.costs(outputs, rows).double().numpy()
        if not np.isfinite(costs).all():
            found[metric.name] = {"mean": None, "interval": None}
            continue
        estimate = over_seeds_and_rows(costs) if len(costs) > 1 else over_rows(costs[0])
        ends = sorted(metric.told(end, plan.target_scale[1]) for end in estimate.interval(LEVEL))
        found[metric.name] = {"mean": metric.told(estimate.mean, plan.target_scale[1]), "interval": ends}
    return found


def _dropping(model: Model, data: Data, training: dict[str, Any]) -> int:
    """Return in how many places the network drops units."""
    explained = Population(model, [Setting()], [0]).explain(replace(data, test_rows=data.test_rows[:0]), **training)
    return len(explained.dropping)


def _open(
    out: str | Path | None, plan: _plan.Plan, resume: bool, named: Mapping[str, Setting] | None = None
) -> Folder | None:
    """Return the study's folder, made or found.

    Raises:
        InputError: it holds another study, or one that nobody asked to resume.
    """
    if out is None:
        if resume:
            raise InputError("resume needs the folder of the study: name it in out")
        return None
    folder, wanted = Folder(Path(out)), plan.document()
    if named:
        wanted["compared"] = {name: _plan.plain(setting) for name, setting in named.items()}
    held = folder.read_json("plan.json")
    if held is None:
        if resume:
            raise InputError(f"there is no study in {folder.path} to resume: leave resume out to begin one")
        if folder.path.is_dir() and any(file.name != "budget.json" for file in folder.path.iterdir()):
            raise InputError(f"{folder.path} is not empty and holds no study: choose another folder")
        folder.write_json("plan.json", wanted)
        return folder
    if not resume:
        raise InputError(f"{folder.path} holds a study already: resume it, or choose another folder")
    for name in wanted:
        if name not in ("versions", "reading") and held.get(name) != wanted[name]:
            raise InputError(f"{folder.path} holds another study, its {name} differs: choose another folder")
    folder.tidy()
    return folder


def _write_unseen(folder: Folder, plan: _plan.Plan, confirmed: _plan.Split) -> None:
    data = _plan.training_and_validation_rows(plan.data)
    _unseen.write(folder, data, confirmed.sets, fingerprint(plan.data))


def _write(folder: Folder, study: Study, confirmed: _plan.Split) -> None:
    from safetensors.torch import save_file

    document = study.document()
    about = {
        "model": study.plan.model,
        "setting": json.dumps(document["recommended"]),
        "inputs": json.dumps(list(study.plan.data.inputs)),
        "outputs": str(study.plan.data.outputs),
        "target_scale": json.dumps(list(study.plan.target_scale)),
    }
    tensors = {name: t.contiguous().clone() for name, t in study.model().state_dict().items()}
    folder.write("model.safetensors", lambda file: save_file(tensors, file, about))
    preprocessing = study.preprocessing()
    if preprocessing is not None:
        folder.write_json("preprocessing.json", preprocessing.document())
    _write_unseen(folder, study.plan, confirmed)
    folder.write_frame("curves.parquet", study.frame())
    folder.write_json("study.json", document)
