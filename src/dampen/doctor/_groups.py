"""Checks of an optimizer against the model: parameters left out, held twice, or of another model."""

from collections import Counter
from collections.abc import Iterator

from dampen.doctor._case import Case
from dampen.doctor._report import Symptom


def left_out(case: Case) -> Iterator[Symptom]:
    """Look for parameters that require a gradient and are in no group."""
    held = {id(p) for group in case.groups for p in group.parameters}
    names = tuple(name for name, p in case.model.named_parameters() if p.requires_grad and id(p) not in held)
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
