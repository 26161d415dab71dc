"""Checks of dropout rates, and of dropout that can't or does not act."""

from collections.abc import Iterator

from torch import nn

from dampen.doctor._evidence import Case
from dampen.doctor._report import Symptom

_KEEP = 0.8  # from here on a rate is more often a probability of keeping: 0.8 for inputs in the paper


def odd_rates(case: Case) -> Iterator[Symptom]:
    """Look for rates outside 0 to 1, and for those that look like a probability of keeping."""
    held = [(rate.path or "the model", rate.p) for rate in case.rates]
    called = [(drop.module or "the model", drop.p) for drop in case.passes.training.drops] if case.passes else []
    known = {(path.rpartition(".")[0], p) for path, p in held} | set(held)
    for where, p in dict.fromkeys([*held, *(each for each in called if each not in known)]):
        if not 0 <= p <= 1:
            yield Symptom(
                (where,),
                "serious",
                f"the dropout rate is {p:g}: no probability, and torch refuses it or drops all or nothing.",
                "give a probability of dropping from 0 to 1; 20 % is 0.2",
            )
        elif p >= _KEEP:
            yield Symptom(
                (where,),
                "serious" if p == 1 else "warning",
                f"the dropout rate is {p:g}: torch's p is the probability of dropping, so {_percent(p)} of the units "
                f"are set to 0{'' if p < 1 else ' and nothing passes'}. The paper's p, and TensorFlow's old keep_prob, "
                "are the probability of keeping.",
                f"if {_percent(p)} are to be kept, write {1 - p:.2g}",
            )


def one_layer_rnn(case: Case) -> Iterator[Symptom]:
    """Look for dropout of a recurrent network with a single layer."""
    names = tuple(
        rate.path or "the model"
        for rate in case.rates
        if isinstance(rate.module, nn.RNNBase) and rate.module.num_layers == 1 and rate.p > 0
    )
    if names:
        yield Symptom(
            names,
            "warning",
            "the recurrent network's dropout acts between its layers only, and it has one: nothing is dropped.",
            "put an nn.Dropout after it, or give it num_layers=2 or more",
        )


def never_called(case: Case) -> Iterator[Symptom]:
    """Look for dropout layers that the forward pass leaves out."""
    trace = case.ran.training
    by_caller = {(drop.module, drop.p) for drop in trace.drops}
    containers = {name for name, m, _ in case.modules if isinstance(m, nn.ModuleList | nn.ModuleDict)}
    names = []
    for rate in case.rates:
        parent = rate.path.rpartition(".")[0]
        while parent in containers and parent:
            parent = parent.rpartition(".")[0]
        ran = any(path == rate.path or path.startswith(f"{rate.path}.") for path in trace.working)
        parent_ran = any(not parent or path == parent or path.startswith(f"{parent}.") for path in trace.working)
        # A layer may only hold the rate that its owner hands to attention or to F.dropout.
        if rate.layer and rate.path and rate.p > 0 and not ran and parent_ran and (parent, rate.p) not in by_caller:
            names.append(rate.path)
    if names:
        yield Symptom(
            tuple(names),
            "warning",
            "the network has these dropout layers, but its forward pass in training mode does not call them: they drop "
            "nothing.",
            "call them in forward, or remove them",
        )


def channels(case: Case) -> Iterator[Symptom]:
    """Look for channel dropout on tensors whose dimensions it takes for others."""
    for where, function, shape in dict.fromkeys((d.module, d.function, d.shape) for d in case.ran.training.drops):
        wanted = _DIMENSIONS.get(function)
        if wanted is None or len(shape) == wanted:
            continue
        whole_rows = len(shape) == wanted - 1 and function != "dropout2d" and shape[0] == case.ran.rows
        if function == "dropout2d" and len(shape) == 3:
            message = (
                "takes it for (N, C, L) and drops whole rows of its second dimension; torch will read it as one image "
                "(C, H, W) in a later version, and positions, not features, are dropped where the order is (N, L, C)"
            )
        elif whole_rows:
            message = "takes it for one row without a batch dimension: it sets whole rows of the batch to 0"
        elif len(shape) == wanted - 1:
            continue  # one row without a batch dimension, as it is documented
        else:
            message = "is not made for it; a tensor without channels is dropped unit by unit, if at all"
        kind = function.removeprefix("dropout")
        right = "nn.Dropout" if len(shape) == 2 else f"nn.Dropout{len(shape) - 2}d" if len(shape) < 6 else "nn.Dropout"
        yield Symptom(
            (where or "the model",),
            "serious" if whole_rows else "warning",
            f"Dropout{kind} gets a tensor with {len(shape)} dimensions, {list(shape)}, and {message}.",
            f"use {right}" + (", with the channels second" if right != "nn.Dropout" else ""),
        )


def alpha(case: Case) -> Iterator[Symptom]:
    """Look for alpha dropout in a network without SELU."""
    names = tuple(
        dict.fromkeys(drop.module or "the model" for drop in case.ran.training.drops if "alpha" in drop.function)
    )
    if names and "selu" not in case.ran.training.functions:
        yield Symptom(
            names,
            "warning",
            "alpha dropout sets units to SELU's lower limit, about -1.76, but the network has no SELU: after another "
            "activation that is a value which the unit never takes.",
            "use nn.Dropout, or SELU throughout",
        )


def _percent(p: float) -> str:
    return f"{100 * p:.3g} %"


_DIMENSIONS = {"dropout1d": 3, "dropout2d": 4, "dropout3d": 5}
