"""How a study's members train: a `TrainConfig` with a study's defaults, and as its documents write it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dampen import _schema
from dampen.data import Data
from dampen.engine import SGD, Adam, AdamW, Schedule, TrainConfig, heads_of
from dampen.errors import InputError
from dampen.study._defaults import usual_batch_size, usual_schedule

_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (SGD, Adam, AdamW, Schedule)}
_SHORT = {SGD(): "sgd", Adam(): "adam", AdamW(): "adamw"}
_OPTIONAL = ("clip_grad_norm", "decay_filter", "loss", "compile")  # are written where they are not the usual ones
_CLASSES_LOSS = "cross_entropy"


def config_of_study(config: TrainConfig, data: Data) -> TrainConfig:
    """Return how a study on data trains: rows a step and schedule by the data where they are left open.

    The study decides on lengths itself: `epochs` is None in what is returned.

    Raises:
        InputError: something that its last trainings can't do, or that no document can hold.
    """
    if config.early_stopping is not None:
        raise InputError(
            "early_stopping can't be part of a study: its last trainings, on all rows, have no validation rows to stop "
            "by; leave it out, a study compares with early stopping by itself"
        )
    for name in ("loss", "decay_filter"):
        if callable(getattr(config, name)):
            raise InputError(
                f"{name} can't be a function in a study, whose folder could not repeat it: give a name, or use "
                "Population.fit"
            )
    if heads_of(config.loss) > 1 and data.task == "classification":
        raise InputError(f"loss {config.loss!r} is for numbers, and the data has classes: leave it out")
    if config.loss is not None and (config.loss == _CLASSES_LOSS) != (data.task == "classification"):
        raise InputError(f"loss {config.loss!r} is not for {data.task}: leave it out for the usual one")
    return replace(
        config,
        epochs=None,
        batch_size=config.batch_size or usual_batch_size(len(data.train_rows)),
        schedule=usual_schedule() if config.schedule is None else config.schedule,
    )


def written(config: TrainConfig) -> dict[str, str]:
    """Return a study's configuration as its documents hold it: texts."""
    texts = {
        "batch_size": str(config.batch_size),
        "even_batches": str(config.even_batches),
        "optimizer": optimizer_text(config),
        "lr": str(config.lr),
        "schedule": schedule_text(config),
        "precision": config.precision,
        "device": str(config.device),
    }
    given = {name: getattr(config, name) for name in _OPTIONAL}
    return texts | {name: str(value) for name, value in given.items() if value != getattr(TrainConfig, name)}


def rows_a_step(config: TrainConfig) -> int:
    """Return the batch size of a study's configuration, which has one."""
    assert config.batch_size is not None
    return config.batch_size


def optimizer_text(config: TrainConfig) -> str:
    """Return the optimizer's name, with its parameters where they are not the usual ones."""
    optimizer = config.optimizer
    return optimizer if isinstance(optimizer, str) else _SHORT.get(optimizer, repr(optimizer))


def schedule_text(config: TrainConfig) -> str:
    """Return the schedule's name, with its warm-up and cycles where these are not the usual ones."""
    schedule = config.schedule
    if isinstance(schedule, Schedule):
        if schedule.cycles > 1:
            return repr(schedule)
        return (
            schedule.kind if schedule.warmup is None else f"Schedule(kind={schedule.kind!r}, warmup={schedule.warmup})"
        )
    return str(schedule)


def read(texts: Mapping[str, str]) -> TrainConfig:
    """Return the configuration that `written` wrote.

    Raises:
        InputError: a value outside its range; or ValueError: a text that is none of an optimizer or a schedule.
    """
    clip = texts.get("clip_grad_norm")
    return TrainConfig(
        batch_size=int(texts["batch_size"]),
        even_batches=texts.get("even_batches") == "True",  # older studies cut plainly
        optimizer=_value(texts["optimizer"]),
        lr=float(texts["lr"]),
        schedule=_value(texts["schedule"]),
        clip_grad_norm=None if clip is None else float(clip),
        decay_filter=texts.get("decay_filter", "weights"),
        loss=texts.get("loss"),
        precision=texts["precision"],
        device=texts["device"],
        compile={"True": True, "False": False}.get(texts.get("compile", "auto"), "auto"),
    )


def _value(text: str) -> Any:
    if "(" not in text:
        return text
    name, values = _schema.call(text)
    if name not in _KINDS:
        raise ValueError(f"there is no {name}")
    return _KINDS[name](**values)
