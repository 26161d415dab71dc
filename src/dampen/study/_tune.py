"""`tune`: a search over settings, within a budget if there is one."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from torch import nn

from dampen._checks import as_path, function, integer, is_number, truth
from dampen.data import Data
from dampen.engine import (
    AdamW,
    Builder,
    Model,
    Population,
    TrainConfig,
    TrainOptions,
    check_timescale,
    configured,
    find_optimizer,
    once,
)
from dampen.engine.knobs import Setting, find_knob
from dampen.errors import InputError
from dampen.search import Bracket, Space, Strategy, check_space, strategy_of
from dampen.search import brackets as draw_brackets
from dampen.study import _budget, _cocktail, _defaults, _documents, _references
from dampen.study._bar import bar_in_notebook
from dampen.study._checks import (
    check_batches,
    is_of,
    one_writer,
    open_folder,
    refuse_others,
    refuse_patience,
    refuse_taken,
)
from dampen.study._choose_loss import AUTO, choose_loss
from dampen.study._clock import Clock
from dampen.study._conclude import finish
from dampen.study._confirmation import Confirmation
from dampen.study._defaults import Lengths
from dampen.study._divergence import check_learnt
from dampen.study._embedded import refuse_changed_codes
from dampen.study._phases import n_calibration_folds
from dampen.study._preparation import Preparation, prepare
from dampen.study._protocol import Plan
from dampen.study._runner import Progress, Runner, workers_of
from dampen.study._search import check_found
from dampen.study._search import search as run_search
from dampen.study._storage import Folder
from dampen.study._study import Study

Planned = tuple[tuple[Bracket, ...], dict[str, tuple[Setting, ...]], int]
LEAST_AROUND = 16  # settings of a search that afterwards looks around the best one


@one_writer
@once()
def tune(
    model: Model,
    data: Data,
    space: Mapping[str, Any] | None = None,
    *,
    config: TrainConfig | None = None,
    n_settings: int | None = None,
    n_seeds: int | None = None,
    metric: str | None = None,
    margin: float | None = None,
    search: str | Strategy = "sobol",
    per_layer: bool = False,
    cocktail: bool = False,
    confirmed: int | None = None,
    n_confirm_seeds: int | None = None,
    budget: float | None = None,
    validation: str | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    cluster: Any = None,
    callback: Callable[[Progress], object] | None = None,
    **options: Unpack[TrainOptions],
) -> Study:
    """Find how much regularisation a network needs, and how sure that is.

    All settings train at once, for lengths that grow while successive halving drops the worse ones, until longer
    trainings are no better; no regularisation and the framework's default get learning rates and lengths of their own.
    The best train again with fresh seeds beside these references and beside the same without each regulariser; the
    verdict rests on those. The test rows are looked at once, at the end.

    Args:
        model: as for `Population`.
        data: with or without validation rows; test rows are optional.
        space: a dimension for each knob, or a value; by default weight decay, learning rate and, if the network drops
            units, dropout.
        config: how members train. `epochs` is the longest training, which by default follows from what longer trainings
            gain; `lr` is used where the space has no learning rate. By default `batch_size` is 32 below 5000 training
            rows and 128 above, `schedule` is `cosine`. The default space is made for `adamw`: give one for another
            optimizer. `early_stopping`, and functions as `loss` or `decay_filter`, can't be part of a study. For
            numbers the keyword `loss="auto"` takes `gaussian_nll` where validation rows are significantly more likely
            under it than under `squared_error`, both tried with 8 settings first.
        n_settings: how many are tried; by default 64 below 1000 training rows, 32 below 5000, 24 above.
        n_seeds: of each setting in the search; by default 5 below 1000 training rows, 3 below 5000, 1 above.
        metric: `nll`, `accuracy`, `brier`, `mc-nll` (of the mean under Monte-Carlo dropout), `calibrated-nll` (under
            the temperature that fits other rows) for classes; `mse`, `rmse`, `mae`, `r2`, `nll` (noise fitted) for
            numbers. By default `nll` or `mse`, of a cocktail of classes from 1000 training rows on `calibrated-nll`.
        margin: share of the loss below which a difference is negligible; by default 0.01, or a tenth of the spread
            between seeds where that is more.
        search: how settings are drawn and which train longer: `dampen.SuccessiveHalving(eta=3)`, `Hyperband`, `Sobol`,
            `Random`, `Grid` or `TPE`; `sobol`, `random`, `grid`, `tpe` and `hyperband` are short for them, eta being 2.
        per_layer: a dropout rate for each layer, in the default space.
        cocktail: search every regulariser that can act on the network and the data, each on or off (Kadra et al. 2021);
            what `space` has takes the place of its dimension. By default 512 settings of one seed each.
        confirmed: how many of the best train again; by default 3, and of a cocktail within a budget 1.
        n_confirm_seeds: of each of these; by default 10 below 1000 training rows, 5 below 5000, 3 above (of folds 5),
            and one or more for each of the folds of `Data.with_folds`.
        budget: seconds that the study may take: settings, seeds, epochs and confirming seeds that are not given follow
            from it and from a measured training.
        validation: `folds` or `held-out`; by default folds below 5000 training rows or 50 groups. Those of
            `Data.with_folds` are used as they are: the first `n_seeds` search, all confirm.
        seed: of draws, splits and members.
        out: folder for the results; None keeps them in memory.
        resume: go on with the study that `out` holds.
        cluster: `local`, `auto`, `ray://HOST:PORT` or a `dampen.Cluster`: trains on the workers of a Ray cluster. The
            study is the same. A budget is measured on this machine alone.
        callback: called with where the study is; without one, a notebook's cell shows a bar.
        options: fields of `TrainConfig`, such as `epochs=20, lr=0.01`; they replace those of `config`.

    Raises:
        InputError: an argument outside its range, unfit data, or a folder with another study.
    """
    if budget is not None and not (is_number(budget) and 0 < budget < math.inf):
        raise InputError(f"budget must be a number of seconds above 0, got {budget!r}")
    for name, value in {"per_layer": per_layer, "cocktail": cocktail}.items():
        truth(name, value)
    confirmed = _defaults.n_confirmed(confirmed, cocktail, budget is not None)
    integer("confirmed", confirmed)
    function("callback", callback)
    if space is not None:
        check_space(space)
    began, automatic = time.perf_counter(), isinstance(given := options.get("loss"), str) and given == AUTO
    if automatic:
        options["loss"] = None
        if getattr(data, "task", None) == "classification":
            raise InputError("loss 'auto' is for numbers, and the data has classes: leave it out")
    strategy, config = strategy_of(search), configured(config, options)

    def begun(loss: Any) -> Preparation:
        return prepare(
            model,
            data,
            replace(config, loss=loss),
            metric=metric,
            validation=validation,
            margin=margin,
            seed=seed,
            cocktail=cocktail,
            n_settings=(n_settings, 1),
            n_seeds=(n_seeds, 1),
            confirmed=(confirmed, 1),
            n_confirm_seeds=(n_confirm_seeds, 2),
        )

    def drawn_from(ready: Preparation) -> Space:
        places = _dropping(ready.model, ready.data, ready.training)
        return _space(space, ready.data, places, per_layer)

    choice = choose_loss(begun, drawn_from, n_seeds, _unopened(out, resume)) if automatic else None
    ready = begun(config.loss if choice is None else choice.option)
    model, data, training, sizes, lengths = ready.model, ready.data, ready.training, ready.sizes, ready.lengths
    places = _dropping(model, data, training)
    if cocktail:
        space = _mixed(space or {}, _cocktail.cocktail_space(model, data, training, places))
        sizes = replace(sizes, settings=_cocktail.N_SETTINGS, seeds=_cocktail.N_SEEDS)
    dropping, chosen = places > 0, _space(space, data, places, per_layer)
    refuse_changed_codes(model, data, chosen.dimensions)
    optimizer = find_optimizer(training.optimizer)
    check_timescale(optimizer, [dict.fromkeys(chosen.dimensions)])

    looks = strategy.halving and strategy.name != "grid"

    def planned(settings: int, lengths: Lengths) -> Planned:
        brackets = draw_brackets(chosen, strategy, settings, (lengths.first, lengths.planned), confirmed, seed)
        wide = min(settings, _cocktail.MOST_RATES) if cocktail else settings
        families = _references.families(chosen, dropping, data, training.lr, wide, isinstance(optimizer, AdamW))
        around = min(settings // 2, _cocktail.MOST_AROUND) if cocktail else settings // 8
        return brackets, families, around if looks and settings >= LEAST_AROUND else 0

    rounds = _cocktail.ROUNDS if cocktail else 1
    if budget is not None:
        wanted = _budget.Wanted(n_settings, n_seeds, lengths, config.epochs is not None, confirmed)
        if n_confirm_seeds or data.given_folds is not None or cocktail:  # whose parts the verdict has to tell apart
            wanted = replace(wanted, confirm_seeds=n_confirm_seeds or sizes.confirm_seeds)
        if cocktail:  # in a dozen dimensions few settings find nothing
            wanted = replace(wanted, **_cocktail.WANTED)
        else:
            searched = len(_references.searched(chosen.dimensions))
            wanted = replace(wanted, regularisers=max(wanted.regularisers, searched))
        without_sizes = ready.plan(
            space=chosen,
            search=strategy.name,
            brackets=(),
            rounds=rounds,
            seeds=ready.seeds(n_seeds or sizes.seeds),
            confirmed=confirmed,
            confirm_seeds=ready.seeds(n_confirm_seeds or sizes.confirm_seeds),
            budget=budget,
        )
        left = budget - (time.perf_counter() - began)
        n_settings, n_seeds, lengths = _within(left, ready, without_sizes, out, planned, wanted)
    brackets, families, around = planned(n_settings or sizes.settings, lengths)
    plan = ready.plan(
        notes=ready.notes if choice is None else (*ready.notes, choice.note),
        space=chosen,
        search=strategy.name,
        brackets=brackets,
        families=families,
        refined=around,
        rounds=rounds,
        seeds=ready.seeds(n_seeds or sizes.seeds),
        lengths=lengths,
        confirmed=confirmed,
        confirm_seeds=ready.seeds(n_confirm_seeds or sizes.confirm_seeds),
        budget=budget,
        own_dropout=dropping and "dropout" not in chosen.dimensions and _drops_by_itself(model, data),
    )
    check_batches(model, plan)  # this and what it splits raises what is to be raised before anything is written
    with workers_of(cluster) as workers, bar_in_notebook(callback) as told:
        runner = Runner(model, plan, open_folder(out, plan, resume), told, workers)
        clock = None if budget is None else Clock(runner, budget, began)
        ranked = run_search(runner, clock)
        check_learnt(runner, "search")
        check_found(ranked)
        if clock is not None and n_confirm_seeds is None and data.given_folds is None:
            runner.plan = replace(plan, confirm_seeds=ready.seeds(clock.confirm_seeds(ranked)))
        spares = partial(clock.spares, ranked) if clock is not None and cocktail else None
        return finish(runner, Confirmation(runner, dropping, spares).of_search(ranked), ranked)


def _unopened(out: str | Path | None, resume: bool) -> Folder | None:
    """Return a study's folder before there is a plan to open it with; refuse one that is another study's."""
    if out is None:
        return None
    folder = Folder(as_path("out", out))
    refuse_taken(folder, resume)
    return folder


def _space(space: Mapping[str, Any] | None, data: Data, dropping: int, per_layer: bool) -> Space:
    """Return the space that is given, or the usual one; refuse knobs that can't be searched here."""
    chosen = Space(dict(space) if space is not None else _defaults.usual_space(data, dropping, per_layer))
    if "dropout" in chosen.dimensions and not dropping:
        raise InputError("the network drops no units, so that dropout changes nothing: leave dropout out of the space")
    refuse_patience(chosen.dimensions)
    return chosen


