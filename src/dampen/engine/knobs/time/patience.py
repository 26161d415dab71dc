"""Early stopping with restore: training ends where the validation loss no longer falls.

Goodfellow, Bengio and Courville (2016), "Deep Learning", algorithm 7.1, with an evaluation after each epoch.
"""

from dampen._checks import integer
from dampen.engine.knobs._base import Knob


def epochs(value: object) -> int | None:
    """Read the knob: a whole number of epochs, or None for a training to its end."""
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return integer("patience", value, of="epochs")


KNOB = Knob(
    "patience",
    "time",
    epochs,
    "Ends a member's training when its validation loss has not become smaller for so many epochs, and gives it the "
    "weights of its best one.",
    "a whole number of epochs, 1 or larger",
    "Goodfellow, Bengio and Courville 2016, alg. 7.1",
)
