"""`train.py`: a study's last training again, in plain PyTorch, along the same trajectory."""

from functools import cache
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from dampen._io import shortened
from dampen.engine import BETA, QUANTILES, SGD, Adam, find_optimizer, find_schedule, forked, heads_of, momentum_of
from dampen.engine.knobs import turned
from dampen.engine.knobs.weights import decay_timescale
from dampen.engine.knobs.weights.weight_decay import decayed
from dampen.errors import InputError
from dampen.export import _layers
from dampen.export._literal import Source, listed, literal
from dampen.models import Periodic, Scaling
from dampen.study import Winner

_FOLLOWED = ("weight_decay", "decay_timescale", "dropout", "lr", "label_smoothing", "l1", "l2")
_COMPARED = 64  # rows on which the script's network must equal the study's


def check(winner: Winner) -> None:
    """Make sure that the script can follow a training.

    Raises:
        InputError: it can't; the message names what is in the way.
    """
    if winner.data is None:
        raise InputError(str(winner.lacking))
    training = winner.training
    others = [name for name in turned([winner.setting]) if name not in _FOLLOWED]
    if others:
        raise InputError(f"the setting turns {', '.join(others)}, and the script supports {', '.join(_FOLLOWED)} only")
    if str(training.device).partition(":")[0] != "cpu":
        raise InputError(f"the training ran on {training.device}, whose random numbers are not the CPU's")
    if training.precision not in ("float32", "float64"):
        raise InputError(f"the training's precision is {training.precision}, whose rounding no other loop repeats")
    if training.loss is not None and not isinstance(training.loss, str):
        raise InputError("the loss is a function of your own, and the script can't hold it")
    if _too_short(winner):
        raise InputError("the learning rate's schedule is one-cycle without a step on which it rises")
    if not winner.repeatable:
        raise InputError("the network's initial weights do not follow from torch's seed")
    _layers.check_plain(winner.network, winner.examples[:_COMPARED])


def drawn_by_seed(winner: Winner) -> bool:
    """Return whether the network that the script makes starts from the winner's initial weights by its seed alone."""
    with forked():
        torch.manual_seed(winner.seed)
        drawn = _layers.remade(winner.network).state_dict()
    return all(torch.equal(t, drawn[name]) for name, t in winner.initial.state_dict().items())


def source(winner: Winner) -> str:
    """Return the script for a winner that `check` has let pass."""
    training, (mean, deviation) = winner.training, winner.target_scale
    setting, optimizer, schedule = winner.setting, find_optimizer(training.optimizer), find_schedule(training.schedule)
    lr = setting.get("lr", training.lr)
    drops, scales, waves = (
        any(isinstance(module, kinds) for module in winner.network.modules())
        for kinds in (_layers.DROPOUT, Scaling, Periodic)
    )
    return (
        _templates()
        .get_template("train.py.jinja")
        .render(
            name=winner.description.name,
            classes=winner.description.task == "classification",
            weighted=winner.description.weighted,
            scaled=winner.description.preprocessing is None,
            drops=drops,
            scales=scales,
            waves=waves,
            n_waves=Periodic.WAVES,
            n_values=Periodic.VALUES,
            sigma=Periodic.SIGMA,
            ordered="OrderedDict" in _layers.code(winner.network),
            network=winner.network,
            scaling_factor=Scaling.FACTOR,
            decayed=[name for name, on in decayed(winner.network, training.decay_filter).items() if on],
            drawn_by_seed=drawn_by_seed(winner),
            seed=winner.seed,
            epochs=winner.epochs,
            lr=lr,
            weight_decay=decay_timescale.weight_decay_of(setting, lr, _steps_per_epoch(winner), momentum_of(optimizer)),
            l1=setting.get("l1", 0.0),
            l2=setting.get("l2", 0.0),
            label_smoothing=setting.get("label_smoothing", 0.0),
            loss=training.loss,
            heads=heads_of(training.loss) > 1,
            quantiles=QUANTILES,
            beta=BETA,
            target_mean=mean,
            target_deviation=deviation,
            batch_size=training.batch_size,
            even_batches=training.even_batches,
            precision=training.precision,
            optimizer=optimizer,
            sgd=isinstance(optimizer, SGD),
            decoupled=isinstance(optimizer, Adam) and optimizer.decoupled,
            usual=Adam(),
            schedule=schedule,
            scheduled=schedule.kind != "constant" or bool(schedule.warmup),
            clip_grad_norm=training.clip_grad_norm,
        )
    )


def _steps_per_epoch(winner: Winner) -> int:
    return -(-winner.description.rows // int(winner.training.batch_size or 1))


def _too_short(winner: Winner) -> bool:
    """Return whether torch's OneCycleLR has no step on which its rate rises, where dampen's begins at the peak."""
    schedule = find_schedule(winner.training.schedule)
    rising = 0.3 if schedule.warmup is None else schedule.warmup
    return schedule.kind == "one-cycle" and rising * winner.epochs * _steps_per_epoch(winner) <= 1


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("dampen.export"),
        autoescape=False,  # Python, no HTML: `_only_source` lets nothing else pass
        finalize=_only_source,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {
        "whole": lambda value: literal(value, int),
        "real": lambda value: literal(value, float),
        "texts": listed,
        "reals": lambda values: literal(tuple(map(float, values)), tuple),
        "layers": lambda network: Source(_layers.code(network)),
        "in_docstring": _in_docstring,
    }
    return templates


def _only_source(value: Any) -> Source:
    """Refuse what a template would write without a filter that makes it Python source."""
    assert isinstance(value, Source), type(value)
    return value


def _in_docstring(name: str) -> Source:
    """Return a name, often that of a file, as it may stand in a docstring."""
    return Source("".join(c if c.isprintable() and c not in '"\\' else " " for c in shortened(name)))