def _mixed(given: Mapping[str, Any], cocktail: Mapping[str, Any]) -> dict[str, Any]:
    """Return a cocktail's dimensions with those that are given in the place of their own and of what they exclude."""
    excluded = {other for name in given for other in find_knob(name).excludes}
    return {name: value for name, value in cocktail.items() if name not in excluded} | dict(given)


def _dropping(model: Model, data: Data, training: TrainConfig) -> int:
    """Return in how many places the network drops units."""
    explained = Population(model, [Setting()], [0]).explain(replace(data, test_rows=data.test_rows[:0]), training)
    return len(explained.dropping)


def _drops_by_itself(model: Model, data: Data) -> bool:
    """Return whether a network that can drop units has rates above 0 of its own."""
    network = Builder(model)(0, data.inputs, data.outputs)
    rates = [module.p for module in network.modules() if isinstance(module, nn.modules.dropout._DropoutNd)]
    return not rates or any(rate > 0 for rate in rates)


def _within(
    left: float,
    ready: Preparation,
    plan: Plan,
    out: str | Path | None,
    planned: Callable[[int, Lengths], Planned],
    wanted: _budget.Wanted,
) -> tuple[int, int, Lengths]:
    """Return the settings, seeds and lengths of a budget, or those that the folder holds for the same plan.

    Args:
        left: seconds of the budget.
        ready: network and data.
        plan: as far as it is known without them.
        out: the study's folder.
        planned: what a search of some settings trains.
        wanted: sizes that are given.
    """
    folder = None if out is None else Folder(as_path("out", out))
    held = _documents.budget(folder)
    if folder is None or held is None or not is_of(folder, held, plan):
        new = folder if folder is not None and _documents.planned(folder) is None else None
        if new is not None:
            refuse_others(new)  # before anything is measured

        def member_epochs(settings: int, seeds: int, lengths: Lengths) -> float:
            brackets, families, around = planned(settings, lengths)
            searched = sum(bracket.member_epochs(seeds) for bracket in brackets)
            beyond = _budget.member_epochs_beyond(lengths, around, plan.rounds)
            return searched * (1 + sum(map(len, families.values())) / settings) + seeds * beyond

        families = len(planned(wanted.least, wanted.lengths)[1])
        tempered, calibrating = int(plan.calibrated_metric is not None), n_calibration_folds(plan, folder is not None)
        wanted = replace(wanted, families=families, calibrating=calibrating, tempered=tempered)
        rate = _budget.seconds_per_member_epoch(
            ready.model, ready.data, ready.training, plan.space, wanted.lengths.planned
        )
        settings, seeds, lengths = _budget.fit_search(left, rate, wanted, member_epochs, plan.budget)
        held = {"plan": plan.document(), "settings": settings, "seeds": seeds, "lengths": vars(lengths)}
        if new is not None:
            new.write_json("budget.json", held)
    return wanted.settings or held["settings"], wanted.seeds or held["seeds"], Lengths(**held["lengths"])
