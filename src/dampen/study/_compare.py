"""`compare`: settings that are known already, against each other."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dampen.data import Data
from dampen.engine import Model, initial_weights_repeat, once
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.study import _defaults, _metrics, _protocol
from dampen.study._checks import (
    check_batches,
    check_margin,
    check_network,
    check_whole,
    one_writer,
    open_folder,
    prepared,
    refuse_patience,
)
from dampen.study._conclude import finish
from dampen.study._confirmation import Confirmation
from dampen.study._divergence import check_learnt
from dampen.study._embedded import with_ids
from dampen.study._references import SEARCH
from dampen.study._runner import Progress, Runner
from dampen.study._search import best, search
from dampen.study._study import Study
from dampen.study._training import Training, tell


@one_writer
@once()
def compare(
    model: Model,
    data: Data,
    settings: Mapping[str, Setting] | Sequence[Setting],
    n_seeds: int | None = None,
    *,
    epochs: int | None = None,
    metric: str | None = None,
    validation: str | None = None,
    batch_size: int | None = None,
    lr: float = 1e-3,
    margin: float | None = None,
    schedule: str | None = None,
    precision: str = "float32",
    device: str = "cpu",
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    callback: Callable[[Progress], object] | None = None,
) -> Study:
    """Compare settings that are known already: the best of them against each of the others.

    Without `epochs` each setting has its own best length, found as `tune` finds it.

    Args:
        model: as for `Population`.
        data: as for `tune`.
        settings: two or more; names, if given, are those of the references in the verdict.
        n_seeds: of each; by default as many as confirm for `tune`.
        epochs: length of all trainings; by default each setting's own best one.
        metric: as for `tune`, and so are all that follow.
        validation: see there.
        batch_size: see there.
        lr: of settings that have none.
        margin: as for `tune`.
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
    if len(set(named.values())) < 2 or (n_seeds is not None and n_seeds < 2):
        raise InputError(f"compare needs at least 2 different settings and 2 seeds, got {len(named)} and {n_seeds}")
    check_whole({"seed": (seed, 0), "n_seeds": (n_seeds, 2), "epochs": (epochs, 1)})
    check_margin(margin)
    for setting in named.values():
        refuse_patience(setting)
    data, scale, training = prepared(with_ids(model, data), batch_size, lr, schedule, precision, device)
    notes = check_network(model, data)
    sizes, lengths = (
        _defaults.usual_sizes(len(data.train_rows)),
        _defaults.usual_lengths(data, training["batch_size"], epochs),
    )
    different = tuple(dict.fromkeys(named.values()))
    n = len(different)
    rungs = tuple(
        _protocol.Rung(rung.epochs, n) for rung in _protocol.rungs(lengths.planned, 2**16, n, 2, True, lengths.first)
    )
    plan = _protocol.Plan(
        _protocol.name_of(model),
        data,
        scale,
        _metrics.find(metric, data.task, data.weights is not None),
        None,
        "none",
        () if epochs is not None else (_protocol.Bracket(n, rungs, different),),
        {},
        0,
        tuple(range(seed, seed + sizes.seeds)),
        lengths,
        n,
        tuple(range(seed, seed + (n_seeds or sizes.confirm_seeds))),
        margin,
        _protocol.scheme_of(data, validation),
        seed,
        training,
        same_start=initial_weights_repeat(model, data.inputs, data.outputs),
        notes=notes,
    )
    check_batches(model, plan)
    runner = Runner(model, plan, open_folder(out, plan, resume, named), callback)
    ranked = search(runner)
    check_learnt(runner, "search")
    lengths_of = {found.setting: found.epochs for found in best(ranked, SEARCH)}
    trainings = {name: Training(s, lengths_of.get(s, lengths.planned)) for name, s in named.items()}
    confirmed = Confirmation(runner, dropping=False).of_comparison(trainings)
    check_learnt(runner, "confirmation")
    return finish(runner, confirmed, ranked)
