"""How the rate of whatever drops moves over a training: early, late, linear, annealed.

Liu et al. (2023), "Dropout reduces underfitting", sections 4 and 5: dropout only before a step (early; at a constant
rate or falling linearly) against underfitting, or only after it (late) against overfitting; 50 of 300 epochs there.
Rennie, Goel and Thomas (2014), "Annealed dropout training of deep networks": the rate falls to 0 over the whole
training.
"""

from dampen.engine.knobs._base import Knob, Scales
from dampen.errors import InputError

KINDS = ("constant", "early", "late", "linear", "annealed")
_SHARE = 1 / 6  # of the training: 50 of 300 epochs (Liu et al. 2023)
_WITH_SHARE = ("early", "late", "linear")


def factor(schedule: str, step: int, steps: int) -> float:
    """Return the share of its rate at which dropout works at `step`, from 0, of `steps`.

    Args:
        schedule: `constant`; `early` (on at first, then off); `late` (off at first, then on); `linear` (falls to 0,
            then off); `annealed` (falls to 0 over the whole training). The first three change at 1/6 of the training,
            or at another share that follows a colon: `early:0.5`.
        step: of the training, from 0.
        steps: of the whole training.

    In a plain loop: `layer.p = rate * factor("late", step, steps)` before each step.

    Example:
        >>> [factor("early:0.5", step, 4) for step in range(4)]
        [1.0, 1.0, 0.0, 0.0]
        >>> [factor("annealed", step, 4) for step in range(4)]
        [1.0, 0.75, 0.5, 0.25]
    """
    kind, share = _read(schedule)
    done = step / steps
    if kind == "early":
        return float(done < share)
    if kind == "late":
        return float(done >= share)
    if kind == "linear":
        return max(0.0, 1 - done / share)
    return 1 - done if kind == "annealed" else 1.0


def kind(value: object) -> str:
    """Read the knob: a schedule's name, perhaps with the share of the training at which it changes (`late:0.3`)."""
    name, share = _read(value)
    return f"{name}:{share!r}" if isinstance(value, str) and ":" in value else name


def _read(value: object) -> tuple[str, float]:
    name, colon, share = value.partition(":") if isinstance(value, str) else ("", "", "")
    if name not in KINDS:
        raise InputError(f"dropout_schedule must be one of {', '.join(KINDS)}, got {value!r}")
    if not colon:
        return name, _SHARE
    if name not in _WITH_SHARE:
        raise InputError(f"dropout_schedule {name} takes no share of the training, got {value!r}")
    try:
        at = float(share)
    except ValueError:
        at = 0.0
    if not 0 < at < 1:
        raise InputError(f"dropout_schedule changes at a share of the training between 0 and 1, got {value!r}")
    return name, at


KNOB = Knob(
    "dropout_schedule",
    "activation",
    kind,
    "Moves the rates of dropout, gaussian_dropout, dropconnect, dropblock and drop_path over the training: at first "
    "only (early), later only (late), or less and less (linear, annealed).",
    f"{', '.join(KINDS)}; the middle three change at 1/6 of the training, or at the share after a colon: late:0.3",
    "Liu et al. 2023, sec. 4 and 5; Rennie et al. 2014",
    neutral="constant",
    acts=Scales(("dropout", "gaussian_dropout", "dropconnect", "dropblock", "drop_path"), factor),
)
