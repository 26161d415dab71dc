"""Checks of where in the network units are dropped."""

from collections.abc import Iterator

from dampen.doctor._evidence import Case
from dampen.doctor._report import Symptom

_MATTERS_LESS = 1  # layers with weights between dropout and BatchNorm


def before_batchnorm(case: Case) -> Iterator[Symptom]:
    """Look for BatchNorm whose input was dropped, directly or one layer before."""
    pairs = dict.fromkeys(
        (flow.drop.module or "the model", norm or "the model", flow.layers, flow.drop.p)
        for norm, flow in case.ran.training.normalised
        if flow.drop is not None and flow.layers <= _MATTERS_LESS
    )
    for dropout, norm, layers, p in pairs:
        yield Symptom(
            (dropout, norm),
            "note" if layers else "warning",
            f"{norm} normalises what {dropout} has dropped"
            + (", one layer later" if layers else "")
            + f". Dropout at {p:g} adds variance in training, {1 / (1 - p) if p < 1 else float('inf'):.3g} times the "
            "second moment of each unit, and none in evaluation, while BatchNorm keeps the training variance: its "
            "statistics are wrong in evaluation" + (" (less so in wide networks)." if layers else "."),
            "put dropout after the last BatchNorm, or use one of the two",
        )


def on_logits(case: Case) -> Iterator[Symptom]:
    """Look for outputs that are dropped after the last layer."""
    names = tuple(
        dict.fromkeys(
            flow.drop.module or "the model"
            for flow in case.ran.training.outputs
            if flow.drop is not None and flow.layers == 0 and flow.linear and flow.drop.source.linear
        )
    )
    if names:
        yield Symptom(
            names,
            "serious",
            "the model's output is dropped after its last layer: in training the loss sees logits, or predictions, "
            "that were set to 0, and no layer follows that could make up for it.",
            "put dropout before the last layer",
        )


def after_softmax(case: Case) -> Iterator[Symptom]:
    """Look for dropped probabilities; attention weights, which meet their values next, are meant to be dropped."""
    names = tuple(
        dict.fromkeys(
            drop.module or "the model" for drop in case.ran.training.drops if drop.source.softmax and not drop.combined
        )
    )
    if names:
        yield Symptom(
            names,
            "serious",
            "probabilities are dropped after softmax: they no longer sum to 1, and the logarithm of a dropped one is "
            "minus infinity.",
            "put dropout before the layer that makes the logits",
        )


def twice(case: Case) -> Iterator[Symptom]:
    """Look for dropout of what was dropped already, with no layer in between."""
    pairs = dict.fromkeys(
        (first.module or "the model", second.module or "the model", first.p, second.p)
        for second in case.ran.training.drops
        if (first := second.source.drop) is not None and second.source.layers == 0
    )
    for first, second, p, q in pairs:
        yield Symptom(
            (first, second) if first != second else (first,),
            "warning",
            f"units are dropped twice with no layer in between, at {p:g} and at {q:g}: together that is a rate of "
            f"{1 - (1 - p) * (1 - q):.3g}.",
            "drop once, at the rate that is meant",
        )
