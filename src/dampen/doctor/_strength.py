"""Checks of how much decay can do for the learning rate and the length of the training."""

from collections.abc import Iterator

from dampen.doctor._evidence import Case, lost, steps_in_words
from dampen.doctor._report import Symptom

_FORGETS_AT_ONCE = 0.1  # share of a weight that one step takes; weights then average the last ten updates
_CANNOT_ACT = 0.01  # share of a weight that the whole training takes


def too_strong(case: Case) -> Iterator[Symptom]:
    """Look for decay that wipes weights out within a few steps."""
    for group in case.groups:
        rate = group.shrinkage
        if rate is None or rate < _FORGETS_AT_ONCE:
            continue
        yield Symptom(
            (group.name,),
            "serious" if rate >= 1 else "warning",
            f"weight decay {group.weight_decay:g} at learning rate {group.lr:g} takes {rate:.3g} of each weight a step"
            + (
                ": that sets weights to 0 or beyond, and they can't settle."
                if rate >= 1
                else f": weights forget within {steps_in_words(rate)}, and are the noise of the last few batches."
            ),
            "lower weight_decay (the time scale 1/(lr*weight_decay) should be epochs, not steps)",
        )


def too_weak(case: Case) -> Iterator[Symptom]:
    """Look for decay whose time scale is a hundred times the training's length, or longer."""
    assert case.steps is not None
    for group in case.groups:
        rate = group.shrinkage
        if not rate or (share := lost(rate, case.steps)) >= _CANNOT_ACT:
            continue
        yield Symptom(
            (group.name,),
            "warning",
            f"weight decay {group.weight_decay:g} at learning rate {group.lr:g} has a time scale of "
            f"{steps_in_words(rate)}, but training ends after {case.steps}: decay takes {share:.2g} of a weight in all "
            "and changes next to nothing.",
            f"raise weight_decay towards {group.weight_decay / (rate * case.steps):.2g}, where the time scale is the "
            "whole training, or set it to 0",
        )
