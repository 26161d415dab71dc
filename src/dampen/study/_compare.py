"""`compare`: settings that are known already, against each other."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from dampen._checks import function, integer
from dampen._io import shortened
from dampen.data import Data
from dampen.engine import Model, TrainConfig, TrainOptions, check_timescale, configured, find_optimizer, once
from dampen.engine.knobs import Setting, turned
from dampen.errors import InputError
from dampen.search import SEARCH, Bracket, Rung, Training, best, rungs
from dampen.study._bar import bar_in_notebook
from dampen.study._checks import check_batches, one_writer, open_folder, refuse_patience
from dampen.study._conclude import finish
from dampen.study._confirmation import Confirmation
from dampen.study._defaults import Lengths
from dampen.study._divergence import check_learnt
from dampen.study._embedded import refuse_changed_codes
from dampen.study._preparation import prepare
from dampen.study._references import NONE, regularisers
from dampen.study._runner import Progress, Runner, workers_of
from dampen.study._search import search
from dampen.study._setting_text import setting_text
from dampen.study._study import Study
from dampen.study._verdict_text import NAMES

_TAKEN = ("recommended", "ensemble", *(name for name in NAMES if name != NONE))  # what means something else in verdicts
_DIGITS = 3, 6, 17  # of numbers in the names of settings, as many as tell them apart


@one_writer
@once()
def compare(
    model: Model,
    data: Data,
    settings: Mapping[str, Setting] | Sequence[Setting],
    n_seeds: int | None = None,
    *,
    config: TrainConfig | None = None,
    metric: str | None = None,
    validation: str | None = None,
    margin: float | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    cluster: Any = None,
    callback: Callable[[Progress], object] | None = None,
    **options: Unpack[TrainOptions],
) -> Study:
    """Compare settings that are known already: the best of them against each of the others.

    Without `epochs` each setting has its own best length, found as `tune` finds it.

    Args:
        model: as for `Population`.
        data: as for `tune`.
        settings: two or more; names, if given, are those of the references in the verdict.
        n_seeds: of each; by default as many as confirm for `tune`.
        config: as for `tune`, but that `epochs` is the length of all trainings, `lr` of settings that have none.
        metric: as for `tune`, and so are all that follow.
        validation: see there.
        margin: see there.
        seed: see there.
        out: see there.
        resume: see there.
        cluster: see there.
        callback: see there.
        options: see there.

    Raises:
        InputError: fewer than two settings or seeds; or as for `tune`.
    """
    named = _named(settings)
    if n_seeds is not None:
        integer("n_seeds", n_seeds)
    function("callback", callback)
    if len(set(named.values())) < 2 or (n_seeds is not None and n_seeds < 2):
        raise InputError(f"compare needs at least 2 different settings and 2 seeds, got {len(named)} and {n_seeds}")
    for setting in named.values():
        refuse_patience(setting)
    config = configured(config, options)
    ready = prepare(
        model,
        data,
        config,
        metric=metric,
        validation=validation,
        margin=margin,
        seed=seed,
        n_seeds=(n_seeds, 2),
    )
    model = ready.model
    refuse_changed_codes(model, ready.data, turned(list(named.values())))
    check_timescale(find_optimizer(ready.training.optimizer), list(named.values()))
    lengths, different = ready.lengths, tuple(dict.fromkeys(named.values()))
    plan = ready.plan(
        brackets=() if config.epochs is not None else (_every_length(different, lengths),),
        seeds=ready.seeds(ready.sizes.seeds),
        confirmed=len(different),
        confirm_seeds=ready.seeds(n_seeds or ready.sizes.confirm_seeds),
    )
    check_batches(model, plan)
    with workers_of(cluster) as workers, bar_in_notebook(callback) as told:
        runner = Runner(model, plan, open_folder(out, plan, resume, named), told, workers)
        ranked = search(runner)
        check_learnt(runner, "search")
        lengths_of = {training.setting: training.epochs for training in best(ranked, SEARCH)}
        trainings = {name: Training(s, lengths_of.get(s, lengths.planned)) for name, s in named.items()}
        confirmed = Confirmation(runner, dropping=False).of_comparison(trainings)
        check_learnt(runner, "confirmation")
        return finish(runner, confirmed, ranked)


def _named(settings: object) -> dict[str, Setting]:
    """Return settings by their names, or by what they turn where they have none.

    Raises:
        InputError: something else, or a name that means something else in a verdict.
    """
    if isinstance(settings, Setting | str) or not isinstance(settings, Iterable):
        raise InputError(f"settings must be a list of Settings, or Settings by name, got {settings!r}")
    named: dict[str, Setting] = {}
    for name, setting in settings.items() if isinstance(settings, Mapping) else enumerate(settings):
        if not isinstance(setting, Setting):
            raise InputError(f"settings must be Settings, such as Setting(dropout=0.3), got {shortened(repr(setting))}")
        if isinstance(settings, Mapping) and (not isinstance(name, str) or not name or name in _TAKEN):
            raise InputError(f"a setting's name must be a text, but none of {', '.join(_TAKEN)}; got {name!r}")
        if name == NONE and isinstance(settings, Mapping) and regularisers(setting):
            raise InputError(f"the setting called {name!r} must have no regularisation, got {setting_text(setting)}")
        named[str(name)] = setting
    if isinstance(settings, Mapping):
        return named
    different = dict.fromkeys(named.values())
    names = ({setting_text(setting, whole=True, digits=n): setting for setting in different} for n in _DIGITS)
    return max(names, key=len)


def _every_length(settings: tuple[Setting, ...], lengths: Lengths) -> Bracket:
    """Return the trainings that find each setting's best length: none of them is dropped."""
    n = len(settings)
    doubling = rungs(lengths.planned, 2**16, n, 2, True, lengths.first)
    return Bracket(n, tuple(Rung(rung.epochs, n) for rung in doubling), settings)
