"""`compare`: settings that are known already, against each other."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dampen.data import Data
from dampen.errors import InputError
from dampen.knobs import Setting
from dampen.population import Model
from dampen.search import Choice, Space
from dampen.study import _metrics, _plan
from dampen.study._begin import check_network, check_whole, open_folder, prepared, refuse_patience
from dampen.study._finish import finish
from dampen.study._run import Progress, Runner
from dampen.study._study import Study
from dampen.study._verdict import tell


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
    check_whole({"seed": (seed, 0)})
    for setting in named.values():
        refuse_patience(setting)
    data, scale, training = prepared(data, batch_size, lr, schedule, precision, device, out if resume else None)
    check_network(model, data)
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
    runner = Runner(model, plan, open_folder(out, plan, resume, named), callback, len(named))
    return finish(runner, [], named, ())
