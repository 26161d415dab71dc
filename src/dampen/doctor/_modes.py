"""Checks of modules' modes and of modules that modes don't reach."""

from collections.abc import Iterator

from torch import nn

from dampen.doctor._evidence import Case
from dampen.doctor._report import Symptom


def left_in_training(case: Case) -> Iterator[Symptom]:
    """Look for layers in training mode inside a model in evaluation mode, and for trained models in training mode."""
    two_faced = [(name, m) for name, m, _ in case.modules if _differs(case, m)]
    if not case.model.training:
        names = tuple(name for name, m in two_faced if m.training)
        if names:
            yield Symptom(
                names,
                "serious",
                "the model is in evaluation mode, but these layers are in training mode: they go on dropping units, or "
                "normalise by the batch at hand and change their running statistics.",
                "call model.eval() last; if it was called, some train() or eval() of the model does not pass it on",
            )
    elif not case.optimizers and (seen := max((_batches(m) for _, m in two_faced), default=0)):
        yield Symptom(
            ("the model",),
            "note",
            f"the model has seen {seen} batches and is in training mode, without an optimizer that would go on: for "
            "predictions that drops units, or normalises each batch by itself.",
            "call model.eval() before it predicts",
        )


def dropout_off(case: Case) -> Iterator[Symptom]:
    """Look for dropout in evaluation mode inside a part that trains."""
    if not case.model.training:
        return
    parents = dict(case.model.named_modules())
    names = tuple(
        rate.path
        for rate in case.rates
        if rate.p > 0
        and rate.layer
        and not rate.module.training
        and (parent := parents.get(rate.path.rpartition(".")[0])) is not None
        and (parent.training or any(p.requires_grad for p in parent.parameters()))
    )
    if names:
        yield Symptom(
            names,
            "warning",
            "the model is in training mode, but these dropout layers are in evaluation mode, in a part that is "
            "trained: they drop nothing.",
            "call model.train() before training, after every evaluation; freeze the part if it is not to train",
        )


def hidden(case: Case) -> Iterator[Symptom]:
    """Look for modules in plain lists and dicts; a frozen one in evaluation mode, a teacher for one, is meant so."""
    names = tuple(
        name
        for name, m, registered in case.modules
        if not registered and (_trains(m) or (m.training and _differs(case, m)))
    )
    if names:
        yield Symptom(
            names,
            "serious",
            "modules sit in a plain list, tuple or dict, where they are not registered: parameters() leaves their "
            "weights out, so they neither train nor decay, and train(), eval(), to() and state_dict() skip them.",
            "use nn.ModuleList or nn.ModuleDict",
        )


def _differs(case: Case, module: nn.Module) -> bool:
    """Whether a module does something else in training than in evaluation."""
    normalises = isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats
    return normalises or any(rate.module is module and rate.p > 0 for rate in case.rates)


def _trains(module: nn.Module) -> bool:
    return any(p is not None and p.requires_grad for p in vars(module)["_parameters"].values())


def _batches(module: nn.Module) -> int:
    count = getattr(module, "num_batches_tracked", None)
    return int(count) if count is not None else 0
