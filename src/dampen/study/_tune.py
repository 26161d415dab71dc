"""`tune`: a search over settings, within a budget if there is one."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dampen.data import Data
from dampen.errors import InputError
from dampen.knobs import Setting
from dampen.population import Model, Population
from dampen.search import Space
from dampen.store import Folder
from dampen.study import _budget, _metrics, _plan, _usual
from dampen.study._begin import check_network, check_whole, open_folder, prepared, refuse_patience
from dampen.study._finish import finish
from dampen.study._run import Progress, Ranked, Runner
from dampen.study._study import Study


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
    check_whole(whole | {"confirmed": (confirmed, 1), "confirm_seeds": (confirm_seeds, 2), "seed": (seed, 0)})
    if budget is not None and not (math.isfinite(budget) and budget > 0):
        raise InputError(f"budget must be a number of seconds above 0, got {budget!r}")
    data, scale, training = prepared(data, batch_size, lr, schedule, precision, device, out if resume else None)
    check_network(model, data)
    small = len(data.train_rows) < _usual.SMALL
    dropping = _dropping(model, data, training)
    chosen = _space(space, data, dropping, per_layer)
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
    runner = Runner(model, plan, open_folder(out, plan, resume), callback, n_references)
    ranked = runner.search()
    best = [s for _, s in sorted(_last_rungs(ranked, plan), key=lambda found: found[0])][:confirmed]
    references = _plan.references(best[0], dropping > 0, data, lr)
    if budget is not None and confirm_seeds is None:
        runner.plan = _confirm_within(budget, runner, clock, len({*best, *references.values()}) + 1 + len(references))
    return finish(runner, best, references, tuple(ranked))


def _space(space: Mapping[str, Any] | None, data: Data, dropping: int, per_layer: bool) -> Space:
    """Return the space that was asked for, or the usual one; refuse knobs that can't be searched here."""
    chosen = Space(dict(space) if space is not None else _usual.usual_space(data, dropping, per_layer))
    if "dropout" in chosen.dimensions and not dropping:
        raise InputError("the network drops no units, so that dropout changes nothing: leave dropout out of the space")
    refuse_patience(chosen.dimensions)
    return chosen


def _dropping(model: Model, data: Data, training: dict[str, Any]) -> int:
    """Return in how many places the network drops units."""
    explained = Population(model, [Setting()], [0]).explain(replace(data, test_rows=data.test_rows[:0]), **training)
    return len(explained.dropping)


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
