"""Checks of an optimizer against the model: parameters left out, held twice, or of another model."""

import difflib
from collections import Counter
from collections.abc import Iterator

from dampen._checks import is_number
from dampen.doctor._evidence import Case
from dampen.doctor._report import Symptom

# What schedulers, and dampen itself, put into groups beside the optimizer's own settings.
_OF_OTHERS = {
    *("params", "param_names", "initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr"),
}
_CALLED = {  # by other libraries
    **dict.fromkeys(("wd", "decay", "l2", "weight_decay_rate", "weight_decay_factor"), "weight_decay"),
    **dict.fromkeys(("learning_rate", "rate", "alpha_lr"), "lr"),
}


def unread_keys(case: Case) -> Iterator[Symptom]:
    """Look for settings of a group that its optimizer does not read; labels, which are texts, are meant so."""
    for group in case.groups:
        known = {name for name in group.optimizer.defaults if isinstance(name, str)}
        for key, value in group.settings.items():
            if key in known | _OF_OTHERS:
                continue
            called = _CALLED.get(str(key).lower())
            close = difflib.get_close_matches(str(key).lower().replace("-", "_"), sorted(known), 1, 0.75)
            meant = called if called in known else close[0] if close else None
            number = is_number(value)
            if meant is None and not (number and group.of_torch):  # a label, or another library's own state
                continue
            kind = type(group.optimizer).__name__
            yield Symptom(
                (group.name,),
                "note" if meant is None else "serious",
                f"the group sets {key!r} to {value!r}, and {kind} reads no such key: it "
                + (
                    "changes nothing unless your own loop or scheduler reads it."
                    if meant is None
                    else f"goes on with {meant}={group.settings.get(meant)!r}, and torch does not complain."
                ),
                "leave the key out, or ignore this finding if something else reads it"
                if meant is None
                else f"write {meant!r} instead of {key!r}",
            )


def left_out(case: Case) -> Iterator[Symptom]:
    """Look for parameters that require a gradient and are in no group."""
    held = {id(p) for group in case.groups for p in group.parameters}
    names = tuple(case.names[id(p)] for p in case.model.parameters() if p.requires_grad and id(p) not in held)
    if names:
        yield Symptom(
            names,
            "serious",
            "parameters require a gradient, but no group of the optimizer holds them: they keep their initial values "
            "and never decay, while their gradients are computed all the same.",
            "add them to a group, or call requires_grad_(False) on them if they are to stay",
        )


def held_twice(case: Case) -> Iterator[Symptom]:
    """Look for parameters that are in two groups, or twice in one."""
    counts = Counter(id(p) for group in case.groups for p in group.parameters)
    names = tuple(name for key, name in case.names.items() if counts[key] > 1)
    if names:
        yield Symptom(
            names,
            "serious",
            "parameters are held more than once: each step updates them, and decays them, as often.",
            "let one group of one optimizer hold each parameter",
        )


def strangers(case: Case) -> Iterator[Symptom]:
    """Look for tensors in the optimizer that the model does not have."""
    foreign = {group.name: sum(id(p) not in case.names for p in group.parameters) for group in case.groups}
    places = {name: n for name, n in foreign.items() if n}
    if places:
        missing = next(left_out(case), None)
        yield Symptom(
            tuple(places),
            "serious" if missing else "warning",
            f"the optimizer holds tensors ({sum(places.values())}) that are not parameters of the model"
            + (
                f", while parameters of the model ({missing.where[0]} for one) are in no group: a layer was replaced, "
                "or the model copied, after the optimizer was made."
                if missing
                else ": those of another model, or of a loss with parameters of its own."
            ),
            "make the optimizer after the model has its final layers"
            if missing
            else "make sure that they are meant; ignore this finding if they are",
        )
