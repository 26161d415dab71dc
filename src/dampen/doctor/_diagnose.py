"""Checks of a model, its optimizer and its forward pass."""

from collections.abc import Collection, Sequence

import torch
from torch import nn

from dampen._checks import integer
from dampen.doctor._evidence import Case
from dampen.doctor._forward import Batch, run
from dampen.doctor._registry import CHECKS
from dampen.doctor._report import SEVERITIES, Finding, Report
from dampen.errors import InputError


def diagnose(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None,
    batch: Batch | None = None,
    *,
    steps: int | None = None,
    ignore: Collection[str] = (),
) -> Report:
    """Find what is wrong with how a model is regularised.

    With a batch the model runs eight times, twice in training mode, without a backward pass; it is left exactly as it
    came, with its modes, its buffers and the state of all random generators, after an exception, too.

    Args:
        model: any network.
        optimizer: what trains it, or several that share it; without one, decay is not checked.
        batch: what the model is called with, on its device: a tensor `[B, ...]`, a tuple or list of arguments, or a
            dict of arguments by name. Without one, the forward pass is not checked.
        steps: how many steps the training takes, to check whether decay can act.
        ignore: names of checks to leave out; `dampen.doctor.CHECKS` has all of them.

    Raises:
        InputError: an argument is not of its kind, there is no such check, or the model fails on the batch.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), nn.Dropout(0.5))
        >>> report = diagnose(model, batch=torch.zeros(2, 4))
        >>> [(finding.check, finding.where, finding.severity) for finding in report.findings]
        [('dropout-on-output', '3', 'serious')]
    """
    optimizers = _checked(model, optimizer, steps, ignore)
    given = {"optimizer": bool(optimizers), "batch": batch is not None, "steps": steps is not None}
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    case = Case(model, optimizers, steps, None if batch is None else run(model, batch))
    findings: list[Finding] = []
    skipped: list[tuple[str, str]] = []
    for check in CHECKS:
        if check.name in ignore:
            continue
        lacking = [name for name in check.needs if not given[name]]
        if lacking:
            skipped.append((check.name, " and ".join(_IN_WORDS[name] for name in lacking)))
            continue
        findings += [
            Finding(check.name, ", ".join(item.where), item.severity, item.message, check.source, item.remedy)
            for item in check.look(case)
        ]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Report(tuple(findings), tuple(skipped))


_IN_WORDS = {"optimizer": "an optimizer", "batch": "a batch", "steps": "the number of steps"}


def _checked(
    model: object, optimizer: object, steps: object, ignore: Collection[str]
) -> tuple[torch.optim.Optimizer, ...]:
    """Return the optimizers, once all arguments are known to be of their kind."""
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    optimizers = tuple(optimizer) if isinstance(optimizer, list | tuple) else () if optimizer is None else (optimizer,)
    for each in optimizers:
        if not isinstance(each, torch.optim.Optimizer):
            raise InputError(f"optimizer must be a torch.optim.Optimizer, or several, got {type(each).__name__}")
    if steps is not None:
        integer("steps", steps)
    if isinstance(ignore, str):
        raise InputError(f"ignore must be a collection of names, such as [{ignore!r}], got {ignore!r}")
    known = {check.name for check in CHECKS}
    for name in ignore:
        if name not in known:
            raise InputError(f"there is no check {name!r} to ignore; the checks are {', '.join(sorted(known))}")
    return optimizers  # type: ignore[return-value]
