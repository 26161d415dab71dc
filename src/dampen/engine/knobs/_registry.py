"""The registry of knobs: one of ours is a file beside this one and a line here; `register_knob` adds a user's."""

import keyword
import re
from dataclasses import fields
from functools import cache
from importlib.metadata import entry_points

from dampen.engine.knobs._base import Acts, Knob, Scales, Variants
from dampen.engine.knobs.batch import cutmix, horizontal_flip, label_smoothing, mixup, random_shift
from dampen.engine.knobs.noise import (
    drop_path,
    dropblock,
    dropconnect,
    dropout,
    gaussian_dropout,
    input_dropout,
    input_noise,
)
from dampen.engine.knobs.time import averaging, decay_schedule, dropout_schedule, late_start, lr, patience
from dampen.engine.knobs.weights import (
    cautious_decay,
    corrected_decay,
    decay_timescale,
    decoupled_decay,
    group_lasso,
    independent_decay,
    l1,
    l2,
    l2_sp,
    max_norm,
    weight_decay,
)
from dampen.errors import InputError

KNOBS: dict[str, Knob] = {
    knob.name: knob
    for knob in (
        weight_decay.KNOB,
        dropout.KNOB,
        lr.KNOB,
        decay_timescale.KNOB,
        decoupled_decay.KNOB,
        cautious_decay.KNOB,
        independent_decay.KNOB,
        corrected_decay.KNOB,
        l2.KNOB,
        decay_schedule.KNOB,
        late_start.KNOB,
        l1.KNOB,
        late_start.L1,
        group_lasso.KNOB,
        group_lasso.FROBENIUS,
        l2_sp.KNOB,
        max_norm.KNOB,
        averaging.KNOB,
        averaging.SWA,
        patience.KNOB,
        gaussian_dropout.KNOB,
        dropconnect.KNOB,
        drop_path.KNOB,
        dropblock.KNOB,
        dropblock.SIZE,
        dropout_schedule.KNOB,
        random_shift.KNOB,  # batches change in this order: images move, rows are mixed, noise comes last
        horizontal_flip.KNOB,
        mixup.KNOB,
        cutmix.KNOB,
        input_dropout.KNOB,
        input_noise.KNOB,
        label_smoothing.KNOB,
    )
}

_OWN = frozenset(KNOBS)
_COLUMNS = {"setting", "seed", "epoch", "diverged", "weight_norm", "run", "length"}  # beside knobs in a study's table
_GROUP = "dampen.knobs"  # of entry points


def register_knob(knob: Knob) -> Knob:
    """Add a regulariser: settings, search spaces, populations, `solo` and the command line then take it.

    A knob that is registered again, because its file is read again, takes the place of the former one.

    Raises:
        InputError: the name is taken or no lower-case identifier, the knob does nothing, refuses its own neutral value,
            or refers to a knob that does not exist.

    Example:
        >>> from dampen.engine.knobs import Knob, OnGradient, Setting, number
        >>> def log_penalty(w, value, start):
        ...     return value * 2 * w / (1 + w**2)
        >>> knob = Knob(
        ...     "log_penalty", "gradient", number("log_penalty"), "Adds log(1 + w^2).", "0 or larger", "an example",
        ...     neutral=0.0, acts=OnGradient(log_penalty),
        ... )
        >>> _ = register_knob(knob)
        >>> Setting(log_penalty=0.1)
        Setting(log_penalty=0.1)
        >>> _ = KNOBS.pop("log_penalty")
    """
    if not isinstance(knob, Knob):
        raise InputError(f"register_knob takes a Knob, got {type(knob).__name__}")
    name = knob.name
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise InputError(f"a knob's name must be a lower-case Python identifier, got {name!r}")
    if name in _COLUMNS:
        raise InputError(
            f"a knob can't be named {name!r}, which is a column of every study's table: choose another name"
        )
    if name in KNOBS and (name in _OWN or not _alike(knob, KNOBS[name])):
        raise InputError(f"there is a knob named {name!r} already: choose another name")
    if not isinstance(knob.acts, Acts):
        raise InputError(f"the knob {name} does nothing: give it acts=, such as OnGradient(function)")
    moved = knob.acts.of if isinstance(knob.acts, Scales) else ()
    beside = (knob.acts.beside,) if isinstance(knob.acts, Variants) else ()
    for other in (*knob.excludes, *moved, *beside):
        if other not in KNOBS:
            raise InputError(f"the knob {name} refers to {other!r}, which is no knob; the knobs are {', '.join(KNOBS)}")
    if knob.neutral is not None:
        try:
            knob.read(knob.neutral)
        except InputError as e:
            raise InputError(f"the knob {name} refuses its own neutral value: {e}") from e
    KNOBS[name] = knob
    return knob


def find_knob(name: str) -> Knob:
    """Return the knob of a name; if there is none, those of installed packages are registered first.

    Raises:
        InputError: there is none all the same.
    """
    if name not in KNOBS:
        register_installed_knobs()
    if name not in KNOBS:
        raise InputError(
            f"there is no knob named {name!r} (import the module that registers it, if it is your own); the knobs are "
            f"{', '.join(KNOBS)}"
        )
    return KNOBS[name]


@cache
def register_installed_knobs() -> None:
    """Register the knobs of installed packages: their entry points in the group `dampen.knobs`, each a `Knob`.

    Raises:
        InputError: one can't be imported or registered.
    """
    for point in entry_points(group=_GROUP):
        try:
            knob = point.load()
        except Exception as e:
            raise InputError(f"the knob {point.name} ({point.value}) can't be imported: {e}") from e
        if KNOBS.get(knob.name) is not knob:
            register_knob(knob)


def _alike(knob: Knob, other: Knob) -> bool:
    """Return whether two knobs differ in nothing but the objects of their functions."""
    plain = [f.name for f in fields(Knob) if f.name not in ("read", "acts")]
    return type(knob.acts) is type(other.acts) and all(getattr(knob, n) == getattr(other, n) for n in plain)
